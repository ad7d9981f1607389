"""Sixteen products at once by vmladava (Helium: Cortex-M55)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import Rows, ScalarProduct
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_GROUP, _WORD, _BYTE = 16, 4, 255


@dataclass(frozen=True, slots=True)
class Helium(ScalarProduct):
    """Vectors as they are: one register of int8, two of int16."""

    @property
    def stored(self) -> str:
        """As they are."""
        return self.dtype

    @property
    def stored_per_group(self) -> int:
        """All of them."""
        return _GROUP

    def body(self, gates: int) -> int:
        """One group."""
        del gates
        return 1

    def times(self, count: int) -> Expr:
        """The same, unknown to LLVM: it would write the loop out, and run out of registers."""
        if count > _BYTE:
            return tir.integer(count)
        hidden = tirx.call_llvm_pure_intrin("int32", "llvm.arm.uxtb16", tir.integer(count))
        return tir.name(hidden)

    def prepare(
        self, work: Buffer, start: int, extent: int, element: Callable[[Expr], Expr]
    ) -> Vector:
        """Element by element, then zeros up to a whole group."""
        target = tir.flat(work.data, self.stored)
        first = start // (2 if self.stored == "int16" else 1)
        with tir.loop(extent) as i:
            tir.store(target, first + i, tirx.Cast(self.stored, element(i)))
        rest = -extent % _GROUP
        if rest:
            with tir.loop(rest) as i:
                tir.store(target, first + extent + i, tirx.const(0, self.stored))
        return Vector(target, first, None)

    def add_group(self, sums: Buffer, gates: int, rows: Rows, vector: Vector, group: Expr) -> None:
        """One multiplication of registers, or two; weights are widened where the vector is."""
        lanes = _GROUP if self.dtype == "int8" else _GROUP // 2
        bytes_, zero = tir.flat(rows.data, "int8"), tir.integer(0)
        first = rows.start * _WORD + group * (gates * _GROUP)
        elements = vector.start + group * _GROUP
        for at in range(0, _GROUP, lanes):
            factor = tir.name(tir.load_vector(vector.buffer, elements + at, lanes))
            for gate in range(gates):
                weight = tir.load_vector(bytes_, first + (gate * _GROUP + at), lanes)
                weight = tirx.Cast(f"{self.dtype}x{lanes}", weight)
                total = tirx.call_llvm_pure_intrin(
                    "int32", "llvm.arm.mve.vmldava", zero, zero, zero, sums[gate], weight, factor
                )
                tir.store(sums, gate, total)
