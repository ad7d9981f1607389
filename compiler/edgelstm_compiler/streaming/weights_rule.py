"""Softmax over time whose result is summed over time (attention pooling), and LogSumExp: exact.

The weights of single frames are known only after the last one; what they are summed to is not: the
largest score so far, the sum of exponentials, and the weighted sum, all relative to that score, are
a finite state. Until it is summed, a value of weights stands for the score that it comes from.
Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    MatMul,
    Reduce,
    Reduction,
    Reshape,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.time import Time, aligned, newest_of
from edgelstm_compiler.ir.types import Node, Op, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.reduction_rule import add_state, neutral
from edgelstm_compiler.streaming.refusal import CannotStepError

_EXP = Unary(Activation(Fn.EXP))


@dataclass(frozen=True, slots=True)
class Weights:
    """A value that stands for weights over time, or for exponentials of them.

    Args:
        scores: the sequence value under the softmax.
        origin: its node.
        moves: layout operators of one frame that the scores go through.
        factor: a sequence value that is multiplied by them; None: nothing yet.
        is_normal: they add up to one; else they are exponentials relative to the largest score.
        is_shifted: no exponentials yet: scores less the largest.
    """

    scores: Value
    origin: str
    moves: tuple[Op, ...] = ()
    factor: Value | None = None
    is_normal: bool = True
    is_shifted: bool = False

    def refusal(self) -> CannotStepError:
        """Why the weights of single frames cannot be had."""
        reason = "it is a softmax over time, which needs all frames"
        if not self.is_normal:
            reason = "it scales every frame by the largest of all frames"
        return CannotStepError(reason, self.origin)

    def row(self, builder: StepBuilder, time: Time) -> Value:
        """The score of this step's element."""
        value = builder.history.lagged(self.scores, time.delay)
        for op in self.moves:
            value = builder.compute(op, value)
        return value


def step_softmax(node: Node, builder: StepBuilder) -> None:
    """Over features frame by frame; over time its result stands for the scores."""
    (x,) = node.inputs
    assert isinstance(node.op, Softmax)
    assert x is not None
    axis = builder.time_axis(x)
    if axis is None or axis != node.op.axis or builder.steps == 1 or type(node.op) is not Softmax:
        step_per_frame(node, builder)
        return
    builder.time_of(x)
    builder.weights[node.outputs[0]] = Weights(x, node.origin or node.name)


def is_shifted(node: Node, builder: StepBuilder) -> bool:
    """Whether it takes off every frame what is the largest of all frames."""
    if not isinstance(node.op, Binary) or node.op.arithmetic is not Arithmetic.SUB:
        return False
    x, largest = node.inputs
    if x is None or largest is None or builder.maxima.get(largest) is not x:
        return False
    builder.weights[node.outputs[0]] = Weights(
        x, node.origin or node.name, is_normal=False, is_shifted=True
    )
    return True


def step_weights(node: Node, builder: StepBuilder) -> None:
    """An operator on weights over time.

    Raises:
        CannotStepError: it needs the weights of single frames.
    """
    place = next(i for i, v in enumerate(node.inputs) if v is not None and v in builder.weights)
    value = node.inputs[place]
    assert value is not None
    weights = builder.weights[value]
    output = node.outputs[0]
    match node.op:
        case Unary(Activation(fn=Fn.EXP)) if weights.is_shifted:
            builder.weights[output] = replace(weights, is_shifted=False)
            return
        case Reshape() | Transpose() | Broadcast() if weights.factor is None:
            axis = builder.time_axis(output)
            if axis is not None and _follows(node, builder):
                moved = (*weights.moves, node.op.resized(axis, 1))
                builder.weights[output] = replace(weights, moves=moved)
                return
        case Binary(Arithmetic.MUL) if weights.factor is None and not weights.is_shifted:
            factor = node.inputs[1 - place]
            if factor is not None and factor not in builder.weights:
                builder.weights[output] = replace(weights, factor=factor)
                return
        case Reduce(Reduction.SUM) if not weights.is_shifted:
            if builder.time_axis(value) in node.op.axes:
                _sum(node, node.op, weights, builder)
                return
        case MatMul() if weights.factor is None and not weights.is_shifted:
            if _contracts_time(node, builder):
                _product(node, place, weights, builder)
                return
    raise weights.refusal()


def _follows(node: Node, builder: StepBuilder) -> bool:
    """Whether time runs through the operator."""
    x = node.inputs[0]
    assert x is not None
    axis, target = builder.time_axis(x), builder.time_axis(node.outputs[0])
    ties = node.op.ties([x.type], [node.outputs[0].type])
    return any((tie.input_axis, tie.output_axis) == (axis, target) for tie in ties)


