"""Which weights of frames on frames are zero whatever the frames hold: what a mask closes.

A weight is zero where something multiplies it by zero, or where softmax sees a mask: a number of
minus 10,000 or less in place of a score, or added to one. The share of such a place is zero in
float32 as long as the scores beside it differ by less than 9,896.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.graph import Graph, constant_data, producers
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Cast,
    Reshape,
    Softmax,
    Transpose,
    Unary,
    Where,
)
from edgelstm_compiler.ir.types import Array, Node, Value

LOW = -1e4
"""Masks hold this or less: Hugging Face and ONNX Runtime write -10,000, others -1e9 or -3.4e38."""


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """Places of a value, broadcast against its shape.

    Args:
        zero: it is zero there.
        low: it is so low that softmax gives it no share.
    """

    zero: Array
    low: Array

    def spread(self, shape: tuple[int, ...]) -> Closed:
        """The same for every place."""
        return Closed(np.broadcast_to(self.zero, shape), np.broadcast_to(self.low, shape))


NOWHERE = Closed(np.zeros((), np.bool_), np.zeros((), np.bool_))


class ClosedPlaces:
    """What the constants of a graph close in the values behind them."""

    def __init__(self, graph: Graph) -> None:
        self._data = constant_data(graph)
        self._producers = producers(graph)
        self._found: dict[Value, Closed] = {}

    def of(self, value: Value | None) -> Closed:
        """The places of a value."""
        if value is None:
            return NOWHERE
        pending = [value]
        while pending:
            item = pending[-1]
            node = self._producers.get(item)
            asked = () if node is None or item in self._data else _asked(node)
            waits = [x for x in asked if x is not None and x not in self._found]
            if waits and item not in self._found:
                pending += waits
                continue
            pending.pop()
            if item not in self._found:
                self._found[item] = self._closed(item, node)
        return self._found[value]

    def _closed(self, value: Value, node: Node | None) -> Closed:
        data = self._data.get(value)
        if data is not None:
            if not value.type.dtype.is_float:
                return NOWHERE
            return Closed(data == 0, data <= LOW)
        if node is None:
            return NOWHERE
        found = _behind(node, [self.of(x) for x in _asked(node)], self._data)
        return NOWHERE if found is None else found


def _asked(node: Node) -> tuple[Value | None, ...]:
    """The operands that close places of the result."""
    match node.op:
        case Where():
            return node.inputs[1:]
        case Binary() | Reshape() | Transpose() | Broadcast() | Cast() | Unary() | Softmax():
            return node.inputs
    return ()


def _behind(node: Node, given: list[Closed], data: Mapping[Value, Array]) -> Closed | None:
    """The places of a node's result."""
    match node.op:
        case Binary(Arithmetic.ADD):
            a, b = given
            return Closed(a.zero & b.zero, a.low | b.low)
        case Binary(Arithmetic.SUB):
            a, b = given
            return Closed(a.zero & b.zero, a.low)
        case Binary(Arithmetic.MUL):
            a, b = given
            return Closed(a.zero | b.zero, NOWHERE.low)
        case Binary(Arithmetic.DIV):
            return Closed(given[0].zero, NOWHERE.low)
        case Where():
            a, b = given
            condition = node.inputs[0]
            holds = None if condition is None else data.get(condition)
            if holds is None:
                return Closed(a.zero & b.zero, a.low & b.low)
            return Closed(np.where(holds, a.zero, b.zero), np.where(holds, a.low, b.low))
        case Unary(Activation(fn=Fn.EXP)):
            return Closed(given[0].low, NOWHERE.low)
        case Softmax(axis=axis):
            if type(node.op) is not Softmax:
                return None
            low = given[0].spread(node.outputs[0].type.shape).low
            has_more = ~low.all(axis=axis, keepdims=True)
            return Closed(low & has_more, NOWHERE.low)
        case Cast():
            return given[0]
        case Transpose() | Reshape() | Broadcast():
            return _moved(node, given[0])
    return None


def _moved(node: Node, given: Closed) -> Closed:
    (x,) = node.inputs
    assert x is not None
    whole = given.spread(x.type.shape)

    def moved(places: Array) -> Array:
        match node.op:
            case Transpose(perm=perm):
                return places.transpose(perm)
            case Reshape(shape=shape):
                return places.reshape(shape)
        return np.broadcast_to(places, node.outputs[0].type.shape)

    return Closed(moved(whole.zero), moved(whole.low))
