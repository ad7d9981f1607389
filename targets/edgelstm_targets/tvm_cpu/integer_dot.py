"""Products of packed bytes with integer vectors: one way per instruction set, all of them exact.

Weights stand as 32-bit words, four consecutive inputs of a unit each, every byte the weight plus an
offset (`ir/quantized_kernels.py`). Sums wrap around at 32 bits; the final one fits, so that it does
not matter what the offset adds on the way: `Vector.correction` takes it off.

| form | activations | instructions for one register of words |
|---|---|---|
| BYTES | int8 | vpdpbusd: 1 |
| SIGNS | int8 | exclusive or, pmaddubsw, pmaddwd by ones, addition: 4 |
| PAIRS | int16 | even and odd bytes as 16 bits, twice pmaddwd: 6 |
| SINGLES | int8, int16 | any processor: byte by byte, 12 |

SIGNS: pmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates. The
magnitude of the activation is the unsigned byte. The signed one is w, or where the activation is
negative its complement -w - 1: at most 2 * 128 * 128 = 2^15 below zero, so that nothing saturates.
All of that is the exclusive or of w + 128 with 0x80 or 0x7F. What the complements miss is the sum
of the negative activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from tvm import tirx

from edgelstm_compiler.ir.quantized_kernels import K_GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

LANES = 16
"""Elements of a vector that are prepared at once."""
_UNROLLED = 4

_MADD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
_DOT = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
_MADD_BYTES = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}


class Form(Enum):
    """How a vector stands in memory."""

    BYTES = auto()  # int8, four to a word
    SIGNS = auto()  # magnitudes as bytes, four to a word; behind them what weights are xored with
    PAIRS = auto()  # int16, each group of four as 0, 2, 1, 3: two words
    SINGLES = auto()  # int16 one by one


@dataclass(frozen=True, slots=True)
class Vector:
    """A prepared vector.

    Args:
        buffer: int32 words, or int16 for SINGLES.
        start: where it begins.
        correction: what is too much in every sum; None: nothing.
        masks: where the words stand that weights are xored with (SIGNS).
    """

    buffer: Buffer
    start: int
    correction: Expr | None
    masks: int = 0


@dataclass(frozen=True, slots=True)
class DotProduct:
    """Products with one kind of vector.

    Args:
        isa: the instruction set.
        dtype: of the vector, "int8" or "int16".
        weight_offset: 0 or 128.
    """

    isa: InstructionSet
    dtype: str
    weight_offset: int

    @property
    def form(self) -> Form:
        """How the vector is prepared."""
        if self.isa.dot and self.dtype == "int8" and self.weight_offset == 128:
            return Form.BYTES if self.isa.dot == "vnni" else Form.SIGNS
        return Form.PAIRS if self.isa.dot else Form.SINGLES

    @property
    def splits_chains(self) -> bool:
        """Whether an addition takes so long that several sums have to run side by side."""
        return self.form is Form.BYTES

    def prepare(
        self, work: Buffer, start: int, extent: int, element: Callable[[Expr, int], Expr]
    ) -> Vector:
        """Write a vector to memory as the products read it.

        Args:
            work: memory, as any type.
            start: byte at which the vector is to stand; there is room for whole registers.
            extent: elements; zeros follow up to a multiple of LANES.
            element: gives LANES elements from one on as int32, of which `count` exist.
        """
        form = self.form
        is_bytes = form in (Form.BYTES, Form.SIGNS)
        dtype = "int8" if is_bytes else "int16"
        target = tir.flat(work.data, dtype)
        first = start if is_bytes else start // 2
        masks = start - (-extent // LANES) * LANES
        zero = tir.constant(0, LANES, "int32")
        total = tir.local(LANES, "int32")
        if self.weight_offset:
            tir.store_vector(total, 0, zero, LANES)

        def put(at: Expr, values: Expr) -> None:
            tir.store_vector(target, at, tirx.Cast(f"{dtype}x{LANES}", values), LANES)

        def write(at: Expr, count: int) -> None:
            values = element(at, count)
            if count < LANES:
                values = tirx.Select(tir.first_lanes(count, LANES), values, zero)
            values = tir.name(values)
            if self.weight_offset:
                counted = tirx.min(values, zero) if form is Form.SIGNS else values
                so_far = tir.load_vector(total, 0, LANES)
                tir.store_vector(total, 0, so_far + counted, LANES)
            if form is Form.PAIRS:
                order = [4 * group + k for group in range(LANES // 4) for k in (0, 2, 1, 3)]
                values = tir.shuffle(values, order)
            if form is Form.SIGNS:
                put(first + at, tirx.max(values, zero - values))
                sign = values >> tir.constant(31, LANES, "int32")
                put(masks + at, sign ^ tir.constant(-128, LANES, "int32"))
            else:
                put(first + at, values)

        whole = extent // LANES
        if whole > _UNROLLED:
            with tir.loop(whole) as i:
                write(i * LANES, LANES)
        else:
            for i in range(whole):
                write(tir.integer(i * LANES), LANES)
        if extent % LANES:
            write(tir.integer(whole * LANES), extent % LANES)
        correction = None
        if self.weight_offset:
            elements = tir.sum_lanes(tir.load_vector(total, 0, LANES))
            if form is not Form.SIGNS:
                elements = elements * tir.integer(self.weight_offset)
            correction = tir.name(elements)
        if form is Form.SINGLES:
            return Vector(target, first, correction)
        return Vector(tir.flat(work.data, "int32"), start // 4, correction, masks // 4)

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """The elements of one group of four, in every lane."""
        if self.form is Form.SIGNS:
            starts = (vector.start, vector.masks)
            return [
                tir.name(tir.broadcast(vector.buffer[at + group], self.isa.lanes)) for at in starts
            ]
        count = {Form.BYTES: 1, Form.PAIRS: 2, Form.SINGLES: K_GROUP}[self.form]
        words = [vector.buffer[vector.start + group * count + i] for i in range(count)]
        if self.form is Form.SINGLES:
            words = [tirx.Cast("int32", word) for word in words]
        return [tir.name(tir.broadcast(word, self.isa.lanes)) for word in words]

    def add(self, total: Expr, words: Expr, factors: list[Expr]) -> Expr:
        """The sums of a register of units, and a register of weights times `factors`."""
        lanes = self.isa.lanes
        if self.form is Form.BYTES:
            return tirx.call_llvm_pure_intrin(
                f"int32x{lanes}",
                _DOT[lanes],
                total,
                tirx.reinterpret(f"uint8x{4 * lanes}", words),
                tirx.reinterpret(f"int8x{4 * lanes}", factors[0]),
            )
        if self.form is Form.SIGNS:
            magnitudes, masks = factors
            pairs = tirx.call_llvm_pure_intrin(
                f"int16x{2 * lanes}",
                _MADD_BYTES[lanes],
                tirx.reinterpret(f"uint8x{4 * lanes}", magnitudes),
                tirx.reinterpret(f"int8x{4 * lanes}", words ^ masks),
            )
            return total + self._pairs(pairs, tir.constant(1, 2 * lanes, "int16"))
        words = tir.name(words)
        if self.form is Form.SINGLES:
            for k, factor in enumerate(factors):
                total = total + self._byte(words, k) * factor
            return total
        return total + (
            self._pairs(self._even(words), factors[0]) + self._pairs(self._odd(words), factors[1])
        )

    def _pairs(self, weights: Expr, factor: Expr) -> Expr:
        lanes = self.isa.lanes
        kind = f"int16x{2 * lanes}"
        return tirx.call_llvm_pure_intrin(
            f"int32x{lanes}",
            _MADD[lanes],
            tirx.reinterpret(kind, weights),
            tirx.reinterpret(kind, factor),
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

    def _byte(self, words: Expr, k: int) -> Expr:
        lanes = self.isa.lanes
        if self.weight_offset:
            shifted = words >> tir.constant(8 * k, lanes, "int32")
            return shifted & tir.constant(0xFF, lanes, "int32")
        raised = words << tir.constant(24 - 8 * k, lanes, "int32")
        return raised >> tir.constant(24, lanes, "int32")
