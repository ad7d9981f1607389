"""How recordings are cut into overlapping chunks of a look-ahead model, and what callers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgelstm.admission import element_ranges
from edgelstm.errors import CapabilityError
from edgelstm.signature import THERE, LookaheadPlan, Signature, TensorSpec
from edgelstm_compiler.ir.graph import Graph, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.lowering.signature import frame_shape, make_signature
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.lookahead import Span


@dataclass(frozen=True, slots=True)
class Cut:
    """Frames on one side, chunks on the other.

    Args:
        span: of a chunk.
        view: a graph of nothing but the inputs and outputs that callers see, of one frame.
        axes: where the frames of a chunk stand in each input and output, as callers see them; none
            where it has no time.
    """

    span: Span
    view: StepGraph
    axes: Mapping[str, int]

    def faced(self, steps: StepGraph) -> StepGraph:
        """The chunk's graph under inputs and outputs of one frame, to be asked about them."""
        return replace(steps, inputs=self.view.inputs, outputs=self.view.outputs)

    def _told(self, signature: Signature) -> Signature:
        """The signature of the chunk, with the axes that count its frames."""

        def marked(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
            return tuple(replace(spec, chunk_axis=self.axes.get(spec.name)) for spec in specs)

        return replace(
            signature, inputs=marked(signature.inputs), outputs=marked(signature.outputs)
        )

    def facing(self, kernel: Signature) -> Signature:
        """What goes in and out frame by frame, of the chunk's signature."""
        kernel = self._told(kernel)
        frames = make_signature(self.view, kernel.rate_hz)
        plan = LookaheadPlan(self.span.chunk, self.span.ahead, kernel)
        return replace(
            frames,
            name=kernel.name,
            mode="lookahead",
            inputs=tuple(
                _of_frame(spec, code)
                for spec, code in zip(frames.inputs, kernel.inputs, strict=True)
            ),
            outputs=tuple(
                replace(spec, delay=plan.delay, warm_up=plan.delay, tail=plan.delay)
                for spec in frames.outputs
            ),
            states=tuple(state for state in kernel.states if state.name != THERE),
            lookahead=plan,
        )

    def recordings(self, recordings: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Recordings of frames as recordings of chunks; frames that fill none are left out.

        Raises:
            CapabilityError: none of them fills one.
        """
        found = [self._chunks(recording) for recording in recordings]
        kept = [chunks for chunks in found if chunks is not None]
        if recordings and not kept:
            raise CapabilityError(
                f"none of the recordings has the {self.span.total} frames of a chunk (--chunk plus "
                "--lookahead): give longer ones"
            )
        return kept

    def _chunks(self, recording: Mapping[str, Array]) -> dict[str, Array] | None:
        timed = [item.value.name for item in self.view.inputs if item.value.name in self.axes]
        frames = min(len(recording[name]) for name in timed)
        if frames < self.span.total:
            return None
        return {
            name: self.chunks_of(name, np.asarray(x)[:frames]) if name in timed else x
            for name, x in recording.items()
        }

    def chunks_of(self, name: str, frames: Array) -> Array:
        """The whole chunks of an input's frames.

        Shapes:
            frames `(n, *frame)`; the result `(chunks, *chunk)`, time where the chunk has it.
        """
        item = next(item for item in self.view.inputs if item.value.name == name)
        shape = frame_shape(item.value.type, item.time_axis, item.batch_axis)
        rows = frames.reshape(len(frames), *shape)
        windows = sliding_window_view(rows, self.span.total, axis=0)[:: self.span.chunk]
        return np.moveaxis(windows, -1, 1 + self.axes[name])

    def rows_of(self, name: str, chunks: Array) -> Array:
        """The frames of an output's chunks, `(chunks * N, *frame)`."""
        item = next(item for item in self.view.outputs if item.name == name)
        shape = frame_shape(item.value.type, item.time_axis, item.batch_axis)
        axis = self.axes[name]
        whole = (*shape[:axis], self.span.chunk, *shape[axis:])
        rows = np.moveaxis(chunks.reshape(len(chunks), *whole), 1 + axis, 1)
        return np.ascontiguousarray(rows).reshape(-1, *shape)


def cut_of(graph: Graph, span: Span) -> Cut:
    """How frames are cut into the chunks of a network.

    Args:
        graph: the sequence network.
        span: of a chunk.
    """
    axes = AxisClasses(graph)
    found: dict[str, int] = {}

    def frame(name: str, value: Value) -> dict[str, Any]:
        times, batch = axes.time_axes(value), axes.batch_axis(value)
        shape = value.type.shape
        if not times:
            return {"value": Value(name, value.type), "time_axis": None, "batch_axis": batch}
        (time,) = times
        single = Value(
            name, value.type.with_shape([1 if a == time else e for a, e in enumerate(shape)])
        )
        is_dropped = batch is not None and shape[batch] == 1 and batch < time
        found[name] = time - is_dropped
        return {"value": single, "time_axis": time, "batch_axis": batch}

    inputs = tuple(StepInput(**frame(value.name, value)) for value in graph.inputs)
    outputs = tuple(
        StepOutput(name=output.name, **frame(output.name, output.value)) for output in graph.outputs
    )
    return Cut(span, StepGraph(graph.name, "stream", inputs, outputs, (), ()), found)


def _of_frame(spec: TensorSpec, code: TensorSpec) -> TensorSpec:
    """An input's frame, with what every frame of a chunk may hold."""
    if not code.ranges:
        return replace(spec, limit=code.limit)
    low, high = element_ranges(code)
    if code.chunk_axis is not None:
        low, high = low.max(axis=code.chunk_axis), high.min(axis=code.chunk_axis)
    kind: Any = float if spec.dtype.is_float else int
    pairs = zip(low.reshape(-1), high.reshape(-1), strict=True)
    return replace(spec, limit=code.limit, ranges=tuple((1, kind(a), kind(b)) for a, b in pairs))
