"""Byte by byte, for any processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_compiler.ir.numerics import K_GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class Singles(DotProduct):
    """Elements as int16 one by one."""

    stored: ClassVar[str] = "int16"
    read_as: ClassVar[str] = "int16"
    temporaries: ClassVar[int] = 4

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """In order."""
        del extent
        self.put(target, target_start, values)

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """Four elements."""
        words = [vector.buffer[vector.start + group * K_GROUP + i] for i in range(K_GROUP)]
        return [self.spread(tirx.Cast("int32", word)) for word in words]

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """Twelve instructions."""
        words = tir.name(words)
        for k, factor in enumerate(factors):
            total = total + self._byte(words, k) * factor
        return total

    def _byte(self, words: Expr, k: int) -> Expr:
        lanes = self.isa.lanes
        if self.weight_offset:
            shifted = words >> tir.constant(8 * k, lanes, "int32")
            return shifted & tir.constant(0xFF, lanes, "int32")
        raised = words << tir.constant(24 - 8 * k, lanes, "int32")
        return raised >> tir.constant(24, lanes, "int32")
