"""Bounds of recurrent layers: of one frame, or of any number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops.recurrent import INITIAL_C, INITIAL_H, SEQUENCE_LENS, B, P, X
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

Cell = LSTM | GRU | RNN


@dataclass(frozen=True, slots=True)
class Products:
    """How a layer multiplies.

    Args:
        of_x: with W; infinite where x cannot be represented on the way.
        of_h: with R.
    """

    of_x: Product
    of_h: Product


def float_products(w: Interval, r: Interval) -> Products:
    """Products with weights in floating point: at most the sum of all magnitudes."""
    return Products(_remembered(w.magnitude), _remembered(r.magnitude))


def layer_bounds(
    cell: Cell,
    inputs: Sequence[Interval | None],
    products: Products,
    outputs: Sequence[TensorType],
) -> list[Interval]:
    """Bounds of Y and the final states.

    Args:
        cell: the float operator.
        inputs: those of the float operator; W and R are not looked at.
        products: in place of W and R.
        outputs: types of the results.
    """
    padded = [*inputs, *([None] * (8 - len(inputs)))]
    x = padded[X]
    assert x is not None
    y_type, *state_types = outputs
    given = [item for item in padded if item is not None]
    if not all(item.is_safe for item in given if item.dtype.is_float):
        return [anything(t.dtype, t.shape) for t in outputs]
    once = x.shape[0] == 1 and padded[SEQUENCE_LENS] is None
    first = [
        point(np.zeros(t.shape, t.dtype.numpy)) if item is None else item
        for item, t in zip((padded[INITIAL_H], padded[INITIAL_C]), state_types, strict=False)
    ]
    results: list[list[Interval]] = []
    for d in range(y_type.shape[1]):
        step = _Direction(cell, d, padded, products).step
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
    """One frame of one direction: bounds per unit."""

    def __init__(
        self,
        cell: Cell,
        direction: int,
        inputs: Sequence[Interval | None],
        products: Products,
    ) -> None:
        x = inputs[X]
        assert x is not None
        self._dtype = x.dtype
        self._cell = cell
        self._hidden = cell.hidden
        self._of_h = products.of_h
        self._direction = direction
        self._from_x = products.of_x(direction, x.magnitude.max(axis=(0, 1)))
        rows = cell.gates * cell.hidden
        bias, peepholes = inputs[B], inputs[P]
        both = np.zeros(2 * rows) if bias is None else bias.magnitude[direction]
        self._bias, self._recurrent_bias = both[:rows], both[rows:]
        self._peepholes = (
            None if peepholes is None else peepholes.magnitude[direction].reshape(3, -1)
        )
        functions = cell.functions
        self._functions = cell.activations[direction * functions : (direction + 1) * functions]

    def step(self, states: Sequence[Interval]) -> list[Interval]:
        """The states after a frame."""
        match self._cell:
            case LSTM():
                return self._lstm(*states)
            case GRU():
                return self._gru(*states)
            case _:
                (h,) = states
                return [self._gate(0, self._sums(h)[0])]

    def _lstm(self, h: Interval, c: Interval) -> list[Interval]:
        i_sum, o_sum, f_sum, g_sum = self._sums(h)
        peep = self._peepholes
        i = self._gate(0, i_sum if peep is None else i_sum + peep[0] * c.magnitude)
        g = self._gate(1, g_sum)
        assert isinstance(self._cell, LSTM)
        if self._cell.input_forget:
            f = subtract(_constant(1.0, i), i)
        else:
            f = self._gate(0, f_sum if peep is None else f_sum + peep[2] * c.magnitude)
        new_c = add(_attenuated(f, c), _roomy(multiply(i, g)))
        o = self._gate(0, o_sum if peep is None else o_sum + peep[1] * new_c.magnitude)
        return [_roomy(multiply(o, apply_function(self._functions[2], new_c))), new_c]

    def _gru(self, h: Interval) -> list[Interval]:
        assert isinstance(self._cell, GRU)
        z_sum, r_sum, n_sum = self._sums(h)
        z, r = self._gate(0, z_sum), self._gate(0, r_sum)
        units = slice(2 * self._hidden, 3 * self._hidden)
        if self._cell.linear_before_reset:
            of_h = self._of_h(self._direction, h.magnitude)[units] + self._recurrent_bias[units]
            n_sum = self._from_x[units] + self._bias[units] + r.magnitude * of_h
        else:
            reset = (r.magnitude * h.magnitude).astype(np.float64)
            of_h = self._of_h(self._direction, reset)[units]
            n_sum = self._from_x[units] + self._bias[units] + self._recurrent_bias[units] + of_h
        n = self._gate(1, n_sum)
        left = subtract(_constant(1.0, z), z)
        return [add(_attenuated(z, h), _roomy(multiply(left, n)))]

    def _sums(self, h: Interval) -> Array:
        """Magnitudes of the inputs of all gates, (G, H)."""
        total = self._from_x + self._of_h(self._direction, h.magnitude)
        return np.asarray((total + self._bias + self._recurrent_bias).reshape(-1, self._hidden))

    def _gate(self, function: int, magnitude: Array) -> Interval:
        argument = symmetric(self._dtype, magnitude)
        clip = self._cell.clip
        if clip is not None:
            bound: Array = np.asarray(clip, self._dtype.numpy)
            low, high = np.maximum(argument.low, -bound), np.minimum(argument.high, bound)
            argument = Interval(self._dtype, low, high, argument.is_safe)
        activation: Activation = self._functions[function]
        return apply_function(activation, argument)


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
