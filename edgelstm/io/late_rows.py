"""Rows of outputs that come later than their frames, or slower, beside what passes through.

A row stands for a frame: row r of an output with a stride for frame `r * stride`, row r of an
any-time output for the frame behind which the model would have said it. A line of the result holds
what all outputs say of one frame; where an output says nothing of it, NaN.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]
Lines = tuple[Mapping[str, Any], Mapping[str, Sequence[Any]]]


class LateRows:
    """What has come of one stream and is not written yet.

    Args:
        signature: of the model.
    """

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.outputs
        self.begin()

    def begin(self) -> None:
        """A new stream."""
        self._next = 0
        self._fed = 0
        self._said, self._said_before = 0, 0
        self._kept: dict[str, deque[Any]] = {}
        self._rows: dict[str, deque[Array]] = {spec.name: deque() for spec in self._specs}
        self._frames = {spec.name: _first_frame(spec) for spec in self._specs}

    def to_json(self) -> dict[str, Any]:
        """What waits, to be kept with the state of the session."""
        return {
            "next": self._next,
            "fed": self._fed,
            "frames": self._frames,
            "kept": {name: [_plain(item) for item in items] for name, items in self._kept.items()},
            "rows": {
                spec.name: base64.b64encode(
                    b"".join(row.tobytes() for row in self._rows[spec.name])
                ).decode()
                for spec in self._specs
            },
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on where `to_json` was called.

        Raises:
            RecordingError: it is something else.
        """
        self.begin()
        try:
            self._next, self._fed = int(data["next"]), int(data["fed"])
            self._kept = {str(name): deque(items) for name, items in data["kept"].items()}
            for spec in self._specs:
                flat = np.frombuffer(base64.b64decode(data["rows"][spec.name]), spec.dtype.numpy)
                self._rows[spec.name].extend(flat.reshape(-1, *spec.shape))
                self._frames[spec.name] = int(data["frames"][spec.name])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise RecordingError(f"what the state tells of late outputs is damaged: {exc}") from exc

    def skip_said(self, lines: int) -> None:
        """So many of the lines that wait were written by a run that came to no further state."""
        self._said, self._said_before = lines, self._fed

    def add(self, outputs: Mapping[str, Any], kept: Mapping[str, Sequence[Any]], fed: int) -> None:
        """New rows of each output, and what passes through of the frames that were fed."""
        self._fed += fed
        for name, values in kept.items():
            self._kept.setdefault(name, deque()).extend(values)
        for name, rows in outputs.items():
            self._rows[name].extend(rows)

    def ready(self, *, is_over: bool = False) -> Lines | None:
        """Lines of frames of which all is said, or, where the stream is over, all lines."""
        lines: list[dict[str, Array | None]] = []
        kept: dict[str, list[Any]] = {name: [] for name in self._kept}
        while self._is_said(is_over=is_over):
            line = {spec.name: self._take(spec) for spec in self._specs}
            passed = {name: items.popleft() if items else "" for name, items in self._kept.items()}
            is_said = self._said > 0 and self._next < self._said_before
            self._next += 1
            if any(row is not None for row in line.values()):
                if is_said:
                    self._said -= 1
                    continue
                lines.append(line)
                for name, value in passed.items():
                    kept[name].append(value)
        if not lines:
            return None
        rows = {s.name: _stacked(s, [line[s.name] for line in lines]) for s in self._specs}
        return rows, kept

    def _is_said(self, *, is_over: bool) -> bool:
        if is_over:
            return any(self._rows.values())
        return self._next < self._fed and all(
            self._rows[spec.name] or not self._speaks(spec) for spec in self._specs
        )

    def _speaks(self, spec: TensorSpec) -> bool:
        """Whether the output has, or will have, a row for the next frame."""
        return self._frames[spec.name] == self._next

    def _take(self, spec: TensorSpec) -> Array | None:
        rows = self._rows[spec.name]
        if not rows or not self._speaks(spec):
            return None
        self._frames[spec.name] += spec.stride if spec.time_axis is not None else 1
        return rows.popleft()


def _plain(item: Any) -> Any:
    """A value that JSON has."""
    return item.item() if isinstance(item, np.generic) else item


def _first_frame(spec: TensorSpec) -> int:
    return 0 if spec.time_axis is not None else max(0, spec.warm_up - spec.delay)


def _stacked(spec: TensorSpec, rows: Sequence[Array | None]) -> Array:
    """The rows of an output; NaN where there is none."""
    if all(row is not None for row in rows):
        return np.stack([row for row in rows if row is not None])
    kind = spec.dtype.numpy if spec.dtype.is_float else np.dtype(np.float64)
    nothing = np.full(spec.shape, np.nan, kind)
    return np.stack([nothing if row is None else row.astype(kind) for row in rows])
