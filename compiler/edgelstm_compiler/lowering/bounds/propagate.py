"""Bounds of every value of a step graph, from those of its inputs and states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import executed, op_fields
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Cast,
    Concat,
    Dense,
    Dequantize,
    DequantizeWeights,
    Gather,
    Int8Dense,
    Int8Recurrent,
    LayerNorm,
    LogSoftmax,
    MatMul,
    Quantize,
    Recurrent,
    Remainder,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.ops.quantized import Storage
from edgelstm_compiler.ir.ops.quantized_int8 import R_SCALE, W_SCALE, X_INVERSE
from edgelstm_compiler.ir.ops.recurrent import R, W
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.lowering.bounds import interval as of
from edgelstm_compiler.lowering.bounds.cells import (
    Product,
    Products,
    float_products,
    integer_products,
    layer_bounds,
    no_product,
    same,
    widened,
)
from edgelstm_compiler.lowering.bounds.functions import apply_function
from edgelstm_compiler.lowering.bounds.interval import Interval, anything, point, settled

MOVEMENTS = (Broadcast, Concat, Reshape, Slice, Transpose)
"""Operators that move elements and do nothing else."""

_ARITHMETIC: Mapping[Arithmetic, Callable[[Interval, Interval], Interval]] = {
    Arithmetic.ADD: of.add,
    Arithmetic.SUB: of.subtract,
    Arithmetic.MUL: of.multiply,
    Arithmetic.DIV: of.divide,
    Arithmetic.MIN: of.minimum,
    Arithmetic.MAX: of.maximum,
}
_PLAIN_STEPS, _STEPS = 3, 400
_INT8_HALF = 128


class Propagation:
    """Walks one graph again and again; what depends on constants alone is computed once."""

    def __init__(self, graph: StepGraph) -> None:
        self._graph = graph
        self._fixed: dict[Value, Interval] = {c.value: point(c.data) for c in graph.constants}
        self._data: dict[Value, Array] = {c.value: c.data for c in graph.constants}
        self._products: dict[Node, Products] = {}
        self._whole_numbers: set[Value] = set()
        self._settled: dict[Value, Interval] | None = None
        self._nodes: list[Node] = []
        for node in graph.nodes:
            if all(value is None or value in self._data for value in node.inputs):
                self._fold(node)
            else:
                self._nodes.append(node)
        self._before, self._loop, self._behind = self._in_parts()

    def settle(self, inputs: Mapping[Value, Interval]) -> dict[Value, Interval] | None:
        """Bounds that hold in every step of a stream; None where the states have none.

        Args:
            inputs: of the graph's inputs, in every step.
        """
        start = self._walked(self._before, {**self._fixed, **inputs})
        known = self._settled
        if known is not None:
            # What states stay within often does not depend on the inputs at all.
            values = self._walked(self._loop, {**start, **known})
            after = self._after(known, values)
            if all(same(known[value], after[value]) for value in known):
                values = self._walked(self._behind, values)
                floats = (v for v in values if v.type.dtype.is_float)
                if all(values[value].is_safe for value in floats):
                    return values
        states = {state.read: point(state.init) for state in self._graph.states}
        for count in range(_STEPS):
            values = self._walked(self._loop, {**start, **states})
            after = self._after(states, values)
            if all(same(states[value], after[value]) for value in states):
                self._settled = states
                return self._walked(self._behind, values)
            if not all(item.is_safe for item in after.values() if item.dtype.is_float):
                return None
            if count >= _PLAIN_STEPS:
                after = {value: widened(states[value], item) for value, item in after.items()}
            states = after
        return None

    def _after(
        self, states: Mapping[Value, Interval], values: Mapping[Value, Interval]
    ) -> dict[Value, Interval]:
        """What the states are in this step or the next."""
        return {s.read: states[s.read].hull(values[s.write]) for s in self._graph.states}

    def from_states_within(
        self, ceiling: float, inputs: Mapping[Value, Interval]
    ) -> dict[Value, Interval]:
        """Bounds in one step from states of at most that magnitude, or the initial ones."""
        states = {
            s.read: of.within(s.type.dtype, s.type.shape, ceiling).hull(point(s.init))
            if s.type.dtype.is_float
            else anything(s.type.dtype, s.type.shape)
            for s in self._graph.states
        }
        return self.walk({**inputs, **states})

    def in_any_state(self, inputs: Mapping[Value, Interval]) -> dict[Value, Interval]:
        """Bounds in one step from a state of which nothing is known but its type."""
        states = {s.read: anything(s.type.dtype, s.type.shape) for s in self._graph.states}
        return self.walk({**inputs, **states})

    def walk(self, sources: Mapping[Value, Interval]) -> dict[Value, Interval]:
        """Bounds of all values in one step."""
        return self._walked(self._nodes, {**self._fixed, **sources})

    def _walked(
        self, nodes: Sequence[Node], values: dict[Value, Interval]
    ) -> dict[Value, Interval]:
        """The values, with those of the nodes added."""
        with np.errstate(all="ignore"):
            for node in nodes:
                values.update(zip(node.outputs, self._bounds(node, values), strict=True))
        return values

    def _in_parts(self) -> tuple[list[Node], list[Node], list[Node]]:
        """Nodes in front of the states, on the way from states to states, and behind them."""
        moved = {state.read for state in self._graph.states}
        for node in self._nodes:
            if not moved.isdisjoint(node.inputs):
                moved.update(node.outputs)
        needed = {state.write for state in self._graph.states}
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.outputs):
                needed.update(value for value in node.inputs if value is not None)
        parts: tuple[list[Node], list[Node], list[Node]] = ([], [], [])
        for node in self._nodes:
            is_moved = not moved.isdisjoint(node.outputs)
            part = 0 if not is_moved else 1 if not needed.isdisjoint(node.outputs) else 2
            parts[part].append(node)
        return parts

    def _fold(self, node: Node) -> None:
        given = [None if value is None else self._data[value] for value in node.inputs]
        with np.errstate(all="ignore"):
            results = apply(*executed(node.op, given), given)
        for value, data in zip(node.outputs, results, strict=True):
            self._data[value], self._fixed[value] = data, point(data)
        if isinstance(node.op, DequantizeWeights) and node.op.storage is not Storage.F16:
            self._whole_numbers.update(node.outputs)

    def _bounds(self, node: Node, values: Mapping[Value, Interval]) -> list[Interval]:
        inputs = [None if value is None else values[value] for value in node.inputs]
        types = [value.type for value in node.outputs]
        match node.op:
            case Recurrent():
                products = self._products_of(node, inputs)
                return layer_bounds(node.op, inputs, products, types)
            case Int8Recurrent():
                products = self._products_of(node, inputs)
                float_inputs = [*inputs[:W], None, None, *inputs[R + 1 : W_SCALE]]
                return layer_bounds(node.op.cell, float_inputs, products, types)
        given = [item for item in inputs if item is not None]
        found = _operator(node, given)
        if found is not None and isinstance(node.op, Dense):
            is_scaled_last = node.inputs[1] in self._whole_numbers
            if is_scaled_last and not _is_below(given[0].magnitude.sum(axis=-1)):
                found = anything(found.dtype, found.shape)
        if found is not None:
            return [found]
        return [anything(t.dtype, t.shape, is_safe=_are_safe(inputs)) for t in types]

    def _products_of(self, node: Node, inputs: Sequence[Interval | None]) -> Products:
        if node not in self._products:
            w, r = inputs[W], inputs[R]
            assert w is not None
            if isinstance(node.op, Int8Recurrent):
                self._products[node] = self._integer_products(node, node.op)
            elif all(v is None or v in self._data for v in (node.inputs[W], node.inputs[R])):
                products = float_products(w, r)
                self._products[node] = Products(
                    self._as_stored(node.inputs[W], products.of_x),
                    self._as_stored(node.inputs[R], products.of_h),
                )
            else:
                return float_products(w, r)
        return self._products[node]

    def _as_stored(self, weights: Value | None, product: Product) -> Product:
        """Where weights are stored as integers, those are summed up first and scaled after."""
        if weights not in self._whole_numbers:
            return product

        def scaled_last(direction: int, x: Array) -> Array:
            scaled = product(direction, x)
            return scaled if _is_below(x.sum()) else np.full_like(scaled, np.inf)

        return scaled_last

    def _integer_products(self, node: Node, op: Int8Recurrent) -> Products:
        w, w_scale, inverse, r, r_scale = (
            None if (value := node.inputs[position]) is None else self._data[value]
            for position in (W, W_SCALE, X_INVERSE, R, R_SCALE)
        )
        assert w is not None
        assert w_scale is not None
        assert inverse is not None
        half = (1 << (8 * op.x_dtype.itemsize - 1)) + abs(op.x_zero_point)
        of_x = integer_products(w, w_scale, inverse, half)
        if r is None or r_scale is None:
            return Products(of_x, no_product)
        h_inverse = np.asarray([op.h_inverse])
        return Products(of_x, integer_products(r, r_scale, h_inverse, _INT8_HALF))


def _is_below(sums: Array) -> bool:
    """Whether sums of magnitudes times any int8 stay finite in float32."""
    return bool((sums * _INT8_HALF < 2.0**127).all())


def _are_safe(inputs: Sequence[Interval | None]) -> bool:
    return all(item is None or item.is_safe for item in inputs)


def _operator(node: Node, inputs: Sequence[Interval]) -> Interval | None:
    """Bounds of the only output; None where nothing better than its type is known."""
    op, output = node.op, node.outputs[0].type
    first = inputs[0] if inputs else None
    assert first is not None
    match op:
        case Binary():
            return _binary(node, op, inputs)
        case Remainder():
            a, b = inputs
            return of.remainder(a, b)
        case Unary():
            return apply_function(op.activation, first)
        case Cast():
            return of.cast(first, op.dtype)
        case Reshape() | Transpose() | Slice() | Broadcast() | Concat():
            return _moved(op, inputs)
        case Gather():
            return _gathered(op, inputs, output.shape)
        case MatMul() | Dense():
            return _product(op, inputs)
        case Int8Dense():
            return _int8_dense(node, op, inputs)
        case LogSoftmax() if output.dtype.is_float:
            spread = _spread(first, op.axis)
            low = np.broadcast_to(-(spread + math.log(output.shape[op.axis])), output.shape)
            return settled(output.dtype, low * of.SLACK, np.zeros(output.shape))
        case Softmax() if output.dtype.is_float:
            is_safe = bool(first.is_safe and np.isfinite(_spread(first, op.axis)).all())
            one = np.ones(output.shape)
            return settled(output.dtype, 0 * one, one, is_safe=is_safe)
        case LayerNorm():
            return _layer_norm(op, inputs, output.shape)
        case Quantize():
            numbers = of.multiply(first, inputs[1])
            return anything(output.dtype, output.shape, is_safe=numbers.is_safe)
        case Dequantize():
            scale = inputs[1]
            zero = float(op.zero_point)
            steps = [(end - zero) for end in (first.low, first.high)]
            ends = [step * s for step in steps for s in (scale.low, scale.high)]
            low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
            return settled(output.dtype, low, high, is_safe=first.is_safe)
    return None


def _binary(node: Node, op: Binary, inputs: Sequence[Interval]) -> Interval:
    a, b = inputs
    if node.inputs[0] is node.inputs[1] and op.arithmetic is Arithmetic.MUL:
        ends = a.low * a.low, a.high * a.high
        is_across = (a.low <= 0) & (a.high >= 0)
        low = np.where(is_across, np.zeros_like(ends[0]), np.minimum(*ends))
        return settled(a.dtype, low, np.maximum(*ends), is_safe=a.is_safe)
    return _ARITHMETIC[op.arithmetic](a, b)


def _moved(
    op: Broadcast | Concat | Reshape | Slice | Transpose, inputs: Sequence[Interval]
) -> Interval:
    fields = op_fields(op)

    def move(end: str) -> Array:
        return np.asarray(apply(op.kind, fields, [getattr(item, end) for item in inputs])[0])

    is_safe = all(item.is_safe for item in inputs)
    return Interval(inputs[0].dtype, move("low"), move("high"), is_safe)


def _gathered(op: Gather, inputs: Sequence[Interval], shape: tuple[int, ...]) -> Interval:
    """Any element along the axis may be taken."""
    x, indices = inputs
    kept = (*range(op.axis), *range(op.axis + len(indices.shape), len(shape)))
    extents = [shape[axis] if axis in kept else 1 for axis in range(len(shape))]
    low = np.broadcast_to(x.low.min(axis=op.axis).reshape(extents), shape)
    high = np.broadcast_to(x.high.max(axis=op.axis).reshape(extents), shape)
    return Interval(x.dtype, low, high, x.is_safe)


def _product(op: MatMul | Dense, inputs: Sequence[Interval]) -> Interval:
    a, b, *bias = inputs
    sums = np.matmul(a.magnitude, b.magnitude)
    if bias:
        sums = sums + bias[0].magnitude
    is_safe = all(item.is_safe for item in inputs)
    if not a.dtype.is_float:
        return settled(a.dtype, -sums, sums, is_safe=is_safe)
    whole = of.symmetric(a.dtype, sums, is_safe=is_safe)
    if whole.is_safe and b.is_point:
        rises = np.maximum(b.low, 0).astype(np.float64)
        falls = np.minimum(b.low, 0).astype(np.float64)
        low, high = a.low.astype(np.float64), a.high.astype(np.float64)
        least = np.matmul(low, rises) + np.matmul(high, falls)
        most = np.matmul(high, rises) + np.matmul(low, falls)
        if bias:
            least, most = least + bias[0].low, most + bias[0].high
        room = sums * (of.SLACK - 1.0)
        whole = settled(a.dtype, least - room, most + room)
    if isinstance(op, Dense) and op.activation is not None:
        return apply_function(op.activation, whole)
    return whole


def _int8_dense(node: Node, op: Int8Dense, inputs: Sequence[Interval]) -> Interval | None:
    x, w, *rest = inputs
    bias = rest[0] if node.inputs[2] is not None else None
    scale, inverse = rest[-2:]
    half = (1 << (8 * op.x_dtype.itemsize - 1)) + abs(op.x_zero_point)
    sums = w.magnitude.sum(axis=-1) * half * scale.magnitude
    if bias is not None:
        sums = sums + bias.magnitude
    numbers = of.multiply(x, inverse)
    sums = np.broadcast_to(sums, (*x.shape[:-1], w.shape[0]))
    whole = of.symmetric(DType.F32, sums, is_safe=x.is_safe and numbers.is_safe)
    return whole if op.activation is None else apply_function(op.activation, whole)


def _layer_norm(op: LayerNorm, inputs: Sequence[Interval], shape: tuple[int, ...]) -> Interval:
    """No element is further from the mean than sqrt(n) standard deviations."""
    x, scale, *bias = inputs
    count = math.prod(shape[op.axis :])
    squares = settled(x.dtype, np.zeros(x.shape), np.square(2.0 * x.magnitude) * count * of.SLACK)
    is_safe = op.epsilon > 0 and squares.is_safe and all(item.is_safe for item in inputs)
    most = np.broadcast_to(math.sqrt(count) * scale.magnitude, shape)
    if bias:
        most = most + bias[0].magnitude
    return of.symmetric(x.dtype, most, is_safe=is_safe)


def _spread(x: Interval, axis: int) -> Array:
    """The largest difference along an axis."""
    low, high = x.low.astype(np.float64), x.high.astype(np.float64)
    return np.asarray(high.max(axis=axis, keepdims=True) - low.min(axis=axis, keepdims=True))
