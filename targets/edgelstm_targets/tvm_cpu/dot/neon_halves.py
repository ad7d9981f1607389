"""Activations of 16 bits by smlal, and what NEON without dot products needs otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_compiler.ir.numerics import K_GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import LANES, DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_BYTES = {"int8": 1, "int16": 2}
_REGISTER = 16
# Names on AArch64 and on ARMv7.
_MULTIPLY = {
    "int8": ("int16x8", "llvm.aarch64.neon.smull.v8i16", "llvm.arm.neon.vmulls.v8i16"),
    "int16": ("int32x4", "llvm.aarch64.neon.smull.v4i32", "llvm.arm.neon.vmulls.v4i32"),
}
_PAIRS = ("llvm.aarch64.neon.saddlp.v4i32.v8i16", "llvm.arm.neon.vpadals.v4i32.v8i16")


@dataclass(frozen=True, slots=True)
class NeonWidening(DotProduct):
    """Products that are twice as wide as their factors.

    The vector stands on the stack, each group of four as often as a register holds it: what is
    repeated by an instruction, LLVM takes apart again, and multiplies halves of registers.
    """

    in_parts: ClassVar[bool] = True
    temporaries: ClassVar[int] = 4

    @property
    def is_wide(self) -> bool:
        """On AArch64; the registers of ARMv7 are two halves, which have names of their own."""
        return self.isa.triple.startswith("aarch64")

    @property
    def groups(self) -> int:
        """On ARMv7 as few as one addition takes: registers are few, and LLVM loads early."""
        return 4 if self.is_wide else 2

    @property
    def copies(self) -> int:
        """How often a group stands in memory."""
        return (_REGISTER if self.is_wide else _REGISTER // 2) // (K_GROUP * _BYTES[self.stored])

    def room(self, work: Buffer, start: int, extent: int) -> tuple[Buffer, int]:
        """On the stack; in the memory given where those of several columns are kept at once."""
        if self.isa.keeps_vectors:
            return work, start // self.copies
        return tir.local(-(-extent // LANES) * LANES * self.copies, self.stored), 0

    def vector(self, work: Buffer, start: int, extent: int, total: Expr | None) -> Vector:
        """Places count elements, each of which stands there as often as there are copies."""
        del extent, total
        word = _BYTES[self.read_as]
        return Vector(tir.flat(work.data, self.read_as), start * self.copies // word, None)

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """Each group as often as needed."""
        del extent
        narrow = tir.name(tirx.Cast(f"{self.stored}x{LANES}", values))
        for group in range(0, LANES, K_GROUP):
            order = [group + k for k in range(K_GROUP)] * self.copies
            at = (target_start + group) * self.copies
            tir.store_vector(target, at, tir.shuffle(narrow, order), K_GROUP * self.copies)

    def repeated(self, vector: Vector, group: Expr, count: int) -> list[Expr]:
        """The groups as they stand in memory."""
        lanes = K_GROUP * self.copies
        return [
            tir.name(tir.load_vector(vector.buffer, vector.start + (group + i) * lanes, lanes))
            for i in range(count)
        ]

    def half(self, value: Expr, half: int) -> Expr:
        """One half of a register; a vector of the length of a half is both."""
        lanes = int(str(value.ty).partition("x")[2])
        half_lanes = _REGISTER // 2 // _BYTES[self.stored]
        if lanes == half_lanes:
            return value
        return tir.shuffle(value, range(half * half_lanes, (half + 1) * half_lanes))

    def multiplied(self, weights: Expr, factor: Expr) -> Expr:
        """Products of halves of registers."""
        kind, wide, narrow = _MULTIPLY[self.stored]
        return tirx.call_llvm_pure_intrin(kind, wide if self.is_wide else narrow, weights, factor)

    def add_pairs(self, total: Expr, products: Expr) -> Expr:
        """Neighbours added to int32 sums."""
        if self.is_wide:
            return total + tirx.call_llvm_pure_intrin("int32x4", _PAIRS[0], products)
        return tirx.call_llvm_pure_intrin("int32x4", _PAIRS[1], total, products)

    def add_neighbours(self, first: Expr, second: Expr) -> Expr:
        """The sums of two lanes each: of the first vector, then of the second."""
        if self.is_wide:
            name = "llvm.aarch64.neon.addp.v4i32"
            return tirx.call_llvm_pure_intrin("int32x4", name, first, second)
        halves = [
            tirx.call_llvm_pure_intrin(
                "int32x2",
                "llvm.arm.neon.vpadd.v2i32",
                tir.shuffle(value, (0, 1)),
                tir.shuffle(value, (2, 3)),
            )
            for value in (first, second)
        ]
        return tir.join(halves, 2)


@dataclass(frozen=True, slots=True)
class NeonHalves(NeonWidening):
    """The partial sums of a unit are those of every fourth input."""

    stored: ClassVar[str] = "int16"
    read_as: ClassVar[str] = "int16"
    registers: ClassVar[int] = 4

    def factors_of(self, vector: Vector, group: Expr, count: int) -> list[list[Expr]]:
        """Each group for the even units, and for the odd ones."""
        return [
            [self.half(factor, half) for half in range(2)]
            for factor in self.repeated(vector, group, count)
        ]

    def add_groups(
        self, totals: Sequence[Expr], words: Sequence[Expr], factors: Sequence[Sequence[Expr]]
    ) -> list[Expr]:
        """Six instructions."""
        results = list(totals)
        for line, factor in zip(words, factors, strict=True):
            narrow = tir.name(tirx.reinterpret("int8x16", line))
            for two in range(2):
                order = range(8 * two, 8 * two + 8)
                units = tir.name(tirx.Cast("int16x8", tir.shuffle(narrow, order)))
                for half in range(2):
                    product = self.multiplied(self.half(units, half), factor[half])
                    results[2 * two + half] = results[2 * two + half] + product
        return results

    def summed(self, totals: Sequence[Expr]) -> Expr:
        """The sum of the four inputs."""
        pairs = [self.add_neighbours(*totals[i : i + 2]) for i in (0, 2)]
        return self.add_neighbours(*pairs)
