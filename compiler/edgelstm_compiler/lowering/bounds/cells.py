"""Bounds of recurrent layers: of one frame, or of any number of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.numerics.cells import (
    Apply,
    Complement,
    Flush,
    Gate,
    GatedSum,
    Lerp,
    Matrix,
    MulAdd,
    Narrow,
    Peephole,
    Scale,
    Store,
    Sum,
)
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.types import Array, TensorType
from edgelstm_compiler.lowering.bounds.functions import apply_function
from edgelstm_compiler.lowering.bounds.interval import (
    Interval,
    add,
    anything,
    multiply,
    point,
    settled,
    subtract,
    symmetric,
    within,
)

Product = Callable[[int, Array], Array]
"""For a direction, magnitudes of a vector to those of its products with all rows, (G*H,)."""

_PLAIN_STEPS, _STEPS = 3, 400
_NEARLY_ONE = 0.25


@dataclass(frozen=True, slots=True)
class Products:
    """How a layer multiplies.

    Args:
        of_x: with W; infinite where x cannot be represented on the way.
        of_h: with R, or what stands for it where nothing is multiplied with R.
    """

    of_x: Product
    of_h: Product


def float_products(w: Interval, r: Interval | None) -> Products:
    """Products with weights in floating point: at most the sum of all magnitudes."""
    of_h = no_product if r is None else _remembered(r.magnitude)
    return Products(_remembered(w.magnitude), of_h)


def no_product(direction: int, x: Array) -> Array:
    """Of a cell without R: nobody asks."""
    raise AssertionError((direction, x))


def layer_bounds(
    layer: Recurrent,
    inputs: Sequence[Interval | None],
    products: Products,
    outputs: Sequence[TensorType],
) -> list[Interval]:
    """Bounds of Y and the final states.

    Args:
        layer: the float operator.
        inputs: those of the float operator; W and R are not looked at.
        products: in place of W and R.
        outputs: types of the results.
    """
    operands = Operands.of(inputs)
    y_type, *state_types = outputs
    given = [item for item in operands if item is not None]
    if not all(item.is_safe for item in given if item.dtype.is_float):
        return [anything(t.dtype, t.shape) for t in outputs]
    once = operands.x.shape[0] == 1 and operands.lengths is None
    first = [
        point(np.zeros(t.shape, t.dtype.numpy)) if item is None else item
        for item, t in zip(operands.initial, state_types, strict=False)
    ]
    results: list[list[Interval]] = []
    for d in range(y_type.shape[1]):
        step = _Direction(layer, d, operands, products).step
        states = [_units(state, d) for state in first]
        results.append(step(states) if once else _any_number(step, states))
    finals = [_spread([result[i] for result in results], t) for i, t in enumerate(state_types)]
    hidden = [result[0] for result in results]
    is_safe = all(item.is_safe for item in hidden)
    low, high = (
        np.broadcast_to(np.stack([getattr(h, end) for h in hidden])[None, :, None], y_type.shape)
        for end in ("low", "high")
    )
    if not once:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    return [Interval(y_type.dtype, low, high, is_safe), *finals]


class _Direction:
    """One frame of one direction: bounds per unit, and the nodes of a cell on them.

    Sums are magnitudes in float64, everything else is an interval.
    """

    def __init__(
        self,
        layer: Recurrent,
        direction: int,
        inputs: Operands,
        products: Products,
    ) -> None:
        x: Interval = inputs.x
        self._dtype = x.dtype
        self._layer = layer
        self._cell = layer.cell(peepholes=inputs.p is not None)
        self._of_h = products.of_h
        self._direction = direction
        self._from_x = products.of_x(direction, x.magnitude.max(axis=(0, 1)))
        rows = layer.gates * layer.hidden
        both = np.zeros(2 * rows) if inputs.b is None else inputs.b.magnitude[direction]
        self._bias, self._recurrent_bias = both[:rows], both[rows:]
        if inputs.p is not None:
            self._peepholes = inputs.p.magnitude[direction].reshape(-1, layer.hidden)
        functions = layer.functions
        self._functions = layer.activations[direction * functions : (direction + 1) * functions]

    def step(self, states: Sequence[Interval]) -> list[Interval]:
        """The states after a frame."""
        names, self._states = self._cell.state_names, states
        values: dict[str, Any] = dict(zip(names, states, strict=True))
        stored: dict[str, Interval] = {}
        for phase in self._cell.phases:
            for total in phase.sums:
                values[total.name] = self._total(total, values)
            for statement in phase.body:
                if isinstance(statement, Store):
                    stored[statement.target] = values[statement.value]
                    continue
                node = statement.node
                operands = [values[name] for name in node.operands]
                values[statement.name] = getattr(self, node.method)(node, *operands)
            values.update({name: found for name, found in stored.items() if name not in names})
        return [stored[name] for name in names]

    def _total(self, total: Sum, values: Mapping[str, Interval]) -> Array:
        """The magnitude of a sum (H,)."""
        found: Array = np.zeros(self._layer.hidden)
        for term in total.terms:
            rows = slice(term.gate * self._layer.hidden, (term.gate + 1) * self._layer.hidden)
            if term.matrix is Matrix.W:
                found = found + self._from_x[rows] + self._bias[rows]
            else:
                of_h = self._of_h(self._direction, values[term.operand].magnitude)
                found = found + of_h[rows] + self._recurrent_bias[rows]
        return found

    def gate(self, node: Gate, total: Array) -> Interval:
        """The function of what lies within +-total and the clip."""
        argument = symmetric(self._dtype, total)
        clip = self._layer.clip
        if clip is not None:
            bound: Array = np.asarray(clip, self._dtype.numpy)
            low, high = np.maximum(argument.low, -bound), np.minimum(argument.high, bound)
            argument = Interval(self._dtype, low, high, argument.is_safe)
        return apply_function(self._functions[node.function], argument)

    def peephole(self, node: Peephole, total: Array, value: Interval) -> Array:
        """The sum + p*v."""
        return np.asarray(total + self._peepholes[node.row] * value.magnitude)

    def gated_sum(self, _: GatedSum, total: Array, unit: Interval, inner: Array) -> Array:
        """The sum + u*inner."""
        return np.asarray(total + unit.magnitude * inner)

    def complement(self, _: Complement, unit: Interval) -> Interval:
        """1 - u."""
        return subtract(_constant(1.0, unit), unit)

    def mul_add(self, _: MulAdd, f: Interval, c: Interval, i: Interval, g: Interval) -> Interval:
        """f*c + i*g."""
        return add(_attenuated(f, c), _roomy(multiply(i, g)))

    def lerp(self, _: Lerp, z: Interval, n: Interval | Array, h: Interval | Array) -> Interval:
        """(1 - z)*n + z*h; a mixture with the state never enlarges it."""
        return add(self._share(z, h), self._share(subtract(_constant(1.0, z), z), n))

    def _share(self, unit: Interval, value: Interval | Array) -> Interval:
        """A share of a state, a value or a sum."""
        if any(value is state for state in self._states):
            assert isinstance(value, Interval)
            return _attenuated(unit, value)
        if not isinstance(value, Interval):
            value = symmetric(self._dtype, value)
        return _roomy(multiply(unit, value))

    def scale(self, _: Scale, unit: Interval, value: Interval) -> Interval:
        """u*v."""
        return _roomy(multiply(unit, value))

    def apply(self, node: Apply, value: Interval) -> Interval:
        """The function."""
        return apply_function(self._functions[node.function], value)

    def flush(self, _: Flush, value: Interval) -> Interval:
        """The value, or zero."""
        return value

    def narrow(self, _: Narrow, value: Interval) -> Interval:
        """The value."""
        return value


def integer_products(weights: Array, scale: Array, inverse: Array, half: int) -> Product:
    """Of int8 weights with what is quantized first, and is then bounded whatever it was."""
    most = np.abs(weights.astype(np.float64)).sum(axis=-1) * half * scale.astype(np.float64)
    inverse = np.abs(inverse.astype(np.float64))

    def product(direction: int, x: Array) -> Array:
        is_finite = within(DType.F32, (), 2.0**126).high > float(np.max(x * inverse, initial=0.0))
        return np.asarray(most[direction]) if is_finite else np.full(most.shape[-1], np.inf)

    return product


def widened(before: Interval, after: Interval) -> Interval:
    """What moved away from `before` jumps to the next power of two; what stayed, stays."""
    top = np.maximum(after.magnitude, 2.0**-20)
    jump = np.exp2(np.ceil(np.log2(top)) + 1)
    falls, rises = after.low < before.low, after.high > before.high
    floor = np.where(after.low >= 0, 0.0, -jump)
    low = np.where(falls, floor, before.low.astype(np.float64))
    high = np.where(rises, jump, before.high.astype(np.float64))
    return settled(before.dtype, low, high, is_safe=before.is_safe and after.is_safe)


def _any_number(
    step: Callable[[Sequence[Interval]], list[Interval]], states: Sequence[Interval]
) -> list[Interval]:
    """States that any number of frames, none included, stays within."""
    now = [state.hull(_constant(0.0, state)) for state in states]
    for count in range(_STEPS):
        after = [old.hull(new) for old, new in zip(now, step(now), strict=True)]
        if not all(item.is_safe for item in after):
            break
        if all(same(a, b) for a, b in zip(now, after, strict=True)):
            return now
        if count >= _PLAIN_STEPS:
            after = [widened(old, new) for old, new in zip(now, after, strict=True)]
        now = after
    return [anything(state.dtype, state.shape) for state in states]


def same(a: Interval, b: Interval) -> bool:
    """Whether two intervals are equal."""
    return bool(np.array_equal(a.low, b.low) and np.array_equal(a.high, b.high))


def _remembered(weights: Array) -> Product:
    """Products with (D, rows, K) magnitudes; the last of each direction is kept.

    What bounded cells hand on lies below 1 and not far from it: ones are taken for it, once.
    """
    known: dict[int, tuple[Array, Array]] = {}
    of_ones = weights.sum(axis=-1)
    of_nothing = np.zeros_like(of_ones)

    def product(direction: int, x: Array) -> Array:
        if not x.any():
            return np.asarray(of_nothing[direction])
        if x.max() <= 1.0 and x.min() >= _NEARLY_ONE:
            return np.asarray(of_ones[direction])
        found = known.get(direction)
        if found is None or not np.array_equal(found[0], x):
            with np.errstate(all="ignore"):
                found = known[direction] = (x, weights[direction] @ x)
        return found[1]

    return product


def _attenuated(gate: Interval, state: Interval) -> Interval:
    """Gate times state; a gate that is never above one never enlarges, to the last bit."""
    gate = Interval(
        gate.dtype,
        np.where((gate.low < 0) & (gate.low >= -1), gate.dtype.numpy.type(-1), gate.low),
        np.where((gate.high > 0) & (gate.high <= 1), gate.dtype.numpy.type(1), gate.high),
        gate.is_safe,
    )
    return multiply(gate, state)


def _roomy(x: Interval) -> Interval:
    """With room for how its factors are rounded."""
    room = np.abs(x.magnitude) * 2.0**-10
    return settled(x.dtype, x.low - room, x.high + room, is_safe=x.is_safe)


def _constant(value: float, like: Interval) -> Interval:
    return point(np.full(like.shape, value, like.dtype.numpy))


def _units(x: Interval, direction: int) -> Interval:
    """Bounds per unit of a state (D, B, H), over the batch."""
    low, high = x.low[direction].min(axis=0), x.high[direction].max(axis=0)
    return Interval(x.dtype, low, high, x.is_safe)


def _spread(units: Sequence[Interval], kind: TensorType) -> Interval:
    """(D, B, H) of bounds per direction and unit."""
    low, high = (
        np.broadcast_to(np.stack([getattr(u, end) for u in units])[:, None], kind.shape)
        for end in ("low", "high")
    )
    return Interval(kind.dtype, low, high, all(unit.is_safe for unit in units))
