"""Pairs of 16 bits by pmaddwd (SSE2, AVX2, AVX-512BW) or vpdpwssd: for activations of 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import LANES, DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_MADD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
_DOT = {8: "llvm.x86.avx512.vpdpwssd.256", 16: "llvm.x86.avx512.vpdpwssd.512"}


@dataclass(frozen=True, slots=True)
class X86Pairs(DotProduct):
    """Elements as int16, each group of four as 0, 2, 1, 3: two words."""

    stored: ClassVar[str] = "int16"
    temporaries: ClassVar[int] = 4

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """The even elements of each group first, as the weights' bytes are taken apart."""
        del extent
        order = [4 * group + k for group in range(LANES // 4) for k in (0, 2, 1, 3)]
        self.put(target, target_start, tir.shuffle(values, order))

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """The even and the odd elements."""
        return [self.spread(vector.buffer[vector.start + group * 2 + i]) for i in range(2)]

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """Six instructions; four with VNNI, and no register for products."""
        lanes, words = self.isa.lanes, tir.name(words)
        even, odd = factors
        if self.isa.dot == "vnni":
            total = dot_pairs(lanes, total, self._even(words), even)
            return dot_pairs(lanes, total, self._odd(words), odd)
        return total + (
            add_pairs(lanes, self._even(words), even) + add_pairs(lanes, self._odd(words), odd)
        )

    def _even(self, words: Expr) -> Expr:
        """Bytes 0 and 2 of each word as 16 bits."""
        if self.weight_offset:
            return words & tir.constant(0x00FF00FF, self.isa.lanes, "int32")
        signed = tirx.reinterpret(f"int16x{2 * self.isa.lanes}", words)
        eight = tir.constant(8, 2 * self.isa.lanes, "int16")
        return (signed << eight) >> eight

    def _odd(self, words: Expr) -> Expr:
        """Bytes 1 and 3 of each word as 16 bits."""
        kind = "uint16" if self.weight_offset else "int16"
        halves = tirx.reinterpret(f"{kind}x{2 * self.isa.lanes}", words)
        return halves >> tir.constant(8, 2 * self.isa.lanes, kind)


def add_pairs(lanes: int, weights: Expr, factor: Expr) -> Expr:
    """Products of 16 bits, added in pairs to 32 bits."""
    kind = f"int16x{2 * lanes}"
    return tirx.call_llvm_pure_intrin(
        f"int32x{lanes}",
        _MADD[lanes],
        tirx.reinterpret(kind, weights),
        tirx.reinterpret(kind, factor),
    )


def dot_pairs(lanes: int, total: Expr, weights: Expr, factor: Expr) -> Expr:
    """Sums, and products of 16 bits added to them in pairs: one instruction of VNNI."""
    kind = f"int16x{2 * lanes}"
    return tirx.call_llvm_pure_intrin(
        f"int32x{lanes}",
        _DOT[lanes],
        total,
        tirx.reinterpret(kind, weights),
        tirx.reinterpret(kind, factor),
    )
