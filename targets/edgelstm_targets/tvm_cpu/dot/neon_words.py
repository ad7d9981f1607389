"""Bytes by sdot (ARMv8.2 dot products): four activations in a lane of a register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"
_WORDS = 4


@dataclass(frozen=True, slots=True)
class NeonWords(DotProduct):
    """Four int8 to a word; four words are read at once, LLVM takes them by lane."""

    stored: ClassVar[str] = "int8"
    in_parts: ClassVar[bool] = True

    @property
    def groups(self) -> int:
        """A register of words."""
        return _WORDS

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """One byte each."""
        del extent
        self.put(target, target_start, values)

    def factors_of(self, vector: Vector, group: Expr, count: int) -> list[list[Expr]]:
        """The words."""
        return words_by_lane(vector.buffer, vector.start + group, count)

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """One instruction."""
        return sdot(total, words, factors[0])


def words_by_lane(buffer: Buffer, at: Expr, count: int) -> list[list[Expr]]:
    """Each of the first `count` of four words that follow each other, in every lane."""
    words = tir.name(tir.load_vector(buffer, at, _WORDS))
    return [[tir.shuffle(words, [i] * _WORDS)] for i in range(count)]


def sdot(total: Expr, words: Expr, factor: Expr) -> Expr:
    """For each lane the sum, and four products of signed bytes."""
    return tirx.call_llvm_pure_intrin(
        "int32x4",
        _SDOT,
        total,
        tirx.reinterpret("int8x16", words),
        tirx.reinterpret("int8x16", factor),
    )
