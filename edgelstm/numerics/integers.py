"""The nodes of a cell in integers of 32 bits: scheme int8-full.

Unit values are Q0.15 from 0 to 32768, signed ones Q0.15, states what their form says; what a first
state of 16 bits takes in has its power of two (`wide_cells.ranged`). The sum of a
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
from functools import cached_property
from operator import add
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
from edgelstm.numerics.tape import FRAME, PARAMETERS, Function, Tape, columns

Array = NDArray[Any]

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
class IntegerParameters:
    """The weights of one direction.

    Args:
        inputs: (I, G*H), recurrent: (H, G*H): integer weights in floating point.
        x_multiplier, h_multiplier: (G*H,) int32.
        bias: (A, H) int32, a row for each sum of the cell.
        peepholes: (rows, H) int32, or None.
        tables: of each function all values (65536,) int32, as units where it is that of a unit
            gate; at 0 first, at -32768 in the middle, so that the argument is the index.
    """

    inputs: Array
    recurrent: Array
    x_multiplier: Array
    h_multiplier: Array
    bias: Array
    peepholes: Array | None
    tables: Sequence[Array]


_OF_STEPS = (
    "sum_shift",
    "h_shift",
    "clip",
    "cell_exponent",
    "peephole_shift",
    "output_multiplier",
    "output_shift",
)
"""Fields that a step depends on."""


@dataclass(frozen=True)
class IntegerNumerics:
    """One direction of an integer layer without its weights.

    Args:
        cell: what is computed.
        fields: clip, shifts and multipliers of the operator.
        hidden: H.
    """

    cell: Cell
    fields: Mapping[str, Any]
    hidden: int

    @property
    def key(self) -> Any:
        """All but the cell."""
        return self.hidden, *(self.fields[name] for name in _OF_STEPS), self._h_exponent

    @property
    def _h_exponent(self) -> int:
        """A first state of 16 bits is within 2^h_exponent; older programs do not say it."""
        return int(self.fields.get("h_exponent", 0))

    def frames(self, given: IntegerParameters, x: Array) -> Array:
        """For each sum the scaled products of all frames with W, and its bias: (T, B, A*H)."""
        scaled = rounding_shift(multiply(x, given.inputs), self.fields["x_shift"])
        scaled = scaled * given.x_multiplier
        if self._has_a_sum_a_gate:
            return np.asarray(scaled + given.bias.reshape(-1))
        parts = []
        for total, bias in zip(self.cell.sums, given.bias, strict=True):
            gates = [term.gate for term in total.terms if term.matrix is Matrix.W]
            columns = [scaled[..., g * self.hidden : (g + 1) * self.hidden] for g in gates]
            parts.append(sum(columns, np.broadcast_to(bias, (*x.shape[:-1], self.hidden))))
        return np.concatenate(parts, axis=-1)

    @cached_property
    def _has_a_sum_a_gate(self) -> bool:
        """Whether the sums are those of the gates, in the same order."""
        gates = [[t.gate for t in s.terms if t.matrix is Matrix.W] for s in self.cell.sums]
        return gates == [[n] for n in range(len(self.cell.gates))]

    def total(self, tape: Tape, total: PlannedSum, slots: dict[str, int]) -> int:
        """(products + bias) >> sum_shift; the rounding stands in the bias."""
        at, shift = total.position * self.hidden, self.fields["sum_shift"]
        if total.joined and self._has_a_sum_a_gate:
            # All of them at once.
            product = self._product(tape, total.joined, slots)
            whole = tape.share(total.joined, lambda f, p: (f + p) >> shift, FRAME, product)
            return tape.add(columns(at, self.hidden), whole)
        found = tape.add(columns(at, self.hidden), FRAME)
        for term in total.terms:
            if term.matrix is Matrix.R:
                product = self._product(tape, term.operand, slots)
                part = tape.add(columns(term.gate * self.hidden, self.hidden), product)
                found = tape.add(add, found, part)
        return tape.add(lambda sums: sums >> shift, found)

    def _product(self, tape: Tape, operand: str, slots: dict[str, int]) -> int:
        """rs(R v, h_shift) * h_multiplier of all gates; products read int8."""
        value, shift = slots[operand], self.fields["h_shift"]
        if self._form(operand) is not StateForm.NARROW:
            value = tape.share("narrow " + operand, self.narrowed, value)
        return tape.share(
            "R " + operand,
            lambda given, v: (
                rounding_shift(multiply(v, given.recurrent), shift) * given.h_multiplier
            ),
            PARAMETERS,
            value,
        )

    def _form(self, name: str) -> StateForm:
        """How a value is carried; what is handed from phase to phase is int16."""
        return self.cell.forms.get(name, StateForm.SIGNED)

    def load(self, name: str) -> Function | None:
        """A state as int32."""
        del name
        return lambda value: value.astype(np.int32)

    def store(self, name: str) -> Function | None:
        """A new value in the state's element type; int32 is handed on as it is."""
        if name not in self.cell.state_names:
            return None
        kind = STATE_TYPES[self._form(name)]
        return lambda value: value.astype(kind)

    def shown(self, h: Array) -> Array:
        """The first state as the layer's output: int8, or what it is where that is wide."""
        is_wide = bool(self.fields.get("is_wide", False))
        if is_wide or self.cell.states[0].form is StateForm.NARROW:
            return h
        return self.narrowed(h.astype(np.int32)).astype(np.int8)

    def gate(self, tape: Tape, node: Gate, total: int) -> int:
        """A table's entry for the sum, saturated or within +-clip."""
        clip, number = self.fields["clip"], node.function
        low, high = -32768, 32767
        if clip is not None:
            high = clip_limit(clip, FRACTIONS[node.range])
            low = -high
        within = tape.add(lambda value: bounded(value, low, high), total)
        return self._look_up(tape, number, within)

    def _look_up(self, tape: Tape, number: int, argument: int) -> int:
        return tape.add(lambda given, i: given.tables[number].take(i), PARAMETERS, argument)

    def peephole(self, tape: Tape, node: Peephole, total: int, value: int) -> int:
        """The sum + rs(p*v, peephole_shift)."""
        row, shift = node.row, self.fields["peephole_shift"]
        return tape.add(
            lambda given, s, v: s + rounding_shift(given.peepholes[row] * v, shift),
            PARAMETERS,
            total,
            value,
        )

    def gated_sum(self, tape: Tape, _: GatedSum, total: int, unit: int, inner: int) -> int:
        """The sum + rs(u*sat16(inner), 15)."""
        return tape.add(
            lambda s, u, v: s + rounding_shift(u * saturate16(v), 15), total, unit, inner
        )

    def complement(self, tape: Tape, _: Complement, unit: int) -> int:
        """2^15 - u."""
        return tape.add(lambda u: 32768 - u, unit)

    def mul_add(self, tape: Tape, _: MulAdd, f: int, c: int, i: int, g: int) -> int:
        """rs(f*c + rs(i*g, exponent of c), 15), within +-32767."""
        exponent = self.fields["cell_exponent"]

        def new_state(f: Array, c: Array, i: Array, g: Array) -> Array:
            gained = rounding_shift(i * g, exponent)
            return bounded(rounding_shift(f * c + gained, 15), -32767, 32767)

        return tape.add(new_state, f, c, i, g)

    def lerp(self, tape: Tape, _: Lerp, z: int, n: int, h: int) -> int:
        """sat16(rs((2^15 - z)*n + z*h, 15))."""
        return tape.add(
            lambda z, n, h: saturate16(rounding_shift((32768 - z) * n + z * h, 15)), z, n, h
        )

    def scale(self, tape: Tape, _: Scale, unit: int, value: int) -> int:
        """rs(u*v, 15)."""
        return tape.add(lambda u, v: rounding_shift(u * v, 15), unit, value)

    def apply(self, tape: Tape, node: Apply, value: int) -> int:
        """A table's entry for a state in the format of its range."""
        exponent = int(self.fields["cell_exponent"])
        moved = tape.add(lambda state: to_table_input(state, exponent), value)
        return self._look_up(tape, node.function, moved)

    def flush(self, tape: Tape, _: Flush, value: int) -> int:
        """The value: integers have no denormals."""
        del tape
        return value

    def narrow(self, tape: Tape, _: Narrow, value: int) -> int:
        """rs(v * output_multiplier, output_shift), within +-127; of 16 bits rs(v, h_exponent)."""
        if self.cell.states[0].form is StateForm.NARROW:
            return tape.add(self.narrowed, value)
        exponent = self._h_exponent
        return tape.add(lambda v: rounding_shift(v, exponent), value)

    def narrowed(self, value: Array) -> Array:
        """A signed value as products read it."""
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
