"""Bytes by vpdpbusd (AVX512-VNNI, AVX-VNNI): unsigned weights with signed activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu.dot.product import DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_DOT = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}


@dataclass(frozen=True, slots=True)
class X86Bytes(DotProduct):
    """Four int8 to a word."""

    stored: ClassVar[str] = "int8"
    splits_chains: ClassVar[bool] = True

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """One byte each."""
        del extent
        self.put(target, target_start, values)

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """The word."""
        return [self.spread(vector.buffer[vector.start + group])]

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """One instruction."""
        lanes = self.isa.lanes
        return tirx.call_llvm_pure_intrin(
            f"int32x{lanes}",
            _DOT[lanes],
            total,
            tirx.reinterpret(f"uint8x{4 * lanes}", words),
            tirx.reinterpret(f"int8x{4 * lanes}", factors[0]),
        )
