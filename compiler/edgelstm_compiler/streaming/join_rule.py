"""Concat along time in a stream: constants in front of the frames and behind them."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.ops import Concat
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.refusal import CannotStepError
from edgelstm_compiler.streaming.tables import pick_row


def step_join(node: Node, builder: StepBuilder) -> None:
    """Frames between constants; along other axes frame by frame.

    Raises:
        CannotStepError: one sequence stands behind another.
    """
    op = node.op
    assert isinstance(op, Concat)
    (output,) = node.outputs
    axis = builder.time_axis(output)
    if axis != op.axis or builder.steps == 1:
        step_per_frame(node, builder)
        return
    moving = [
        place
        for place, value in enumerate(node.inputs)
        if value is not None and builder.constant(value) is None
    ]
    if len(moving) != 1:
        raise CannotStepError("it puts one sequence behind another, which begins after its end")
    (place,) = moving
    frames = node.inputs[place]
    assert frames is not None
    if builder.is_reduced(frames) or builder.time_axis(frames) != axis:
        raise CannotStepError("it puts what is known after the last frame among the frames")
    time = builder.time_of(frames)
    assert time is not None
    before = _rows(node.inputs[:place], builder, axis)
    behind = _rows(node.inputs[place + 1 :], builder, axis)
    joined = op.time(time, place, axis, [v.type if v is not None else None for v in node.inputs])
    result = builder.use(frames)
    assert result is not None
    if before is not None and time.delay > 0:
        is_before = builder.clock.below(builder.clock.frame(), builder.clock.number(time.delay))
        index = builder.clock.index(joined)
        result = builder.choose(is_before, _row(builder, node, before, index, axis), result)
    if behind is not None:
        lives = builder.clock.lives(time)
        if lives is not None:
            clock = builder.clock
            index = clock.most(clock.minus(clock.index(time), clock.total(time)), clock.number(0))
            result = builder.choose(lives, result, _row(builder, node, behind, index, axis))
    builder.stand_for(output, result)
    builder.set_time(output, joined)


def _rows(values: tuple[Value | None, ...], builder: StepBuilder, axis: int) -> Array | None:
    data = [builder.constant(value) for value in values]
    found = [item for item in data if item is not None]
    return np.concatenate(found, axis) if found else None


def _row(builder: StepBuilder, node: Node, rows: Array, index: Value, axis: int) -> Value:
    """One row of a table; the last one where the index is beyond it."""
    return pick_row(builder, f"{node.name}.rows", rows, index, axis)
