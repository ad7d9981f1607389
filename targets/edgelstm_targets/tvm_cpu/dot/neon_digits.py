"""Activations of 16 bits by sdot, as two digits of one byte: x = 256 * high + low.

Both digits are signed, so that the largest they give is 256 * 127 + 127 = 32639. What is above has
128 for its high digit: it is written as 127, and a second vector holds the 1 that is missing. Where
there is such an element the products are computed once more, with the second vector: inputs have
twice the range that calibration saw, so this is rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.neon_words import sdot, words_by_lane
from edgelstm_targets.tvm_cpu.dot.product import LANES, DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_WORDS = 4
_WORD = 4
_LARGEST = 256 * 127 + 127


@dataclass(frozen=True, slots=True)
class NeonDigits(DotProduct):
    """LANES high digits, then their low digits, and so on; behind them what is missing."""

    stored: ClassVar[str] = "int8"
    registers: ClassVar[int] = 2
    in_parts: ClassVar[bool] = True

    @property
    def counts(self) -> bool:
        """Whether anything is missing."""
        return True

    def counted(self, values: Expr) -> Expr:
        """Minus one for each element above the largest."""
        return (tir.constant(_LARGEST, LANES, "int32") - values) >> self._number(31)

    def room(self, work: Buffer, start: int, extent: int) -> tuple[Buffer, int]:
        """Places count elements, of two bytes each."""
        del extent
        return work, start // 2

    @property
    def groups(self) -> int:
        """A register of words."""
        return _WORDS

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """Digits, and what is missing."""
        rounded = (values + self._number(128)) >> self._number(8)
        high = tirx.min(rounded, self._number(127))
        first = target_start * 2
        self.put(target, first, high)
        self.put(target, first + LANES, values)
        behind = first + self._row(extent)
        self.put(target, behind, rounded - high)
        self.put(target, behind + LANES, self._number(0))

    def vector(self, work: Buffer, start: int, extent: int, total: Expr | None) -> Vector:
        """One vector, or two where something is missing."""
        assert total is not None
        rows = tir.name(tirx.Select(total < 0, tir.integer(2), tir.integer(1)))
        buffer = tir.flat(work.data, self.read_as)
        return Vector(buffer, 2 * start // _WORD, None, 0, rows, self._row(extent) // _WORD)

    def factors_of(self, vector: Vector, group: Expr, count: int) -> list[list[Expr]]:
        """High and low digits."""
        at = vector.start + group * 2
        high = words_by_lane(vector.buffer, at, count)
        low = words_by_lane(vector.buffer, at + _WORDS, count)
        return [[*pair[0], *pair[1]] for pair in zip(high, low, strict=True)]

    def add_groups(
        self, totals: Sequence[Expr], words: Sequence[Expr], factors: Sequence[Sequence[Expr]]
    ) -> list[Expr]:
        """Two instructions."""
        high, low = totals
        for line, (high_factor, low_factor) in zip(words, factors, strict=True):
            line = tir.name(line)
            high, low = sdot(high, line, high_factor), sdot(low, line, low_factor)
        return [high, low]

    def summed(self, totals: Sequence[Expr]) -> Expr:
        """The digits put together."""
        high, low = totals
        return (high << tir.constant(8, _WORDS, "int32")) + low

    def _row(self, extent: int) -> int:
        """Bytes of one vector."""
        return 2 * LANES * -(-extent // LANES)

    def _number(self, value: int) -> Expr:
        return tir.constant(value, LANES, "int32")
