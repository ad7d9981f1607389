"""Bytes by pmaddubsw (SSSE3, AVX2, AVX-512BW) without its saturation.

pmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates. The
magnitude of the activation is the unsigned byte. The signed one is w, or where the activation is
negative its complement -w - 1: at most 2 * 128 * 128 = 2^15 below zero, so that nothing saturates.
All of that is the exclusive or of w + 128 with 0x80 or 0x7F. What the complements miss is the sum
of the negative activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import LANES, DotProduct, Vector
from edgelstm_targets.tvm_cpu.dot.x86_pairs import add_pairs
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_MADD_BYTES = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}


@dataclass(frozen=True, slots=True)
class X86Signs(DotProduct):
    """Magnitudes as bytes, four to a word; behind them what weights are xored with."""

    stored: ClassVar[str] = "int8"
    temporaries: ClassVar[int] = 4

    def masks(self, start: int, extent: int) -> int:
        """Behind the magnitudes."""
        return start - (-extent // LANES) * LANES

    def counted(self, values: Expr) -> Expr:
        """The negative elements."""
        return tirx.min(values, tir.constant(0, LANES, "int32"))

    def correction(self, total: Expr) -> Expr:
        """Their sum."""
        return total

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """Magnitudes, and masks from the signs."""
        zero = tir.constant(0, LANES, "int32")
        self.put(target, target_start, tirx.max(values, zero - values))
        sign = values >> tir.constant(31, LANES, "int32")
        behind = target_start + self.masks(0, extent)
        self.put(target, behind, sign ^ tir.constant(-128, LANES, "int32"))

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """Magnitudes and masks."""
        return [self.spread(vector.buffer[at + group]) for at in (vector.start, vector.masks)]

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """Four instructions."""
        lanes = self.isa.lanes
        magnitudes, masks = factors
        pairs = tirx.call_llvm_pure_intrin(
            f"int16x{2 * lanes}",
            _MADD_BYTES[lanes],
            tirx.reinterpret(f"uint8x{4 * lanes}", magnitudes),
            tirx.reinterpret(f"int8x{4 * lanes}", words ^ masks),
        )
        return total + add_pairs(lanes, pairs, tir.constant(1, 2 * lanes, "int16"))
