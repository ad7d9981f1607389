"""The nodes of a cell in integers of 32 bits: scheme int8-full.

Unit values are Q0.15 from 0 to 32768, signed ones Q0.15, states what their form says. The sum of a
unit gate is Q4.11, that of a signed gate Q3.12; the quantizer proves that sums fit into 32 bits.
Nothing else overflows, because u <= 2^15 and |v| <= 2^15, |c| < 2^15:

    scale     |u*v| <= 2^30
    lerp      |(2^15 - z)*n + z*h| <= 2^15 * 2^15
    mul_add   |f*c + rs(i*g, e)| <= 2^15 * (2^15 - 1) + 2^30 = 2^31 - 2^15, and 2^14 to round
    peephole  |p*c| < 2^30, for |p| < 2^15
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.cells import (
    Apply,
    Cell,
    Complement,
    Flush,
    Gate,
    GatedSum,
    Lerp,
    Matrix,
    MulAdd,
    Narrow,
    Peephole,
    PlannedSum,
    Range,
    Scale,
    StateForm,
)
from edgelstm.numerics.integer_arithmetic import (
    bounded,
    multiply,
    rounding_shift,
    saturate16,
    unit_gate,
)

Array = NDArray[Any]
Values = dict[str, Any]

UNIT_FRACTION = 11
"""Fraction bits of the sum of a gate in [0, 1]: Q4.11, within [-16, 16)."""

SIGNED_FRACTION = 12
"""Fraction bits of the sum of a gate in [-1, 1], and of what `Apply` reads: Q3.12."""

FRACTIONS = {Range.UNIT: UNIT_FRACTION, Range.SIGNED: SIGNED_FRACTION}

STATE_TYPES: Mapping[StateForm, type[np.generic]] = {
    StateForm.NARROW: np.int8,
    StateForm.SIGNED: np.int16,
    StateForm.FREE: np.int16,
}
"""Element types of states."""


@dataclass(frozen=True, slots=True)
class IntegerNumerics:
    """One direction of an integer layer.

    Args:
        cell: what is computed.
        fields: clip, shifts and multipliers of the operator.
        hidden: H.
        inputs: (I, G*H), recurrent: (H, G*H): integer weights in floating point.
        x_multiplier, h_multiplier: (G*H,) int32.
        bias: (A, H) int32, a row for each sum of the cell.
        peepholes: (rows, H) int32, or None.
        tables: of each function all values (65536,) int32, as units where it is that of a unit
            gate; at 0 first, at -32768 in the middle, so that the argument is the index.
    """

    cell: Cell
    fields: Mapping[str, Any]
    hidden: int
    inputs: Array
    recurrent: Array
    x_multiplier: Array
    h_multiplier: Array
    bias: Array
    peepholes: Array | None
    tables: Sequence[Array]

    def frames(self, x: Array) -> Array:
        """For each sum the scaled products of all frames with W, and its bias: (T, B, A*H)."""
        scaled = rounding_shift(multiply(x, self.inputs), self.fields["x_shift"])
        scaled = scaled * self.x_multiplier
        parts = []
        for total, bias in zip(self.cell.sums, self.bias, strict=True):
            gates = [term.gate for term in total.terms if term.matrix is Matrix.W]
            columns = [scaled[..., g * self.hidden : (g + 1) * self.hidden] for g in gates]
            parts.append(sum(columns, np.broadcast_to(bias, (*x.shape[:-1], self.hidden))))
        return np.concatenate(parts, axis=-1)

    def total(self, total: PlannedSum, frame: Array, values: Values, products: Values) -> Array:
        """(products + bias) >> sum_shift; the rounding stands in the bias."""
        at, shift = total.position * self.hidden, self.fields["sum_shift"]
        if total.joined and frame.shape[-1] == len(self.h_multiplier):
            # A sum for each gate, in the same order: all of them at once.
            whole = products.get(total.joined)
            if whole is None:
                product = self._product(total.joined, values, products)
                whole = products[total.joined] = (frame + product) >> shift
            return np.asarray(whole[..., at : at + self.hidden])
        found = frame[..., at : at + self.hidden]
        for term in total.terms:
            if term.matrix is Matrix.R:
                product = self._product(term.operand, values, products)
                found = found + product[..., term.gate * self.hidden :][..., : self.hidden]
        return np.asarray(found >> shift)

    def _product(self, operand: str, values: Values, products: Values) -> Array:
        """rs(R v, h_shift) * h_multiplier of all gates; products read int8."""
        key = "R " + operand
        found: Array | None = products.get(key)
        if found is None:
            value = values[operand]
            if self._form(operand) is not StateForm.NARROW:
                value = self._narrowed(value)
            sums = multiply(value, self.recurrent)
            found = rounding_shift(sums, self.fields["h_shift"]) * self.h_multiplier
            products[key] = found
        return found

    def _form(self, name: str) -> StateForm:
        """How a value is carried; what is handed from phase to phase is int16."""
        return self.cell.forms.get(name, StateForm.SIGNED)

    def load(self, name: str, value: Array) -> Array:
        """A state as int32."""
        del name
        return value.astype(np.int32)

    def store(self, name: str, value: Array) -> Array:
        """A new value in the state's element type; int32 is handed on as it is."""
        if name not in self.cell.state_names:
            return value
        return value.astype(STATE_TYPES[self._form(name)])

    def shown(self, h: Array) -> Array:
        """The first state as the layer's output: int8, or what it is where that is wide."""
        is_wide = bool(self.fields.get("is_wide", False))
        if is_wide or self.cell.states[0].form is StateForm.NARROW:
            return h
        return self._narrowed(h.astype(np.int32)).astype(np.int8)

    def gate(self, node: Gate, total: Array) -> Array:
        """A table's entry for the sum, saturated or within +-clip."""
        clip = self.fields["clip"]
        if clip is None:
            within = saturate16(total)
        else:
            limit = clip_limit(clip, FRACTIONS[node.range])
            within = bounded(total, -limit, limit)
        return np.asarray(self.tables[node.function].take(within))

    def peephole(self, node: Peephole, total: Array, value: Array) -> Array:
        """The sum + rs(p*v, peephole_shift)."""
        assert self.peepholes is not None
        weighted = self.peepholes[node.row] * value
        return np.asarray(total + rounding_shift(weighted, self.fields["peephole_shift"]))

    def gated_sum(self, _: GatedSum, total: Array, unit: Array, inner: Array) -> Array:
        """The sum + rs(u*sat16(inner), 15)."""
        return np.asarray(total + rounding_shift(unit * saturate16(inner), 15))

    def complement(self, _: Complement, unit: Array) -> Array:
        """2^15 - u."""
        return np.asarray(32768 - unit)

    def mul_add(self, _: MulAdd, f: Array, c: Array, i: Array, g: Array) -> Array:
        """rs(f*c + rs(i*g, exponent of c), 15), within +-32767."""
        gained = rounding_shift(i * g, self.fields["cell_exponent"])
        return bounded(rounding_shift(f * c + gained, 15), -32767, 32767)

    def lerp(self, _: Lerp, z: Array, n: Array, h: Array) -> Array:
        """sat16(rs((2^15 - z)*n + z*h, 15))."""
        return saturate16(rounding_shift((32768 - z) * n + z * h, 15))

    def scale(self, _: Scale, unit: Array, value: Array) -> Array:
        """rs(u*v, 15)."""
        return rounding_shift(unit * value, 15)

    def apply(self, node: Apply, value: Array) -> Array:
        """A table's entry for a state in the format of its range."""
        moved = to_table_input(value, int(self.fields["cell_exponent"]))
        return np.asarray(self.tables[node.function].take(moved))

    def flush(self, _: Flush, value: Array) -> Array:
        """The value: integers have no denormals."""
        return value

    def narrow(self, _: Narrow, value: Array) -> Array:
        """rs(v * output_multiplier, output_shift), within +-127."""
        return self._narrowed(value)

    def _narrowed(self, value: Array) -> Array:
        scaled = value * np.int32(self.fields["output_multiplier"])
        return bounded(rounding_shift(scaled, self.fields["output_shift"]), -127, 127)


def argument_first(table: Array, values: Range) -> Array:
    """A complete table as `IntegerNumerics` takes it."""
    return np.roll(unit_gate(table) if values is Range.UNIT else table, 32768)


def to_table_input(value: Array, exponent: int) -> Array:
    """A state whose range is 2^exponent in the format that `Apply` reads (Q3.12)."""
    steps = exponent - (15 - SIGNED_FRACTION)
    if steps < 0:
        return rounding_shift(value, -steps)
    return saturate16(value << steps)


def clip_limit(clip: float, fraction: int) -> int:
    """`clip` in fixed point, at most 32767."""
    return int(min(32767.0, np.floor(clip * 2.0**fraction + 0.5)))
