"""Operators in a stream: those that treat every frame alike, and those that pick the newest."""

from __future__ import annotations

from edgelstm_compiler.ir.ops import (
    Broadcast,
    Gather,
    LayerNorm,
    MatMul,
    Reshape,
    Slice,
    Softmax,
)
from edgelstm_compiler.ir.types import Node, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.refusal import CannotStepError


def step_per_frame(node: Node, builder: StepBuilder) -> None:
    """An operator that computes every frame on its own.

    Of a model exported with a single frame every operator does: it has no others to mix.

    Raises:
        CannotStepError: it mixes frames, or gives earlier frames what only the last one knows.
    """
    axes = {value: builder.time_axis(value) for value in node.outputs}
    timed = any(axis is not None for axis in axes.values())
    types = [value.type if value is not None else None for value in node.inputs]
    ties = node.op.ties(types, [value.type for value in node.outputs])
    reduced = False
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        reduced |= builder.is_reduced(value)
        axis = builder.time_axis(value)
        for place, output in enumerate(node.outputs):
            followed = any(
                (tie.input, tie.input_axis, tie.output, tie.output_axis)
                == (index, axis, place, axes[output])
                for tie in ties
            )
            if axis is not None and not followed and builder.steps > 1:
                raise CannotStepError(_why_mixed(node))
    for place, output in enumerate(node.outputs):
        # Time that begins here: only repeating one value makes frames without mixing any.
        begins = axes[output] is not None and (place, axes[output]) not in {
            (tie.output, tie.output_axis) for tie in ties
        }
        if begins and builder.steps > 1 and not isinstance(node.op, Broadcast):
            raise CannotStepError(_why_mixed(node))
    if timed and reduced and builder.steps > 1:
        raise CannotStepError("it gives every frame what is known only after the last one")
    op = node.op
    for value in node.outputs:
        axis = axes[value]
        if axis is not None:
            op = op.resized(axis, 1)
    builder.emit(node, op, tuple(builder.use(value) for value in node.inputs))
    if reduced:
        for value in node.outputs:
            builder.mark_reduced(value)


def step_selection(node: Node, builder: StepBuilder) -> None:
    """Slice or Gather: along time only the newest frame (or all) can be taken.

    Raises:
        CannotStepError: other frames are taken.
    """
    frames = node.inputs[0]
    assert frames is not None
    axis = builder.time_axis(frames)
    if axis is None or axis != getattr(node.op, "axis", None):
        step_per_frame(node, builder)
    elif isinstance(node.op, Slice):
        _slice_frames(node, node.op, frames, builder)
    elif isinstance(node.op, Gather):
        _gather_frames(node, frames, builder)


def _slice_frames(node: Node, op: Slice, frames: Value, builder: StepBuilder) -> None:
    if op.count == builder.steps and op.step == 1:
        builder.alias(node.outputs[0], frames)
    elif op.count == 1 and op.start == builder.steps - 1:
        builder.alias(node.outputs[0], frames, reduced=True)
    else:
        last = op.start + op.step * (op.count - 1)
        stride = f", every {abs(op.step)}." if abs(op.step) > 1 and op.count > 1 else ""
        places = f"frames {_place(op.start, builder)} to {_place(last, builder)}{stride}"
        if op.count == 1:
            places = f"frame {_place(op.start, builder)}"
        raise CannotStepError(
            f"it takes the {places}: a stream has no fixed beginning, only its newest frame "
            "or all of them can be taken"
        )


def _place(frame: int, builder: StepBuilder) -> str:
    """A frame by its place, counted from the nearer end: the length may be one that was tried."""
    behind = builder.steps - 1 - frame
    if behind == 0:
        return "-1 (the newest)"
    return str(frame) if frame <= behind else str(-1 - behind)


def _gather_frames(node: Node, frames: Value, builder: StepBuilder) -> None:
    indices = builder.constant(node.inputs[1])
    if (
        indices is None
        or indices.size != 1
        or int(indices.reshape(-1)[0]) not in (-1, builder.steps - 1)
    ):
        raise CannotStepError(
            "it takes frames by index: in a stream only the newest frame can be taken"
        )
    (output,) = node.outputs
    source = builder.use(frames)
    builder.emit(node, Reshape(output.type.shape), (source,))
    builder.mark_reduced(output)


def _why_mixed(node: Node) -> str:
    match node.op:
        case MatMul():
            return "it multiplies frames with frames (attention over time), which needs them all"
        case Softmax():
            return "it is a softmax over time, which needs all frames"
        case LayerNorm():
            return "it normalizes over time, which needs all frames"
        case Reshape():
            return (
                "it merges the time axis with another (Flatten): the layers behind it need "
                "all frames at once"
            )
    return f"{node.op.kind} mixes frames along time"