def _contracts_time(node: Node, builder: StepBuilder) -> bool:
    a, b = node.inputs
    if a is None or b is None or min(a.type.rank, b.type.rank) < 2:
        return False
    is_rows = builder.time_axis(a) == a.type.rank - 1
    return is_rows and builder.time_axis(b) == b.type.rank - 2


def _sum(node: Node, op: Reduce, weights: Weights, builder: StepBuilder) -> None:
    """Over time, and what else the operator sums over."""
    (value,) = node.inputs
    assert value is not None
    time = _together(weights, builder)
    row = weights.row(builder, time)
    rest = tuple(axis for axis in op.axes if axis != builder.time_axis(value))
    factor = _factor(weights, time, builder)

    def term(share: Value) -> Value:
        found = share if factor is None else builder.compute(Binary(Arithmetic.MUL), share, factor)
        if not weights.is_normal and rest:
            return builder.compute(Reduce(Reduction.SUM, rest), found)
        return found

    spread = rest if not weights.is_normal else ()
    total = _running(node, row, spread, term, weights, time, builder)
    if weights.is_normal and rest:
        total = builder.compute(Reduce(Reduction.SUM, rest), total)
    builder.stand_for_newest(node.outputs[0], total, newest_of(time))


def _product(node: Node, place: int, weights: Weights, builder: StepBuilder) -> None:
    """The weighted sum as a product of matrices."""
    other = node.inputs[1 - place]
    assert other is not None
    weighted = replace(weights, factor=other)
    time = _together(weighted, builder)
    row, factor = weights.row(builder, time), _factor(weighted, time, builder)
    assert factor is not None

    def term(share: Value) -> Value:
        pair = (share, factor) if place == 0 else (factor, share)
        return builder.compute(MatMul(), *pair)

    total = _running(node, row, (), term, weights, time, builder)
    builder.stand_for_newest(node.outputs[0], total, newest_of(time))


def _together(weights: Weights, builder: StepBuilder) -> Time:
    """When a score and its factor are both there, and no step before the first frame."""
    times = [builder.time_of(weights.scores)]
    factor = weights.factor
    if factor is not None and builder.constant(factor) is None and not builder.is_repeated(factor):
        if builder.is_reduced(factor):
            raise CannotStepError("it weights what is known only after the last frame")
        times.append(builder.time_of(factor))
    found = aligned([time for time in times if time is not None])
    if found is None:
        raise CannotStepError("its scores and what they weight have different rates")
    return found.fed()


def _factor(weights: Weights, time: Time, builder: StepBuilder) -> Value | None:
    factor = weights.factor
    if factor is None:
        return None
    if builder.constant(factor) is not None or builder.is_repeated(factor):
        return builder.use(factor)
    if builder.time_of(factor) is None:
        return builder.use(factor)
    return builder.history.lagged(factor, time.delay)


def _running(
    node: Node,
    row: Value,
    spread: tuple[int, ...],
    term: Callable[[Value], Value],
    weights: Weights,
    time: Time,
    builder: StepBuilder,
) -> Value:
    """The sum of what a share gives, relative to the largest score so far."""
    sub, mul, add = (Binary(kind) for kind in (Arithmetic.SUB, Arithmetic.MUL, Arithmetic.ADD))
    kind = row.type.dtype.numpy
    newest = builder.compute(Reduce(Reduction.MAX, spread), row) if spread else row
    lowest = np.full(newest.type.shape, neutral(Reduction.MAX, row.type.dtype), kind)
    before = builder.carried_value(f"{node.name}.largest", lowest)
    largest = builder.compute(Binary(Arithmetic.MAX), before, newest)
    share = builder.compute(_EXP, builder.compute(sub, row, largest))
    fade = builder.compute(_EXP, builder.compute(sub, before, largest))
    has = builder.clock.has(time)

    def kept(name: str, value: Value) -> Value:
        old = builder.carried_value(f"{node.name}.{name}", np.zeros(value.type.shape, kind))
        new = builder.compute(add, builder.compute(mul, old, fade), value)
        new = new if has is None else builder.choose(has, new, old)
        add_state(builder, f"{node.name}.{name}", np.zeros(value.type.shape, kind), old, new)
        return new

    total = kept("sum", term(share))
    if weights.is_normal:
        total = builder.compute(Binary(Arithmetic.DIV), total, kept("shares", share))
    largest = largest if has is None else builder.choose(has, largest, before)
    add_state(builder, f"{node.name}.largest", lowest, before, largest)
    return total
