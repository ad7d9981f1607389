"""Sixteen products at once by vmladava (Helium: Cortex-M55)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import ScalarProduct
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_GROUP, _WORD = 16, 4


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

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """The elements in registers."""
        lanes = self._lanes
        start = vector.start + group * _GROUP
        return [
            tir.name(tir.load_vector(vector.buffer, start + at, lanes))
            for at in range(0, _GROUP, lanes)
        ]

    def weights(self, data: Expr, start: Expr, group: Expr) -> list[Expr]:
        """The bytes, widened where the vector is."""
        lanes, bytes_ = self._lanes, tir.flat(data, "int8")
        first = start * _WORD + group * _GROUP
        return [
            tirx.Cast(f"{self.dtype}x{lanes}", tir.load_vector(bytes_, first + at, lanes))
            for at in range(0, _GROUP, lanes)
        ]

    def add(self, total: Expr, weights: Sequence[Expr], factors: Sequence[Expr]) -> Expr:
        """One instruction for each register."""
        zero = tir.integer(0)
        for weight, factor in zip(weights, factors, strict=True):
            total = tirx.call_llvm_pure_intrin(
                "int32", "llvm.arm.mve.vmldava", zero, zero, zero, total, weight, factor
            )
        return total

    @property
    def _lanes(self) -> int:
        return _GROUP if self.dtype == "int8" else _GROUP // 2
