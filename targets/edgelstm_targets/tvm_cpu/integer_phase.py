"""A phase of packed bytes: where its parts stand, and its products as exact int32 sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.quantized_kernels import K_GROUP, LINE
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot import dot_product
from edgelstm_targets.tvm_cpu.dot.product import DotProduct, Vector
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

# Loads of weights in the body of the inner loop, as in `matvec.py`.
_LOADS = 8
_WORD = 4


@dataclass(frozen=True, slots=True)
class PreparedSection:
    """A section, and the vector it is multiplied with."""

    index: int
    section: Section
    product: DotProduct
    vector: Vector


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
            For each gate of the section the sums as int32, a vector of `units` lanes.
        """
        section, product = prepared.section, prepared.product
        units, lanes, gates = self.units, self.isa.lanes, len(section.gates)
        splits = self.isa.splits(gates, units) if product.splits_chains else 1
        groups = self.groups(section)
        splits = max(1, min(splits, groups))
        sums = tir.local(gates * splits * units, "int32")
        zero = tir.constant(0, lanes, "int32")
        places = [(gate, at) for gate in range(gates) for at in range(0, units, lanes)]
        for gate, at in places:
            for split in range(splits):
                tir.store_vector(sums, (gate * splits + split) * units + at, zero, lanes)
        start = block + (self.section_offset(prepared.index) + part * units)

        def add_group(k: Expr, split: int) -> None:
            factors = product.factors(prepared.vector, k)
            row = k * (gates * self.unit_block)
            for gate, at in places:
                line = tir.load_vector(words, start + (row + (gate * self.unit_block + at)), lanes)
                place = (gate * splits + split) * units + at
                total = product.add(tir.load_vector(sums, place, lanes), line, factors)
                tir.store_vector(sums, place, total, lanes)

        body = splits * max(1, _LOADS // (splits * len(places)))
        whole = groups // body if groups > 2 * body else 0
        if whole:
            with tir.loop(whole) as i:
                for step in range(body):
                    add_group(i * body + step, step % splits)
        for k in range(whole * body, groups):
            add_group(tir.integer(k), k % splits)
        results = []
        for gate in range(gates):
            total = tir.load_vector(sums, gate * splits * units, units)
            for split in range(1, splits):
                total = total + tir.load_vector(sums, (gate * splits + split) * units, units)
            if prepared.vector.correction is not None:
                total = total - tir.broadcast(prepared.vector.correction, units)
            results.append(tir.name(total))
        return results

    def _scale_line(self, index: int) -> int:
        """Bytes per unit from the start of a block to the scales of a section."""
        gates = sum(len(section.gates) for section in self.phase.sections[:index])
        return _WORD * self.phase.accumulators + self.scale_bytes * gates


def accumulated(
    count: int, prepared: Sequence[PreparedSection], sums: Sequence[Sequence[Expr]]
) -> list[Expr]:
    """For each accumulator the sum of what its sections contribute, or None."""
    totals: list[Expr] = [None] * count
    for each, values in zip(prepared, sums, strict=True):
        for accumulator, value in zip(each.section.accumulators, values, strict=True):
            so_far = totals[accumulator]
            totals[accumulator] = value if so_far is None else so_far + value
    return totals


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE
