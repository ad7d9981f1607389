"""The integer arithmetic of scheme int8-full on vectors: `edgelstm_compiler/quant/README.md`.

Everything is int32 in two's complement; nothing overflows by construction of the constants.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

TABLE_ENTRIES = 513
STEP_BITS = 7

_GATHER = {
    ("avx2", 4): ("llvm.x86.avx2.gather.d.d", "int32", "int8"),
    ("avx2", 8): ("llvm.x86.avx2.gather.d.d.256", "int32", "int8"),
    ("avx512", 16): ("llvm.x86.avx512.mask.gather.dpi.512", "bool", "int32"),
}


def makes_lowest(multiplier: int, shift: int) -> bool:
    """Whether an h in Q0.15 may come to less than -127 steps."""
    return (-32768 * multiplier + (1 << shift >> 1)) >> shift < -127


@dataclass(frozen=True, slots=True)
class Integers:
    """Operations on int32 vectors.

    A *half* is a vector of numbers that fit into 16 bits, a *unit* one of Q0.15 in [0, 1] as `unit`
    and `look_up` make it; here they are int32 like everything else, `neon_integers.py` has others.

    Args:
        lanes: of the vectors; 1 for scalars.
        isa: the instruction set.
    """

    lanes: int
    isa: InstructionSet

    @property
    def kind(self) -> str:
        """TVM's name of the vectors' type."""
        return "int32" if self.lanes == 1 else f"int32x{self.lanes}"

    def number(self, value: int) -> Expr:
        """A constant."""
        return tir.constant(value, self.lanes, "int32")

    def half(self, value: Expr) -> Expr:
        """Loaded integers as a half."""
        return tirx.Cast(self.kind, value)

    def wide(self, value: Expr) -> Expr:
        """Narrower integers, or a half, as int32."""
        return tirx.Cast(self.kind, value)

    def narrowed_to(self, dtype: str, value: Expr) -> Expr:
        """The low bits."""
        return tirx.Cast(dtype if self.lanes == 1 else f"{dtype}x{self.lanes}", value)

    def shifted(self, value: Expr, bits: int) -> Expr:
        """The floor of value / 2^bits."""
        return value >> self.number(bits) if bits else value

    def rounding_shift(self, value: Expr, bits: int) -> Expr:
        """The value / 2^bits, rounded half up."""
        return self.shifted(value + self.number(1 << (bits - 1)), bits) if bits else value

    def clamp(self, value: Expr, low: int, high: int) -> Expr:
        """Within [low, high]."""
        return tirx.min(tirx.max(value, self.number(low)), self.number(high))

    def saturated(self, value: Expr) -> Expr:
        """The int32 within int16, as a half."""
        return self.clamp(value, -32768, 32767)

    def bounded(self, value: Expr, limit: int) -> Expr:
        """The int32 within [-limit, limit], which are 16 bits, as a half."""
        return self.clamp(value, -limit, limit)

    def moved(self, value: Expr, bits: int) -> Expr:
        """A half * 2^bits, saturated; rounded where bits are negative."""
        if bits < 0:
            return self.rounding_shift(value, -bits)
        return self.saturated(value << self.number(bits)) if bits else value

    def product(self, a: Expr, b: Expr) -> Expr:
        """Of two halves, as int32."""
        return a * b

    def reduced(self, value: Expr, bits: int) -> Expr:
        """The int32 / 2^bits, rounded, which fits 16 bits, as a half."""
        return self.rounding_shift(value, bits)

    def settled(self, value: Expr, bits: int, lowest: int = -32768) -> Expr:
        """The int32 / 2^bits, rounded, within [lowest, 32767], as a half."""
        return self.clamp(self.rounding_shift(value, bits), lowest, 32767)

    def narrow(self, h: Expr, multiplier: int, shift: int) -> Expr:
        """The h in Q0.15 in the steps of int8, within +-127, not narrowed yet."""
        steps = self.rounding_shift(h * self.number(multiplier), shift)
        # -128 is one instruction less where no h comes to it.
        return self.clamp(steps, -127 if makes_lowest(multiplier, shift) else -128, 127)

    def unit(self, value: Expr) -> Expr:
        """From t = 2y - 1 in Q0.15 to y in Q0.15, 0 to 32768."""
        return self.shifted(value + self.number(32769), 1)

    def rest_of(self, unit: Expr) -> Expr:
        """The unit 1 - y."""
        return self.number(32768) - unit

    def weighed(self, unit: Expr, value: Expr) -> Expr:
        """A half times y, as int32."""
        return unit * value

    def handed(self, unit: Expr) -> Expr:
        """A unit as a half that can be stored."""
        return unit - self.number(16384)

    def taken(self, value: Expr) -> Expr:
        """The unit of a half that `handed` made."""
        return value + self.number(16384)

    def plain(self, unit: Expr) -> Expr:
        """The number y * 2^15 of a unit, as int32."""
        return unit

    def look_up(self, tables: Buffer, row: int, value: Expr) -> Expr:
        """A function of a half from its table, linear between two entries, as a half."""
        value = tir.name(value)
        entry = tir.name(self.shifted(value, STEP_BITS) + self.number(256 + row * TABLE_ENTRIES))
        rest = value & self.number((1 << STEP_BITS) - 1)
        low, high = self._pairs(tables, entry)
        low = tir.name(low)
        return low + self.rounding_shift((high - low) * rest, STEP_BITS)

    def _pairs(self, tables: Buffer, entry: Expr) -> tuple[Expr, Expr]:
        """The entries at `entry`, and those behind them."""
        width = min(self.lanes, self.isa.lanes)
        gather = _GATHER.get((self.isa.gather, width))
        if gather is None:
            following = entry + self.number(1)
            return self.wide(tables[entry]), self.wide(tables[following])
        pieces = [
            self._gathered(gather, tables, self._piece(entry, first, width), width)
            for first in range(0, self.lanes, width)
        ]
        both = pieces[0] if len(pieces) == 1 else tir.name(tir.join(pieces, width))
        return self.shifted(both << self.number(16), 16), self.shifted(both, 16)

    def _piece(self, value: Expr, first: int, width: int) -> Expr:
        if width == self.lanes:
            return value
        return tir.shuffle(value, range(first, first + width))

    def _gathered(
        self, gather: tuple[str, str, str], tables: Buffer, entry: Expr, width: int
    ) -> Expr:
        function, mask, scale = gather
        everywhere = (
            tirx.Broadcast(tirx.const(True, "bool"), width)
            if mask == "bool"
            else tir.constant(-1, width, mask)
        )
        return tir.name(
            tirx.call_llvm_pure_intrin(
                f"int32x{width}",
                function,
                tir.constant(0, width, "int32"),
                tir.address(tables, 0),
                entry,
                everywhere,
                tirx.const(2, scale),
            )
        )
