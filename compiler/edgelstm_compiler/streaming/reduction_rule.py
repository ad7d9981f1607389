"""Reductions over time in a stream: any-time values of a finite state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import State
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Arithmetic,
    Binary,
    Cast,
    Compare,
    Comparison,
    CumSum,
    Reduce,
    Reduction,
)
from edgelstm_compiler.ir.time import Time, newest_of
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.refusal import CannotStepError

_MERGES = {
    Reduction.SUM: Arithmetic.ADD,
    Reduction.PROD: Arithmetic.MUL,
    Reduction.MAX: Arithmetic.MAX,
    Reduction.MIN: Arithmetic.MIN,
}


def step_reduce(node: Node, builder: StepBuilder) -> None:
    """The sum, product or extreme of all elements so far."""
    op = node.op
    (x,) = node.inputs
    assert isinstance(op, Reduce)
    assert x is not None
    axis = builder.time_axis(x)
    if axis is None or axis not in op.axes or builder.steps == 1:
        step_per_frame(node, builder)
        return
    time, source = fed(builder, x)
    frame = builder.compute(op, source)
    start = neutral(op.reduction, frame.type.dtype)
    total = carried(
        builder,
        f"{node.name}.{op.reduction.value}",
        np.full(frame.type.shape, start, frame.type.dtype.numpy),
        time,
        lambda before: builder.compute(Binary(_MERGES[op.reduction]), before, frame),
    )
    builder.stand_for(node.outputs[0], total)
    builder.set_newest(node.outputs[0], newest_of(time))
    if op.reduction is Reduction.MAX:
        builder.maxima[node.outputs[0]] = x
    if op.reduction is Reduction.SUM:
        elements = 1
        for place in op.axes:
            elements *= x.type.shape[place]
        builder.counted[node.outputs[0]] = (time, elements // x.type.shape[axis], elements)


def step_mean(node: Node, builder: StepBuilder) -> None:
    """A sum over time divided by the number of its terms is a mean: divided by those so far."""
    total, divisor = node.inputs
    assert total is not None
    found = builder.counted.get(total)
    data = builder.constant(divisor)
    if found is None or data is None or not np.all(data == found[2]):
        step_per_frame(node, builder)
        return
    time, others, _ = found
    count = builder.compute(Cast(total.type.dtype), builder.clock.count(time))
    if others != 1:
        factor = builder.add_constant(
            f"{node.name}.others", np.full(1, others, total.type.dtype.numpy)
        )
        count = builder.compute(Binary(Arithmetic.MUL), count, factor)
    source = builder.use(total)
    assert source is not None
    builder.stand_for(node.outputs[0], builder.compute(Binary(Arithmetic.DIV), source, count))
    newest = builder.newest(total)
    assert newest is not None
    builder.set_newest(node.outputs[0], newest)


def step_arg_reduce(node: Node, builder: StepBuilder) -> None:
    """The number of the largest or smallest element so far."""
    op = node.op
    (x,) = node.inputs
    assert isinstance(op, ArgReduce)
    assert x is not None
    axis = builder.time_axis(x)
    if axis is None or axis != op.axis or builder.steps == 1:
        step_per_frame(node, builder)
        return
    time, source = fed(builder, x)
    extreme = neutral(Reduction.MAX if op.is_max else Reduction.MIN, source.type.dtype)
    strict = Comparison.GREATER if op.is_max else Comparison.LESS
    loose = Comparison.GREATER_OR_EQUAL if op.is_max else Comparison.LESS_OR_EQUAL
    best = Value(builder.fresh_name(f"{node.name}.best_in"), source.type)
    is_better = builder.compute(Compare(loose if op.takes_last else strict), source, best)
    has = builder.clock.has(time)
    is_taken = builder.clock.both(is_better, has)
    assert is_taken is not None
    init = np.full(source.type.shape, extreme, source.type.dtype.numpy)
    kept = builder.choose(is_taken, source, best)
    add_state(builder, f"{node.name}.best", init, best, kept)
    index = builder.compute(Cast(DType.I64), builder.clock.index(time))
    zeros = np.zeros(source.type.shape, np.int64)
    before = Value(builder.fresh_name(f"{node.name}.place_in"), Constant.of("", zeros).value.type)
    spread = builder.compute(
        Binary(Arithmetic.ADD), builder.add_constant(f"{node.name}.zeros", zeros), index
    )
    place = builder.choose(is_taken, spread, before)
    add_state(builder, f"{node.name}.place", zeros, before, place)
    builder.stand_for(node.outputs[0], place)
    builder.set_newest(node.outputs[0], newest_of(time))


def step_cum_sum(node: Node, builder: StepBuilder) -> None:
    """The sum so far, for every element.

    Raises:
        CannotStepError: it sums from the end.
    """
    op = node.op
    (x,) = node.inputs
    assert isinstance(op, CumSum)
    assert x is not None
    axis = builder.time_axis(x)
    if axis is None or axis != op.axis or builder.steps == 1:
        step_per_frame(node, builder)
        return
    if op.is_reverse:
        raise CannotStepError("it sums from the last frame back, which is never known")
    time, source = fed(builder, x)

    exclusive: list[Value] = []

    def merge(before: Value) -> Value:
        exclusive.append(before)
        return builder.compute(Binary(Arithmetic.ADD), before, source)

    zeros = np.zeros(source.type.shape, source.type.dtype.numpy)
    total = carried(builder, f"{node.name}.sum", zeros, time, merge)
    if op.is_exclusive and (ahead := time.following()) == ahead.expected():
        # The sum is that of the next element, which is sure to come.
        time = ahead
    elif op.is_exclusive:
        total = exclusive[0]
    builder.stand_for(node.outputs[0], total)
    builder.set_time(node.outputs[0], time.remembering())


def fed(builder: StepBuilder, x: Value) -> tuple[Time, Value]:
    """A timed value as something that counts its elements needs it: none before the first step."""
    time = builder.time_of(x)
    assert time is not None
    later = time.fed()
    if later == time:
        source = builder.use(x)
        assert source is not None
        return time, source
    return later, builder.history.lagged(x, later.delay)


def carried(
    builder: StepBuilder, name: str, init: Array, time: Time, merge: Callable[[Value], Value]
) -> Value:
    """A state that takes in every element of the recording once; its new value."""
    before = Value(builder.fresh_name(f"{name}_in"), Constant.of("", init).value.type)
    after = merge(before)
    has = builder.clock.has(time)
    if has is not None:
        after = builder.choose(has, after, before)
    add_state(builder, name, init, before, after)
    return after


def add_state(builder: StepBuilder, name: str, init: Array, read: Value, write: Value) -> None:
    """A state with this value before the first step."""
    data = Constant.of("", init).data
    builder.states.append(State(builder.fresh_state(name), read.type, data, read, write))


def neutral(reduction: Reduction, dtype: DType) -> float:
    """What changes no result."""
    if reduction in (Reduction.SUM, Reduction.PROD):
        return 0 if reduction is Reduction.SUM else 1
    is_max = reduction is Reduction.MAX
    if dtype.is_float:
        return -dtype.largest if is_max else dtype.largest
    whole = np.iinfo(dtype.numpy.name)
    return int(whole.min if is_max else whole.max)
