"""The nodes of a cell as float32 vectors; quotients share a division as far as they can."""

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
    Scale,
    Store,
)
from edgelstm_compiler.ir.activations import Activation
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Fraction, Functions
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.tensorir import Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed(Fraction):
    """A flushed value: `numerator` is its vector.

    Args:
        raw: the value before; functions of it need not wait until it is flushed.
    """

    raw: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture(Fraction):
    """A mixture with a quotient: `numerator` is its vector, which has to wait for the division.

    Args:
        estimate: nearly the same as a fraction, whose size is known before.
    """

    estimate: Fraction


@dataclass(frozen=True, slots=True)
class FloatNodes:
    """Nodes for one group of units; every value is a `Fraction`.

    Args:
        lanes: units.
        activations: this direction's functions, in ONNX order.
        clip: bound of what gates apply their function to, or None.
        peepholes: rows of P.
        has_fma: see `Functions`.
    """

    lanes: int
    activations: Sequence[Activation]
    clip: float | None
    peepholes: Sequence[Slot]
    has_fma: bool

    @property
    def functions(self) -> Functions:
        """Functions of the group's vectors."""
        return Functions(self.lanes, tir.name, self.has_fma)

    @property
    def is_parallel(self) -> bool:
        """Whether more operations are well spent where fewer of them follow one another."""
        return self.lanes > 1

    def total(self, value: Expr) -> Fraction:
        """The sum."""
        return Fraction(value)

    def load(self, slot: Slot, *, is_unit: bool) -> Fraction:
        """The vector."""
        del is_unit
        return Fraction(tir.name(slot.load(self.lanes)))

    def store(self, slot: Slot, value: Fraction, *, is_unit: bool) -> None:
        """Write the vector."""
        del is_unit
        slot.store(value.value, self.lanes)

    def keeps(self, made: Let, reader: Let | Store, phase: CellPhase) -> bool:
        """Sums and copies are kept, and factors of products whose divisions can be shared."""
        if isinstance(made.node, (Peephole, GatedSum, Flush, Narrow, Lerp)):
            return True
        consumer = reader.node if isinstance(reader, Let) else None
        if isinstance(consumer, Scale):
            nodes = {each.name: each.node for each in phase.body if isinstance(each, Let)}
            return all(isinstance(nodes.get(x), (Gate, Apply)) for x in consumer.operands)
        if isinstance(consumer, Lerp):
            return made.name != consumer.z  # which is read twice
        return isinstance(consumer, MulAdd)

    def named(self, value: Fraction) -> Fraction:
        """The quotient, computed once."""
        if isinstance(value, Flushed):
            return Flushed(tir.name(value.value), raw=value.raw)
        return Fraction(tir.name(value.value))

    def gate(self, node: Gate, total: Fraction) -> Fraction:
        """The function of the sum within +-clip."""
        x = total.value
        if self.clip is not None:
            x = self.functions.clamp(x, -self.clip, self.clip)
        return self.functions.fraction(self.activations[node.function], x)

    def peephole(self, node: Peephole, total: Fraction, value: Fraction) -> Fraction:
        """The sum + p*v."""
        return Fraction(total.value + self.peepholes[node.row].load(self.lanes) * value.value)

    def gated_sum(self, _: GatedSum, total: Fraction, unit: Fraction, inner: Fraction) -> Fraction:
        """The sum + u*inner."""
        return Fraction(total.value + unit.value * inner.value)

    def complement(self, _: Complement, unit: Fraction) -> Fraction:
        """1 - u."""
        return Fraction(self.functions.number(1.0) - unit.value)

    def mul_add(self, _: MulAdd, f: Fraction, c: Fraction, i: Fraction, g: Fraction) -> Fraction:
        """f*c + i*g; i*g has one division."""
        return Fraction(f.value * c.value + (i * g).value)

    def lerp(self, _: Lerp, z: Fraction, n: Fraction, h: Fraction) -> Fraction:
        """(1 - z)*n + z*h."""
        if n.denominator is None or not self.is_parallel:
            rest = self.functions.number(1.0) - z.value
            return Fraction(rest * n.value + z.value * h.value)
        numerator, denominator = tir.name(n.numerator), tir.name(n.denominator)
        rest, kept = tir.name(self.functions.number(1.0) - z.value), tir.name(z.value * h.value)
        estimate = Fraction(rest * numerator + kept * denominator, denominator)
        return Mixture(rest * (numerator / denominator) + kept, estimate=estimate)

    def scale(self, _: Scale, unit: Fraction, value: Fraction) -> Fraction:
        """u*v, with one division."""
        return unit * value

    def apply(self, node: Apply, value: Fraction) -> Fraction:
        """The function; as in ONNX Runtime, clip does not bound a state on its way to h."""
        activation = self.activations[node.function]
        if isinstance(value, Flushed):
            return self.functions.fraction_of_flushed(activation, value.raw)
        return self.functions.fraction(activation, value.value)

    def flush(self, _: Flush, value: Fraction) -> Fraction:
        """Zero where the next steps would meet denormals."""
        if isinstance(value, Mixture):
            return Fraction(self.functions.flush_by(value.estimate, value.numerator))
        if value.denominator is not None and self.is_parallel:
            numerator, denominator = tir.name(value.numerator), tir.name(value.denominator)
            return Fraction(self.functions.flushed_quotient(Fraction(numerator, denominator)))
        raw = tir.name(value.value)
        flushed = self.functions.flush(raw)
        return Flushed(flushed, raw=raw) if self.is_parallel else Fraction(flushed)

    def narrow(self, _: Narrow, value: Fraction) -> Fraction:
        """The value."""
        return value
