"""A phase of packed bytes: where its parts stand, and its products as exact int32 sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.numerics import K_GROUP, LINE
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot import dot_product
from edgelstm_targets.tvm_cpu.dot.product import DotProduct, Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

# Loads of weights in the body of the inner loop, as in `matvec.py`.
_LOADS = 8
_WORD = 4


@dataclass(frozen=True, slots=True)
class PreparedSection:
    """A section, and the vector it is multiplied with.

    Args:
        index: of the section.
        section: which.
        product: how it is multiplied.
        vector: with what.
        sums: for each gate the products, where they are known already.
    """

    index: int
    section: Section
    product: DotProduct
    vector: Vector
    sums: tuple[Expr, ...] | None = None


@dataclass(frozen=True, slots=True)
class BytePhase:
    """What phases of packed bytes have in common; offsets in words of 32 bits.

    Args:
        phase: sections and biases.
        unit_block: units of a block.
        blocks: how many there are.
        peepholes: peephole vectors of a block.
        isa: the instruction set.
        weight_offset: 0 or 128.
        x_dtype: "int8" or "int16".
        scale_bytes: of an element of scales (or multipliers) and of peepholes.
    """

    phase: Phase
    unit_block: int
    blocks: int
    peepholes: int
    isa: InstructionSet
    weight_offset: int
    x_dtype: str
    scale_bytes: int

    @property
    def units(self) -> int:
        """Units computed at once."""
        return self.isa.units(self.phase.accumulators, self.unit_block)

    @property
    def parts(self) -> int:
        """Groups of `units` in a block."""
        return self.unit_block // self.units

    @property
    def peephole_offset(self) -> int:
        """Words from the start of a block to its peepholes."""
        return self._scale_line(len(self.phase.sections)) * self.unit_block // _WORD

    @property
    def block_elements(self) -> int:
        """Words of a block."""
        return self.section_offset(len(self.phase.sections))

    def scale_offset(self, index: int) -> int:
        """Words from the start of a block to the scales of a section."""
        return self._scale_line(index) * self.unit_block // _WORD

    def section_offset(self, index: int) -> int:
        """Words from the start of a block to a section; `len(sections)` gives its end."""
        lines = self._scale_line(len(self.phase.sections)) + self.scale_bytes * self.peepholes
        size = _padded(lines * self.unit_block)
        for section in self.phase.sections[:index]:
            groups = self.groups(section)
            size += _padded(groups * len(section.gates) * self.unit_block * K_GROUP)
        return size // _WORD

    def groups(self, section: Section) -> int:
        """Groups of four weights that stand as words."""
        return math.ceil(section.extent / K_GROUP)

    def tail(self, words: Buffer, block: Expr, section: Section, unit_offset: Expr) -> Expr | None:
        """What is left of a section after whole groups of four, for a register of units.

        Args:
            words: the packed weights as int32.
            block: word at which the block begins.
            section: which.
            unit_offset: units from the first of the first gate to the first of these.

        Returns:
            Words as those of a whole group; None: nothing is left.
        """
        del words, block, section, unit_offset
        return None

    def product(self, source: Source) -> DotProduct:
        """How a source is multiplied."""
        dtype = self.x_dtype if source is Source.X else "int8"
        return dot_product(self.isa, dtype, self.weight_offset)

    def section_sums(
        self, words: Buffer, block: Expr, part: int, prepared: PreparedSection
    ) -> list[Expr]:
        """Write the loop over a section.

        Args:
            words: the packed weights as int32.
            block: word at which the block begins.
            part: which group of units.
            prepared: section and vector.

        Returns:
            For each gate of the section the sums as int32, a vector of `units` lanes that is read
            where it is used.
        """
        if prepared.sums is not None:
            return list(prepared.sums)
        section = prepared.section
        units, lanes, gates = self.units, self.isa.lanes, len(section.gates)
        registers = units // lanes
        chunk = self._chunk(gates * registers, prepared)
        sums = tir.local(gates * units, "int32")

        def write(first: Expr, offset: Expr) -> None:
            unit_offsets = [
                p // registers * self.unit_block + p % registers * lanes for p in range(chunk)
            ]
            shift = part * units + offset
            totals = self._sums_at(words, block, shift, prepared, unit_offsets)
            for index, total in enumerate(totals):
                tir.store_vector(sums, first + index * lanes, total, lanes)

        count = gates * registers // chunk
        if count == 1:
            write(tir.integer(0), tir.integer(0))
        else:
            # An index that LLVM does not know keeps these sums in memory: in registers they would
            # leave too few for the loop of the next section.
            with tir.loop(count) as i:
                write(i * (chunk * lanes), i * (chunk * lanes))
        results = []
        for gate in range(gates):
            total = tir.load_vector(sums, gate * units, units)
            if prepared.vector.correction is not None:
                total = total - tir.broadcast(prepared.vector.correction, units)
            results.append(total)
        return results

    def _chunk(self, count: int, prepared: PreparedSection) -> int:
        """Registers of units whose sums are computed at once."""
        product = prepared.product
        if not product.in_parts or self.units != self.unit_block:
            return count
        most = max(1, self.isa.registers // 2 // product.registers)
        return max(size for size in range(1, most + 1) if count % size == 0)

    def _sums_at(
        self,
        words: Buffer,
        block: Expr,
        shift: Expr,
        prepared: PreparedSection,
        unit_offsets: Sequence[int],
    ) -> list[Expr]:
        """Write the loop over a section for some of its gates and units.

        Args:
            words: the packed weights as int32.
            block: word at which the block begins.
            shift: units from the first of the first gate to the first of these.
            prepared: section and vector.
            unit_offsets: units from there to each register of units.

        Returns:
            For each offset its sums, a vector of `lanes` lanes.
        """
        section, product, vector = prepared.section, prepared.product, prepared.vector
        lanes, width = self.isa.lanes, len(section.gates) * self.unit_block
        start = block + self.section_offset(prepared.index) + shift
        tails = [
            self.tail(words, block, section, shift + unit_offset) for unit_offset in unit_offsets
        ]
        groups = self.groups(section)
        splits = self.isa.splits(len(unit_offsets), lanes) if product.splits_chains else 1
        splits = max(1, min(splits, groups))
        partial = product.registers
        sums = tir.local(len(unit_offsets) * splits * partial * lanes, "int32")
        zero = tir.constant(0, lanes, "int32")
        for at in range(len(unit_offsets) * splits * partial):
            tir.store_vector(sums, at * lanes, zero, lanes)

        def held(index: int, split: int) -> list[int]:
            first = (index * splits + split) * partial
            return [(first + i) * lanes for i in range(partial)]

        def add_lines(
            index: int, split: int, lines: Sequence[Expr], factors: Sequence[Sequence[Expr]]
        ) -> None:
            totals = [tir.load_vector(sums, at, lanes) for at in held(index, split)]
            totals = product.add_groups(totals, lines, factors)
            for at, total in zip(held(index, split), totals, strict=True):
                tir.store_vector(sums, at, total, lanes)

        def add_groups(vector: Vector, k: Expr, count: int, split: int) -> None:
            factors = product.factors_of(vector, k, count)
            for first in range(0, count, product.added):
                chosen = range(first, min(first + product.added, count))
                for index, unit_offset in enumerate(unit_offsets):
                    lines = [
                        tir.load_vector(words, start + ((k + i) * width + unit_offset), lanes)
                        for i in chosen
                    ]
                    add_lines(index, split, lines, [factors[i] for i in chosen])

        def add_tails(vector: Vector) -> None:
            # Factors are read from multiples of `groups` on.
            rest = groups % product.groups
            *_, factor = product.factors_of(vector, tir.integer(groups - rest), rest + 1)
            for index, tail in enumerate(tails):
                if tail is not None:
                    add_lines(index, 0, [tail], [factor])

        def add_row(vector: Vector) -> None:
            body = splits * product.groups
            if not product.in_parts:
                body *= max(1, _LOADS // (body * len(unit_offsets)))
            whole = groups // body if groups > 2 * body else 0
            if whole:
                with tir.loop(whole) as i:
                    for step in range(0, body, product.groups):
                        split = step // product.groups % splits
                        add_groups(vector, i * body + step, product.groups, split)
            for k in range(whole * body, groups, product.groups):
                count = min(product.groups, groups - k)
                add_groups(vector, tir.integer(k), count, k // product.groups % splits)
            if any(tail is not None for tail in tails):
                add_tails(vector)

        if vector.rows is None:
            add_row(vector)
        else:
            with tir.loop(vector.rows) as row:
                begin = tir.name(vector.start + row * vector.row_words)
                add_row(replace(vector, start=begin))
        totals = []
        for index in range(len(unit_offsets)):
            total = None
            for split in range(splits):
                loaded = [tir.load_vector(sums, at, lanes) for at in held(index, split)]
                one = product.summed(loaded)
                total = one if total is None else total + one
            totals.append(total)
        return totals

    def _scale_line(self, index: int) -> int:
        """Bytes per unit from the start of a block to the scales of a section."""
        gates = sum(len(section.gates) for section in self.phase.sections[:index])
        return _WORD * self.phase.accumulators + self.scale_bytes * gates


@dataclass(frozen=True, slots=True)
class IntegerVectors:
    """Where an integer layer brings what it multiplies.

    Args:
        work: memory for x and for h, as any type.
        x_start, h_start: bytes at which they stand.
        narrowing: multiplier and shift from int16 h to int8; None: h is int8.
    """

    work: Buffer
    x_start: int
    h_start: int
    narrowing: tuple[int, int] | None = None


def accumulated(
    count: int, sections: Sequence[Section], sums: Sequence[Sequence[Expr]]
) -> list[Expr]:
    """For each accumulator the sum of what its sections contribute, or None."""
    totals: list[Expr] = [None] * count
    for section, values in zip(sections, sums, strict=True):
        for accumulator, value in zip(section.accumulators, values, strict=True):
            so_far = totals[accumulator]
            totals[accumulator] = value if so_far is None else so_far + value
    return totals


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE
