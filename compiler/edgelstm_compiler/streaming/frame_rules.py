"""Operators in a stream that treat every frame alike; operands of different delay are aligned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgelstm_compiler.ir.ops import Broadcast, LayerNorm, MatMul, Reshape, Softmax
from edgelstm_compiler.ir.time import Newest, Time, aligned
from edgelstm_compiler.ir.types import Node, Tie, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.refusal import CannotStepError
from edgelstm_compiler.streaming.tables import table_of


def step_per_frame(node: Node, builder: StepBuilder) -> None:
    """An operator that computes every frame on its own.

    Of a model exported with a single frame every operator does: it has no others to mix.

    Raises:
        CannotStepError: it mixes frames, or gives earlier frames what only the last one knows.
    """
    axes = {value: builder.time_axis(value) for value in node.outputs}
    timed = any(axis is not None for axis in axes.values())
    expect_unmixed(node, builder, axes)
    newest = [found for v in node.inputs if v is not None and (found := builder.newest(v))]
    if timed and newest and builder.steps > 1:
        raise CannotStepError("it gives every frame what is known only after the last one")
    times = [
        builder.time_of(value)
        for value in node.inputs
        if value is not None and builder.constant(value) is None and not builder.is_repeated(value)
    ]
    moving = [time for time in times if time is not None]
    target = _target(node, moving, builder)
    view = max(newest, key=lambda item: item.delay, default=None)
    inputs = tuple(_operand(value, target, view, builder) for value in node.inputs)
    op = node.op
    for value in node.outputs:
        axis = axes[value]
        if axis is not None:
            op = op.resized(axis, 1)
    builder.emit(node, op, inputs)
    for value in node.outputs:
        if axes[value] is not None and target is not None:
            builder.set_time(value, target)
        if view is not None:
            first = max(item.later(view.delay).first for item in newest)
            reaches = [item.reach for item in newest]
            known = [reach for reach in reaches if reach is not None]
            reach = max(known) if len(known) == len(reaches) else None
            builder.set_newest(value, Newest(view.delay, first, reach))


class SeesTime(Protocol):
    """Whoever knows where time stands in the sequence graph."""

    @property
    def steps(self) -> int:
        """Frames of the sequence graph."""

    def time_axis(self, value: Value) -> int | None:
        """Where time stands in a value.

        Raises:
            CannotStepError: it has two time axes.
        """


def expect_unmixed(node: Node, builder: SeesTime, axes: Mapping[Value, int | None]) -> None:
    """Refuse an operator that does not compute every frame on its own.

    Args:
        node: of the sequence graph.
        builder: knows its inputs.
        axes: where time stands in its outputs.

    Raises:
        CannotStepError: says why.
    """
    if builder.steps == 1:
        return
    types = [value.type if value is not None else None for value in node.inputs]
    ties = node.op.ties(types, [value.type for value in node.outputs])
    for index, value in enumerate(node.inputs):
        axis = None if value is None else builder.time_axis(value)
        if axis is not None and not all(
            Tie(index, axis, place, found) in ties
            for place, found in enumerate(axes.values())
            if found is not None
        ):
            raise CannotStepError(_why_mixed(node))
        if axis is not None and any(found is None for found in axes.values()):
            raise CannotStepError(_why_mixed(node))
    for place, axis in enumerate(axes.values()):
        # Time that begins here: only repeating one value makes frames without mixing any.
        begins = axis is not None and (place, axis) not in {
            (tie.output, tie.output_axis) for tie in ties
        }
        if begins and not isinstance(node.op, Broadcast):
            raise CannotStepError(_why_mixed(node))


def _target(node: Node, moving: list[Time], builder: StepBuilder) -> Time | None:
    """When all operands are there."""
    tables = [t for v in node.inputs if v is not None and (t := table_of(v, builder))]
    if tables and not moving and builder.steps > 1:
        moving = [Time()]
    if not moving:
        return None
    target = aligned(moving)
    if target is None:
        rates = " and ".join(str(stride) for stride in sorted({time.stride for time in moving}))
        raise CannotStepError(f"its operands have one frame in {rates}: frames of different rates")
    for table in tables:
        target = table.needs(target, builder.steps)
    return target


def _operand(
    value: Value | None, target: Time | None, view: Newest | None, builder: StepBuilder
) -> Value | None:
    if value is None or builder.steps == 1:
        return builder.use(value)
    newest = builder.newest(value)
    if newest is not None and view is not None:
        return builder.history.later(value, newest, view.delay)
    if target is None:
        return builder.use(value)
    table = table_of(value, builder)
    if table is not None:
        return table.row(builder, target)
    time = None if builder.is_repeated(value) else builder.time_of(value)
    if builder.constant(value) is not None or time is None:
        return builder.use(value)
    return builder.history.lagged(value, target.delay)


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
