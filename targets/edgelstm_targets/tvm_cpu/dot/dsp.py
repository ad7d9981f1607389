"""Two products at once by smlad (DSP extension: Cortex-M4, M7, M33).

Packed bytes b0 .. b3 are b0 + 128, b1, b2 + 128, b3: halves of the word are (b0 + 128) + 256 b1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import Rows, ScalarProduct
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

LONGEST = 512
"""Elements of a vector whose scaled sums fit: 512 * 127 * 127 and a rounding are below 2^23."""

_WORDS = 16


@dataclass(frozen=True, slots=True)
class _Pairs(ScalarProduct):
    """A group of a vector is two words, each two factors of 16 bits."""

    @property
    def stored(self) -> str:
        """Words."""
        return "int32"

    @property
    def stored_per_group(self) -> int:
        """One for two elements."""
        return 2

    def body(self, gates: int) -> int:
        """About sixteen words of weights."""
        return max(1, _WORDS // gates)

    def counted(self, values: Sequence[Expr]) -> Expr:
        """The even ones."""
        return values[0] + values[2]

    def add_group(self, sums: Buffer, gates: int, rows: Rows, vector: Vector, group: Expr) -> None:
        """One word for each gate, two for all of them."""
        words = tir.flat(rows.data, "int32")
        factors = [tir.name(vector.buffer[vector.start + (group * 2 + i)]) for i in range(2)]
        for gate in range(gates):
            word = tir.name(words[rows.start + (group * gates + gate)])
            tir.store(sums, gate, self.add(sums[gate], word, factors))

    def add(self, total: Expr, word: Expr, factors: Sequence[Expr]) -> Expr:
        """The sum of a gate, and four weights times the vector."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class DspPairs(_Pairs):
    """For all vectors: bytes widened to 16 bits, 5 instructions for 4 products."""

    def arrange(self, target: Buffer, target_start: Expr, values: Sequence[Expr]) -> None:
        """The even elements, then the odd ones."""
        a0, a1, a2, a3 = values
        tir.store(target, target_start, _pair(a0, a2))
        tir.store(target, target_start + 1, _pair(a1, a3))

    def add(self, total: Expr, word: Expr, factors: Sequence[Expr]) -> Expr:
        """Two pairs of products."""
        even, odd = factors
        eight, rest = tir.integer(8), tir.integer(24)
        turned = ((word >> eight) & tir.integer(0x00FFFFFF)) | (word << rest)
        return _smlad(_signed(turned), odd, _smlad(_unsigned(word), even, total))


@dataclass(frozen=True, slots=True)
class DspBytes(_Pairs):
    """For vectors within [-127, 127]: 4 instructions for 4 products, sums times 256.

    The halves of a word times a1, a3 give 256 (b1 a1 + b3 a3) + (b0 + 128) a1 + (b2 + 128) a3; the
    even bytes times 256 a0 - a1, 256 a2 - a3 take the last two away and bring 256 (b0 a0 + b2 a2).
    """

    scale_bits: ClassVar[int] = 8

    def arrange(self, target: Buffer, target_start: Expr, values: Sequence[Expr]) -> None:
        """The odd elements, then the even ones less them."""
        a0, a1, a2, a3 = values
        scale = tir.integer(256)
        tir.store(target, target_start, _pair(a1, a3))
        tir.store(target, target_start + 1, _pair(a0 * scale - a1, a2 * scale - a3))

    def add(self, total: Expr, word: Expr, factors: Sequence[Expr]) -> Expr:
        """Two pairs of products."""
        odd, even = factors
        return _smlad(_unsigned(word), even, _smlad(word, odd, total))


def _pair(low: Expr, high: Expr) -> Expr:
    """The low 16 bits of both."""
    return (low & tir.integer(0xFFFF)) | (high << tir.integer(16))


def _unsigned(word: Expr) -> Expr:
    """Bytes 0 and 2 as 16 bits."""
    return tir.name(word & tir.integer(0x00FF00FF))


def _signed(word: Expr) -> Expr:
    """Bytes 0 and 2 as 16 bits, with their signs."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.arm.sxtb16", word)


def _smlad(a: Expr, b: Expr, total: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin("int32", "llvm.arm.smlad", a, b, total)
