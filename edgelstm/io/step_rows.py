"""Rows of models that take several frames a step: one for each frame, or one a step.

Where an output has a row for every frame (or every few), a line of the result is a frame; where all
outputs are said once a step, a line is a step, and tells its first and last frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.late_rows import Lines
from edgelstm.sessions.chunks import chunk_frames, join_steps, single_frame
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]

RANGE = ("first_frame", "last_frame")
"""Columns of a line that is a step: its frames, counted from 1 as they were fed."""


class Rows(Protocol):
    """What has come of a stream and is not written yet; `LateRows` is another one."""

    def begin(self) -> None:
        """A new stream."""

    def add(self, outputs: Mapping[str, Any], kept: Mapping[str, Sequence[Any]], fed: int) -> None:
        """New rows of each output, and what passes through of what was fed."""

    def ready(self, *, is_over: bool = False) -> Lines | None:
        """Lines that can be written; where the stream is over, all of them."""


def step_rows(signature: Signature, *, is_cut: bool, fed: int = 0, phase: int = 0) -> Rows | None:
    """The rows of a model whose steps take several frames; None where lines are frames anyway.

    Args:
        signature: of the model.
        is_cut: single frames were put together for a model that takes several a call.
        fed: frames before the first.
        phase: how many of them belong to a step that is not over.
    """
    if signature.chunk > 1 and all(spec.time_axis is None for spec in signature.outputs):
        return ChunkEnds(signature, fed, phase)
    return FramesOfSteps(signature) if is_cut else None


def row_signature(signature: Signature, *, is_cut: bool) -> Signature:
    """The signature with the outputs as a line has them."""
    if not is_cut or not _has_frames(signature):
        return signature
    return replace(signature, outputs=tuple(single_frame(spec) for spec in signature.outputs))


def row_columns(signature: Signature, *, is_cut: bool) -> tuple[str, ...]:
    """The names of the columns that tell which frames a line stands for."""
    rows = step_rows(signature, is_cut=is_cut)
    return RANGE if rows is not None and not (is_cut and _has_frames(signature)) else ()


class ChunkEnds:
    """Of any-time outputs what they are behind each chunk, and behind the last frame.

    Args:
        signature: of the model.
        fed: frames before the first.
        phase: how many of them belong to a chunk that is not over.
    """

    def __init__(self, signature: Signature, fed: int = 0, phase: int = 0) -> None:
        self._specs, self._chunk = signature.outputs, signature.chunk
        self._fed = fed
        self._start(phase)

    def begin(self) -> None:
        """A new stream; its first chunk begins with the next frame."""
        self._start(0)

    def _start(self, phase: int) -> None:
        self._phase, self._first = phase, self._fed - phase + 1
        self._open: dict[str, Array] = {}
        self._open_kept: dict[str, Any] = {}
        self._lines: list[Lines] = []

    @property
    def waiting(self) -> int:
        """Frames of the chunk that is not over."""
        return self._phase

    def add(self, outputs: Mapping[str, Any], kept: Mapping[str, Sequence[Any]], fed: int) -> None:
        """New rows; those of the ends of chunks are lines."""
        ends = np.arange(self._chunk - 1 - self._phase, fed, self._chunk)
        # Outputs begin late, and then come with every frame.
        silent = {spec.name: fed - len(outputs[spec.name]) for spec in self._specs}
        said = ends[ends >= min(silent.values())]
        if len(said):
            rows = {
                spec.name: _placed(spec, outputs[spec.name], said - silent[spec.name])
                for spec in self._specs
            }
            passed: dict[str, Sequence[Any]] = {
                name: [values[i] for i in said] for name, values in kept.items()
            }
            last = self._fed + said + 1
            first = np.maximum(last - self._chunk + 1, self._first)
            self._lines.append((rows, passed | _range(first.tolist(), last.tolist())))
        self._phase = (self._phase + fed) % self._chunk
        self._fed += fed
        if len(ends):
            self._first = self._fed - self._phase + 1
        self._keep_open(outputs, kept, fed)

    def _keep_open(
        self, outputs: Mapping[str, Any], kept: Mapping[str, Sequence[Any]], fed: int
    ) -> None:
        """What the outputs are behind the last frame, where that ends no chunk."""
        if fed:
            self._open_kept = {name: values[-1] for name, values in kept.items()}
            if self._phase == 0:
                self._open = {}
                return
        for name, rows in outputs.items():
            if len(rows):
                self._open[name] = np.array(rows[-1:])

    def ready(self, *, is_over: bool = False) -> Lines | None:
        """Lines of the chunks that are over; at the end also of what was left."""
        if is_over and self._open:
            self._lines.append(self._last_line())
            self._open = {}
        if not self._lines:
            return None
        lines, self._lines = self._lines, []
        return _joined(lines)

    def _last_line(self) -> Lines:
        """What is left of a chunk; or of a model that looks ahead, what comes behind the end."""
        outputs = {
            spec.name: self._open[spec.name]
            if spec.name in self._open
            else _placed(spec, np.empty(0), np.full(1, -1))
            for spec in self._specs
        }
        kept = {name: [value] for name, value in self._open_kept.items()}
        return outputs, kept | _range([min(self._first, self._fed)], [self._fed])


class FramesOfSteps:
    """The frames of steps, where the model was called with several at once.

    What passes through comes with a step as a sequence of as many values as it has frames.

    Args:
        signature: of the model.
    """

    def __init__(self, signature: Signature) -> None:
        self._specs, self._frames = signature.outputs, chunk_frames(signature)
        self._has_frames = _has_frames(signature)
        self._steps = 0
        self.begin()

    def begin(self) -> None:
        """A new stream."""
        self._lines: list[Lines] = []

    def add(self, outputs: Mapping[str, Any], kept: Mapping[str, Sequence[Any]], fed: int) -> None:
        """New steps."""
        if fed == 0:
            return
        frames = self._frames
        if not self._has_frames:
            last = [(self._steps + step + 1) * frames for step in range(fed)]
            passed: dict[str, Sequence[Any]] = {
                name: [step[-1] for step in steps] for name, steps in kept.items()
            }
            passed |= _range([end - frames + 1 for end in last], last)
            self._lines.append((dict(outputs), passed))
        else:
            places = {spec.name: self._places(spec, fed) for spec in self._specs}
            said = np.unique(np.concatenate(list(places.values())))
            rows = {
                spec.name: self._spread(spec, outputs[spec.name], places[spec.name], said)
                for spec in self._specs
            }
            every = {name: [v for step in steps for v in step] for name, steps in kept.items()}
            passed = {name: [values[i] for i in said] for name, values in every.items()}
            self._lines.append((rows, passed))
        self._steps += fed

    def _places(self, spec: TensorSpec, fed: int) -> NDArray[np.intp]:
        """The frames that an output has rows for; what is said once a step, with its last frame."""
        if spec.chunk_axis is None:
            return np.arange(1, fed + 1) * self._frames - 1
        return np.arange(0, fed * self._frames, self._frames // spec.shape[spec.chunk_axis])

    def _spread(
        self, spec: TensorSpec, rows: Array, places: NDArray[np.intp], said: NDArray[np.intp]
    ) -> Array:
        single = single_frame(spec)
        rows = join_steps(rows, (spec,))
        if len(places) == len(said):
            return rows
        found = np.searchsorted(places, said)
        is_there = places[np.minimum(found, len(places) - 1)] == said
        return _placed(single, rows, np.where(is_there, found, -1))

    def ready(self, *, is_over: bool = False) -> Lines | None:
        """All lines: none waits for another step."""
        del is_over
        if not self._lines:
            return None
        lines, self._lines = self._lines, []
        return _joined(lines)


def _has_frames(signature: Signature) -> bool:
    """Whether an output of a step has rows that stand for frames, or for every few of them."""
    frames = chunk_frames(signature)
    lengths = [
        spec.shape[axis] for spec in signature.outputs if (axis := spec.chunk_axis) is not None
    ]
    return bool(lengths) and all(frames % length == 0 for length in lengths)


def _placed(spec: TensorSpec, rows: Array, places: NDArray[np.intp]) -> Array:
    """Those of the rows; NaN where a place is below zero."""
    is_there = places >= 0
    if is_there.all():
        return rows[places]
    kind = spec.dtype.numpy if spec.dtype.is_float else np.dtype(np.float64)
    result = np.full((len(places), *spec.shape), np.nan, kind)
    if is_there.any():
        result[is_there] = rows[places[is_there]]
    return result


def _range(first: list[int], last: list[int]) -> dict[str, Sequence[Any]]:
    return dict(zip(RANGE, (first, last), strict=True))


def _joined(lines: Sequence[Lines]) -> Lines:
    outputs, kept = lines[0]
    if len(lines) == 1:
        return outputs, kept
    return (
        {name: np.concatenate([rows[name] for rows, _ in lines]) for name in outputs},
        {name: [value for _, passed in lines for value in passed[name]] for name in kept},
    )
