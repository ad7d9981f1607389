"""The integer arithmetic of scheme int8-full by NEON: 16 bits wherever values fit into them.

Narrowing, rounding and saturation are one instruction each (rshrn, sqrshrn, srhadd, ...); every one
of them gives what the recipe in `edgelstm_compiler/quant/README.md` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.integer_arithmetic import (
    STEP_BITS,
    TABLE_ENTRIES,
    Integers,
    makes_lowest,
)
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_WORDS, _HALVES = 4, 8
_NARROWEST = 16
"""Most bits that a narrowing instruction shifts by."""


@dataclass(frozen=True, slots=True)
class NeonIntegers(Integers):
    """As `Integers`; halves are int16 vectors, a unit y stands as the int16 y - 32768."""

    def half(self, value: Expr) -> Expr:
        """As int16."""
        return self._cast("int16", value)

    def rounding_shift(self, value: Expr, bits: int) -> Expr:
        """One instruction."""
        if not bits:
            return value
        amount = tir.constant(-bits, _WORDS, "int32")
        return self._pieces(
            _WORDS, value, lambda piece: self._call("srshl", "int32x4", piece, amount)
        )

    def saturated(self, value: Expr) -> Expr:
        """By narrowing."""
        return self._narrowed("sqxtn", value)

    def bounded(self, value: Expr, limit: int) -> Expr:
        """After narrowing."""
        half = self.saturated(value)
        return tirx.min(tirx.max(half, self._number16(-limit)), self._number16(limit))

    def moved(self, value: Expr, bits: int) -> Expr:
        """One instruction."""
        if not bits:
            return value
        name = "sqshl" if bits > 0 else "srshl"
        amount = tir.constant(bits, _HALVES, "int16")
        return self._pieces(
            _HALVES, value, lambda piece: self._call(name, "int16x8", piece, amount)
        )

    def product(self, a: Expr, b: Expr) -> Expr:
        """By name: LLVM loses sight of what was 16 bits wide."""
        a, b = tir.name(a), tir.name(b)
        pieces = [
            self._call(
                "smull",
                "int32x4",
                tir.shuffle(a, range(first, first + _WORDS)),
                tir.shuffle(b, range(first, first + _WORDS)),
            )
            for first in range(0, self.lanes, _WORDS)
        ]
        return tir.name(tir.join(pieces, _WORDS))

    def reduced(self, value: Expr, bits: int) -> Expr:
        """By narrowing."""
        return self._rounded("rshrn", value, bits)

    def settled(self, value: Expr, bits: int, lowest: int = -32768) -> Expr:
        """By narrowing with saturation."""
        half = self._rounded("sqrshrn", value, bits)
        return half if lowest == -32768 else tirx.max(half, self._number16(lowest))

    def narrow(self, h: Expr, multiplier: int, shift: int) -> Expr:
        """As int8."""
        lowest = -127 if makes_lowest(multiplier, shift) else -32768
        steps = self.settled(self.product(h, self._number16(multiplier)), shift, lowest)
        return self._pieces(_HALVES, steps, lambda piece: self._call("sqxtn", "int8x8", piece))

    def unit(self, value: Expr) -> Expr:
        """((t + 32769) >> 1) - 32768 is (t - 32768 + 1) >> 1: half the sum, rounded."""
        low = tir.constant(-32768, _HALVES, "int16")
        return self._pieces(
            _HALVES, value, lambda piece: self._call("srhadd", "int16x8", piece, low)
        )

    def rest_of(self, unit: Expr) -> Expr:
        """(32768 - y) - 32768 is -32768 - (y - 32768)."""
        return self._number16(-32768) - unit

    def weighed(self, unit: Expr, value: Expr) -> Expr:
        """The product is (y - 32768) * value + value * 32768."""
        return (self.wide(value) << self.number(15)) + self.product(unit, value)

    def handed(self, unit: Expr) -> Expr:
        """As it is."""
        return unit

    def taken(self, value: Expr) -> Expr:
        """As it is."""
        return value

    def plain(self, unit: Expr) -> Expr:
        """As int32."""
        return self.wide(unit) + self.number(32768)

    def look_up(self, tables: Buffer, row: int, value: Expr) -> Expr:
        """A function of a half from its table, as a half.

        T[i] + (((T[i+1] - T[i]) * r + 64) >> 7) is T[i] * (128 - r) + T[i+1] * r, narrowed.
        """
        value = tir.name(value)
        entry = tir.name(value >> self._number16(STEP_BITS))
        middle = tir.behind(tables, row * TABLE_ENTRIES + TABLE_ENTRIES // 2)
        pairs = [self._pair(middle, entry, lane) for lane in range(self.lanes)]
        order = [tir.integer(lane) for lane in range(self.lanes)]
        both = self._kept(tirx.Shuffle(pairs, order), _WORDS)
        both = tir.name(tirx.reinterpret(f"int16x{2 * self.lanes}", both))
        low, high = (
            self._kept(tir.shuffle(both, range(i, 2 * self.lanes, 2)), _HALVES) for i in range(2)
        )
        after = tir.name(value & self._number16((1 << STEP_BITS) - 1))
        before = self._number16(1 << STEP_BITS) - after
        weighed = self.product(low, before) + self.product(high, after)
        return self._rounded("rshrn", weighed, STEP_BITS)

    def _pair(self, tables: Buffer, entry: Expr, lane: int) -> Expr:
        """The entry at a lane's index and the one behind it, as one int32."""
        at = tirx.Cast("int32", tir.shuffle(entry, [lane]))
        return tirx.reinterpret("int32", tir.load_vector(tables, at, 2))

    def _rounded(self, name: str, value: Expr, bits: int) -> Expr:
        if not bits:
            return self.saturated(value)
        if bits > _NARROWEST:
            return self.saturated(self.rounding_shift(value, bits))
        return self._narrowed(name, value, bits)

    def _narrowed(self, name: str, value: Expr, *bits: int) -> Expr:
        """Int32 to int16, four lanes at a time."""
        narrow = self._pieces(
            _WORDS, value, lambda piece: self._call(name, "int16x4", piece, *map(self._bits, bits))
        )
        return self._kept(narrow, _HALVES)

    def _kept(self, value: Expr, size: int) -> Expr:
        """The same in whole registers: LLVM takes them apart for what follows, at a higher price.

        A fence for reordering of floating-point operations is no instruction.
        """
        if not self._is_wide:
            return tir.name(value)
        kind = f"{str(value.ty).partition('x')[0]}x{size}"

        def fence(piece: Expr) -> Expr:
            floats = tirx.reinterpret("float32x4", piece)
            kept = tirx.call_llvm_pure_intrin("float32x4", "llvm.arithmetic.fence", floats)
            return tirx.reinterpret(kind, kept)

        return self._pieces(size, value, fence)

    def _pieces(self, size: int, value: Expr, change: Callable[[Expr], Expr]) -> Expr:
        value = tir.name(value)
        if self.lanes == size:
            return change(value)
        pieces = [
            change(tir.shuffle(value, range(first, first + size)))
            for first in range(0, self.lanes, size)
        ]
        return tir.name(tir.join(pieces, size))

    def _cast(self, dtype: str, value: Expr) -> Expr:
        return tirx.Cast(f"{dtype}x{self.lanes}", value)

    def _number16(self, value: int) -> Expr:
        return tir.constant(value, self.lanes, "int16")

    @property
    def _is_wide(self) -> bool:
        return self.isa.triple.startswith("aarch64")

    def _bits(self, bits: int) -> Expr:
        """How far a narrowing instruction shifts to the right."""
        return tir.integer(bits) if self._is_wide else tir.constant(-bits, _WORDS, "int32")

    def _call(self, name: str, kind: str, value: Expr, *more: Expr) -> Expr:
        function = f"aarch64.neon.{name}" if self._is_wide else f"arm.neon.{_ARMV7[name]}"
        suffix = f"v{kind.partition('x')[2]}i{kind.partition('x')[0].removeprefix('int')}"
        return tirx.call_llvm_pure_intrin(kind, f"llvm.{function}.{suffix}", value, *more)


_ARMV7 = {
    "smull": "vmulls",
    "rshrn": "vrshiftn",
    "sqrshrn": "vqrshiftns",
    "sqxtn": "vqmovns",
    "srhadd": "vrhadds",
    "sqshl": "vqshifts",
    "srshl": "vrshifts",
}
"""Names on ARMv7."""
