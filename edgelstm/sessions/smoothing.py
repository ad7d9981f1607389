"""The newest answers of a window model made one: their mean, or their vote.

`mean` is that of each element of the outputs in floating point. `vote` is the share of the newest
answers in which an element was the largest along the last axis; of outputs in integers, such as the
index of a class, it is the most frequent value, the newest of those that are equally frequent.
Before there are as many answers, there are those since the stream began.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import is_floating
from edgelstm.errors import StreamError
from edgelstm.signature import TensorSpec

Array = NDArray[Any]


class Smoothing:
    """The newest answers of each output.

    Args:
        kind: "mean" or "vote".
        count: how many answers.
        outputs: of the model.
    """

    def __init__(self, kind: str, count: int, outputs: Sequence[TensorSpec]) -> None:
        self._is_vote, self._count, self._outputs = kind == "vote", count, tuple(outputs)
        self._rings = [np.zeros((count, *spec.shape), spec.dtype.numpy) for spec in outputs]
        self._known = 0

    def apply(self, answers: Sequence[Array]) -> list[Array]:
        """Answers `(n, *output)` in their order, each with those before it."""
        result = [array.copy() for array in answers]
        for index in range(len(answers[0])):
            place = self._known % self._count
            self._known += 1
            for ring, rows, found in zip(self._rings, answers, result, strict=True):
                is_float = is_floating(ring.dtype)
                row = _vote(rows[index]) if is_float and self._is_vote else rows[index]
                ring[place] = row
                kept = ring[: min(self._known, self._count)]
                if is_float:
                    found[index] = kept.mean(axis=0, dtype=np.float64)
                elif self._is_vote:
                    found[index] = _most_frequent(np.roll(kept, -place - 1, axis=0))
        return result

    def reset(self) -> None:
        """No answer counts any more."""
        self._known = 0

    def state(self) -> bytes:
        """For a snapshot."""
        return b"".join(
            [self._known.to_bytes(8, "little"), *(ring.tobytes() for ring in self._rings)]
        )

    @property
    def state_bytes(self) -> int:
        """Length of `state`."""
        return 8 + sum(ring.nbytes for ring in self._rings)

    def restore(self, data: bytes) -> None:
        """Go on from what `state` gave.

        Raises:
            StreamError: it is not of this model.
        """
        if len(data) != self.state_bytes:
            raise StreamError(f"the snapshot holds {len(data)} bytes of answers")
        self._known, at = int.from_bytes(data[:8], "little"), 8
        for ring in self._rings:
            ring[...] = np.frombuffer(data, ring.dtype, ring.size, at).reshape(ring.shape)
            at += ring.nbytes


def _vote(row: Array) -> Array:
    """One at the largest element along the last axis, zeros elsewhere."""
    if row.ndim == 0:
        return row
    votes = np.zeros_like(row)
    np.put_along_axis(votes, row.argmax(axis=-1, keepdims=True), 1, axis=-1)
    return votes


def _most_frequent(rows: Array) -> Array:
    """Element by element; the newest of those that are equally frequent."""
    counts = (rows[:, None] == rows[None]).sum(axis=1)
    newest_first = counts[::-1]
    chosen = len(rows) - 1 - newest_first.argmax(axis=0)
    return np.asarray(np.take_along_axis(rows, chosen[None], axis=0)[0])
