"""Convolutions and pooling in a stream: windows over a ring of the newest elements."""

from __future__ import annotations

from dataclasses import replace

from edgelstm_compiler.ir.ops import Windows
from edgelstm_compiler.ir.types import Node
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.refusal import CannotStepError


def step_windows(node: Node, builder: StepBuilder) -> None:
    """The window whose last element is the newest; its own padding stands at both ends.

    Raises:
        CannotStepError: several elements come for one (transposed convolution).
    """
    op = node.op
    (x,) = node.inputs
    assert isinstance(op, Windows)
    assert x is not None
    axis = builder.time_axis(x)
    if axis is None or builder.steps == 1:
        step_per_frame(node, builder)
        return
    if axis < 2:
        raise CannotStepError("it moves over the batch or the channels along time")
    s = axis - 2
    if op.spread[s] > 1:
        raise CannotStepError(
            f"it gives {op.spread[s]} frames for one (transposed convolution along time), and a "
            "step gives one"
        )
    time = builder.time_of(x)
    assert time is not None
    walked = builder.walked.get(x) if op.begin[s] == op.end[s] == 0 else None
    if walked is not None:
        later = walked.windowed(builder, op.reach(s), op.stride[s])
        whole = walked.row(builder, later, op.reach(s), op.stride[s])
    else:
        later = op.time(time, 0, axis, [x.type])
        is_ahead = later.delay < time.delay
        whole, _ = builder.history.ring(x, op.reach(s) - 1, time, op.fill, is_ahead=is_ahead)
    single = replace(
        op,
        stride=_with(op.stride, s, 1),
        begin=_with(op.begin, s, 0),
        end=_with(op.end, s, 0),
    )
    builder.stand_for(node.outputs[0], builder.compute(single, whole, name=node.name))
    builder.set_time(node.outputs[0], later)


def _with(items: tuple[int, ...], place: int, item: int) -> tuple[int, ...]:
    return (*items[:place], item, *items[place + 1 :])
