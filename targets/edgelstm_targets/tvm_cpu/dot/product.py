"""Products of packed bytes with integer vectors: what every way of multiplying has in common.

Weights stand as 32-bit words, four consecutive inputs of a unit each, every byte the weight plus an
offset (`ir/numerics.py`). Sums wrap around at 32 bits; the final one fits, so that it does
not matter what the offset adds on the way: `Vector.correction` takes it off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

LANES = 16
"""Elements of a vector that are prepared at once."""
_UNROLLED = 4


@dataclass(frozen=True, slots=True)
class Vector:
    """A prepared vector.

    Args:
        buffer: its elements in the type in which they are read.
        start: where it begins.
        correction: what is too much in every sum; None: nothing.
        masks: where the words stand that weights are xored with (`x86_signs.py`).
        rows: how many vectors stand one behind the other, all of them to be multiplied and their
            products added (`neon_digits.py`); None: one.
        row_words: words from one of them to the next.
    """

    buffer: Buffer
    start: int
    correction: Expr | None
    masks: int = 0
    rows: Expr | None = None
    row_words: int = 0


@dataclass(frozen=True, slots=True)
class DotProduct:
    """One way of multiplying packed bytes with a vector; exact.

    A way says how a vector stands in memory (`stored`, `read_as`, `arrange`), what is read of it
    for a group of four inputs (`factors`), and how a register of weights is multiplied (`add`).
    Ways that take several groups together override `factors_of` and `add_groups`.

    Args:
        isa: the instruction set.
        dtype: of the vector, "int8" or "int16".
        weight_offset: 0 or 128.
    """

    isa: InstructionSet
    dtype: str
    weight_offset: int

    stored: ClassVar[str]
    """Type of the elements as they are written: "int8" or "int16"."""
    read_as: ClassVar[str] = "int32"
    """Type of the words that `factors` reads."""
    splits_chains: ClassVar[bool] = False
    """Whether an addition takes so long that several sums have to run side by side."""
    added: ClassVar[int] = 1
    """Groups of four that `add_groups` adds at once, a divisor of `groups`."""
    registers: ClassVar[int] = 1
    """Registers of partial sums for a register of units."""
    in_parts: ClassVar[bool] = False
    """Whether the sums of a section are computed in parts that fill half of the registers."""
    temporaries: ClassVar[int] = 0
    """Registers that a product needs beside sums, a line of weights and a factor."""

    @property
    def groups(self) -> int:
        """Groups of four whose factors are read at once."""
        return 1

    def arrange(self, target: Buffer, target_start: Expr, values: Expr, extent: int) -> None:
        """Write LANES elements.

        Args:
            target: memory as `stored`.
            target_start: where they are to stand.
            values: int32; zeros beyond the vector's end.
            extent: of the whole vector.
        """
        raise NotImplementedError

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """What `add` needs of one group of four elements, in every lane."""
        raise NotImplementedError

    def add(self, total: Expr, words: Expr, factors: Sequence[Expr]) -> Expr:
        """The sums of a register of units, and a register of weights times `factors`."""
        raise NotImplementedError

    def factors_of(self, vector: Vector, group: Expr, count: int) -> list[list[Expr]]:
        """The factors of `count` groups that follow each other, at most `groups`."""
        return [self.factors(vector, group + i if i else group) for i in range(count)]

    def add_groups(
        self, totals: Sequence[Expr], words: Sequence[Expr], factors: Sequence[Sequence[Expr]]
    ) -> list[Expr]:
        """Add the products of a register of units.

        Args:
            totals: its partial sums, `registers` of them.
            words: weights of `added` groups, or of fewer that are the last ones.
            factors: of these groups.
        """
        (total,) = totals
        for line, factor in zip(words, factors, strict=True):
            total = self.add(total, line, factor)
        return [total]

    def summed(self, totals: Sequence[Expr]) -> Expr:
        """The sums of a register of units from its partial sums."""
        (total,) = totals
        return total

    @property
    def counts(self) -> bool:
        """Whether something is summed up over the vector while it is written."""
        return self.weight_offset != 0

    def counted(self, values: Expr) -> Expr:
        """What is summed up over the vector for its correction."""
        return values

    def correction(self, total: Expr) -> Expr:
        """What is too much in every sum, from the sum of `counted`."""
        return total * tir.integer(self.weight_offset)

    def masks(self, start: int, extent: int) -> int:
        """Byte at which a second vector stands behind the first; 0: there is none."""
        del start, extent
        return 0

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
        work, start = self.room(work, start, extent)
        target = tir.flat(work.data, self.stored)
        first = start // _BYTES[self.stored]
        zero = tir.constant(0, LANES, "int32")
        total = tir.local(LANES, "int32")
        if self.counts:
            tir.store_vector(total, 0, zero, LANES)

        def write(at: Expr, count: int) -> None:
            values = element(at, count)
            if count < LANES:
                values = tirx.Select(tir.first_lanes(count, LANES), values, zero)
            values = tir.name(values)
            if self.counts:
                so_far = tir.load_vector(total, 0, LANES)
                tir.store_vector(total, 0, so_far + self.counted(values), LANES)
            self.arrange(target, first + at, values, extent)

        whole = extent // LANES
        if whole > _UNROLLED:
            with tir.loop(whole) as i:
                write(i * LANES, LANES)
        else:
            for i in range(whole):
                write(tir.integer(i * LANES), LANES)
        if extent % LANES:
            write(tir.integer(whole * LANES), extent % LANES)
        elements = tir.sum_lanes(tir.load_vector(total, 0, LANES)) if self.counts else None
        return self.vector(work, start, extent, elements)

    def vector(self, work: Buffer, start: int, extent: int, total: Expr | None) -> Vector:
        """What has been written; `total` is the sum of `counted`, if anything was."""
        correction = None if total is None else tir.name(self.correction(total))
        word = _BYTES[self.read_as]
        masks = self.masks(start, extent) // word
        return Vector(tir.flat(work.data, self.read_as), start // word, correction, masks)

    def room(self, work: Buffer, start: int, extent: int) -> tuple[Buffer, int]:
        """Where the vector is to stand: in the memory given, unless it needs more."""
        del extent
        return work, start

    def put(self, target: Buffer, target_start: Expr, values: Expr) -> None:
        """Write the low bits of LANES elements."""
        tir.store_vector(target, target_start, tirx.Cast(f"{self.stored}x{LANES}", values), LANES)

    def spread(self, word: Expr) -> Expr:
        """A word in every lane."""
        return tir.name(tir.broadcast(word, self.isa.lanes))


_BYTES = {"int8": 1, "int16": 2, "int32": 4}
