"""Samples that were fed and whose predictions are still to come: outputs may be late, or slower."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Block
from edgelstm.io.blocks import join_blocks
from edgelstm.io.checkpoint import damaged_checkpoint
from edgelstm.io.json_arrays import array_from_json, array_to_json


@dataclass(frozen=True, slots=True)
class Judged:
    """Samples, and what is thought of them.

    Shapes:
        was_bad, quality: (n,)

    Args:
        block: the samples.
        was_bad: which of them the model did not take.
        quality: see `Quality`.
    """

    block: Block
    was_bad: NDArray[np.bool_]
    quality: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.block)

    def of(self, rows: NDArray[np.intp]) -> Judged:
        """Those of these rows."""
        if len(rows) == len(self):
            return self
        return Judged(self.block.at(rows), self.was_bad[rows], self.quality[rows])


_EMPTY = np.zeros(0)
_NOTHING = Judged(
    Block({}, _EMPTY, _EMPTY, _EMPTY.astype(np.int64), _EMPTY.astype(np.uint8)),
    _EMPTY.astype(np.bool_),
    _EMPTY.astype(np.float32),
)


class WaitingSamples:
    """The samples behind the last one that a prediction stands for, numbered as they come."""

    def __init__(self) -> None:
        self._first = 0
        self._parts: list[Judged] = []

    @property
    def end(self) -> int:
        """The number that the next sample gets."""
        return self._first + sum(map(len, self._parts))

    def add(self, samples: Judged) -> None:
        """More samples."""
        self._parts.append(samples)

    def take(self, numbers: Sequence[int]) -> Judged:
        """The samples of these numbers, which ascend; those up to the last wait no longer."""
        if not numbers:
            return _NOTHING
        whole = _joined(self._parts)
        rows = np.array(numbers, np.intp) - self._first
        self._first = numbers[-1] + 1
        left = np.arange(rows[-1] + 1, len(whole))
        self._parts = [whole.of(left)] if len(left) else []
        return whole.of(rows)

    def to_json(self) -> dict[str, Any]:
        """What waits; times of arrival are kept by the clock that outlasts this program."""
        if not self._parts:
            return {"first": self._first}
        whole = _joined(self._parts)
        block = whole.block
        arrays: dict[str, NDArray[Any]] = {
            "stamps": block.stamps,
            "arrival": block.arrival + (time.time() - time.monotonic()),
            "sequence": block.sequence,
            "flags": block.flags,
            "was_bad": whole.was_bad,
            "quality": whole.quality,
        }
        frames = {name: array_to_json(values) for name, values in block.frames.items()}
        return {
            "first": self._first,
            "arrays": {name: array_to_json(values) for name, values in arrays.items()},
            "frames": frames,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on where `to_json` was called.

        Raises:
            RecordingError: it is something else.
        """
        try:
            self._first, self._parts = int(data["first"]), []
            if "arrays" not in data:
                return
            arrays = {name: array_from_json(item) for name, item in data["arrays"].items()}
            frames = {name: array_from_json(item) for name, item in data["frames"].items()}
            arrival = arrays["arrival"] - (time.time() - time.monotonic())
            block = Block(frames, arrays["stamps"], arrival, arrays["sequence"], arrays["flags"])
            self._parts = [Judged(block, arrays["was_bad"], arrays["quality"])]
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise damaged_checkpoint(exc) from exc


def without_frames(block: Block) -> Block:
    """The samples without what was measured."""
    return replace(block, frames={})


def _joined(parts: Sequence[Judged]) -> Judged:
    if not parts:
        return _NOTHING
    if len(parts) == 1:
        return parts[0]
    block = join_blocks([part.block for part in parts])
    bad = np.concatenate([part.was_bad for part in parts])
    return Judged(block, bad, np.concatenate([part.quality for part in parts]))
