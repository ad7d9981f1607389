"""The nodes of a cell as integer vectors: `edgelstm.numerics.integers`, bit for bit.

Nodes name what they compute where it is read more than once: an instruction set may keep parts of
a value apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.numerics.cells import (
    Apply,
    CellPhase,
    Complement,
    Flush,
    Gate,
    GatedSum,
    Lerp,
    Let,
    MulAdd,
    Narrow,
    Peephole,
    Range,
    Scale,
    StateForm,
    Store,
)
from edgelstm.numerics.integers import FRACTIONS, SIGNED_FRACTION, clip_limit
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class IntegerNodes:
    """Nodes for one group of units.

    Args:
        op: the integer operator.
        arithmetic: on its vectors.
        tables: all tables.
        rows: which of them this direction's functions are, in ONNX order.
        peepholes: rows of P.
    """

    op: IntegerRecurrent
    arithmetic: Integers
    tables: Buffer
    rows: Sequence[int]
    peepholes: Sequence[Slot]

    def total(self, value: Expr) -> Expr:
        """The sum, shifted."""
        return value

    def load(self, slot: Slot, *, is_unit: bool) -> Expr:
        """A half, or the unit that was stored as one."""
        value = tir.name(self.arithmetic.half(slot.load(self.arithmetic.lanes)))
        return tir.name(self.arithmetic.taken(value)) if is_unit else value

    def store(self, slot: Slot, value: Expr, *, is_unit: bool) -> None:
        """Write the low bits of the units' values."""
        value = self.arithmetic.handed(value) if is_unit else value
        narrow = self.arithmetic.narrowed_to(str(slot.buffer.dtype), value)
        slot.store(narrow, self.arithmetic.lanes)

    def keeps(self, made: Let, reader: Let | Store, phase: CellPhase) -> bool:
        """Nodes name what has to be."""
        del made, reader, phase
        return True

    def named(self, value: Expr) -> Expr:
        """The value: it is named already."""
        return value

    def gate(self, node: Gate, total: Expr) -> Expr:
        """A table's entry for the sum, saturated or within +-clip."""
        numbers, clip = self.arithmetic, self.op.cell.clip
        if clip is None:
            within = numbers.saturated(total)
        else:
            within = numbers.bounded(total, clip_limit(clip, FRACTIONS[node.range]))
        value = self._look_up(node.function, within)
        return tir.name(numbers.unit(value) if node.range is Range.UNIT else value)

    def peephole(self, node: Peephole, total: Expr, value: Expr) -> Expr:
        """The sum + rs(p*v, peephole_shift)."""
        row = self.load(self.peepholes[node.row], is_unit=False)
        weighted = self.arithmetic.product(row, value)
        return total + self.arithmetic.rounding_shift(weighted, self.op.peephole_shift)

    def gated_sum(self, _: GatedSum, total: Expr, unit: Expr, inner: Expr) -> Expr:
        """The sum + rs(u*sat16(inner), 15)."""
        numbers = self.arithmetic
        within = tir.name(numbers.saturated(inner))
        return total + numbers.rounding_shift(numbers.weighed(unit, within), 15)

    def complement(self, _: Complement, unit: Expr) -> Expr:
        """2^15 - u."""
        return self.arithmetic.rest_of(unit)

    def mul_add(self, _: MulAdd, f: Expr, c: Expr, i: Expr, g: Expr) -> Expr:
        """rs(f*c + rs(i*g, exponent of c), 15), within +-32767."""
        numbers = self.arithmetic
        gained = numbers.rounding_shift(numbers.weighed(i, g), self.op.cell_exponent)
        return tir.name(numbers.settled(numbers.weighed(f, c) + gained, 15, lowest=-32767))

    def lerp(self, _: Lerp, z: Expr, n: Expr, h: Expr) -> Expr:
        """sat16(rs((2^15 - z)*n + z*h, 15))."""
        numbers = self.arithmetic
        mixed = numbers.weighed(numbers.rest_of(z), n) + numbers.weighed(z, h)
        return numbers.settled(mixed, 15)

    def scale(self, _: Scale, unit: Expr, value: Expr) -> Expr:
        """rs(u*v, 15)."""
        return self.arithmetic.reduced(self.arithmetic.weighed(unit, value), 15)

    def apply(self, node: Apply, value: Expr) -> Expr:
        """A table's entry for a state in the format of its range."""
        moved = self.arithmetic.moved(value, self.op.cell_exponent - (15 - SIGNED_FRACTION))
        return tir.name(self._look_up(node.function, moved))

    def flush(self, _: Flush, value: Expr) -> Expr:
        """The value: integers have no denormals."""
        return value

    def narrow(self, _: Narrow, value: Expr) -> Expr:
        """rs(v * output_multiplier, output_shift), within +-127; of 16 bits rs(v, h_exponent)."""
        if self.op.integer_cell().states[0].form is not StateForm.NARROW:
            return tir.name(self.arithmetic.moved(value, -self.op.h_exponent))
        multiplier, shift = self.op.output_multiplier, self.op.output_shift
        return self.arithmetic.narrow(tir.name(value), multiplier, shift)

    def _look_up(self, function: int, value: Expr) -> Expr:
        return self.arithmetic.look_up(self.tables, self.rows[function], value)
