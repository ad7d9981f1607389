"""The packed mat-vec: sums of one phase for a block of units, kept in registers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgelstm_compiler.ir.kernels import Phase, Section
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import copy_elements, fill_zero
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

# Loads of weights in the body of the inner loop. Prefetchers follow loads by their addresses in the
# code: with twice as many, weights that come from the second-level cache arrive a third slower.
_LOADS = 8
# Longest vector that is put together on the stack.
_JOINED_ELEMENTS = 4096


@dataclass(frozen=True, slots=True)
class Operand:
    """A vector that weights are multiplied with."""

    buffer: Buffer
    start: Expr

    def element(self, k: Expr) -> Expr:
        """Its element k."""
        return self.buffer[self.start + k]


@dataclass(frozen=True, slots=True)
class Started(Operand):
    """Sums that were begun elsewhere, [accumulator][split][unit].

    Args:
        splits: sums side by side of an accumulator.
        turned: the split that the next row goes to.
    """

    splits: int = 1
    turned: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of weights that one loop reads.

    Args:
        offset: elements from the start of a block to the first row.
        extent: rows.
        gates: weights per row and unit.
        factors: vectors that the rows are multiplied with.
        terms: gate, accumulator and factor of each multiplication.
    """

    offset: int
    extent: int
    gates: int
    factors: tuple[Operand, ...]
    terms: tuple[tuple[int, int, int], ...]


class BlockPhase(Protocol):
    """A phase whose weights are packed in blocks of units; see `PackedPhase` for the members.

    Offsets are in float32 elements, also where the weights are stored as something else.
    """

    @property
    def phase(self) -> Phase:
        """Sections and biases."""
        ...

    @property
    def peepholes(self) -> int:
        """Peephole vectors of a block."""
        ...

    @property
    def units(self) -> int:
        """Units computed at once."""
        ...

    @property
    def parts(self) -> int:
        """Groups of `units` in a block."""
        ...

    @property
    def peephole_offset(self) -> int:
        """From the start of a block to its peepholes."""
        ...

    @property
    def block_elements(self) -> int:
        """Size of a block."""
        ...

    def streams(self, operands: Sequence[Operand | None]) -> Sequence[Any]:
        """Once for all blocks: write what prepares the vectors."""
        ...

    def sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[Any],
        first: Operand | None = None,
    ) -> list[Expr]:
        """Write the loops of a block."""
        ...


@dataclass(frozen=True, slots=True)
class PackedPhase:
    """Where the parts of a block stand in the packed weights, and how it is computed.

    Args:
        phase: sections and biases.
        unit_block: units of a block.
        blocks: how many there are.
        peepholes: peephole vectors of a block.
        isa: the instruction set.
        tail: units that there are in the block that is computed, if not all.
    """

    phase: Phase
    unit_block: int
    blocks: int
    peepholes: int
    isa: InstructionSet
    tail: int | None = None

    @property
    def units(self) -> int:
        """Units computed at once: the lanes of all vectors here."""
        units = self.isa.units(self.phase.accumulators, self.unit_block)
        while units > self.isa.lanes and 2 * (self.tail or units) <= units:
            units //= 2
        return units

    @property
    def parts(self) -> int:
        """Groups of `units` in a block; those beyond the last unit are left out."""
        return -(-(self.tail or self.unit_block) // self.units)

    @property
    def peephole_offset(self) -> int:
        """Elements from the start of a block to its peepholes."""
        return self.phase.accumulators * self.unit_block

    @property
    def block_elements(self) -> int:
        """Elements of a block."""
        return self.section_offset(len(self.phase.sections))

    def section_offset(self, index: int) -> int:
        """Elements from the start of a block to a section; `len(sections)` gives its end."""
        rows = sum(section.extent * len(section.gates) for section in self.phase.sections[:index])
        return (self.phase.accumulators + self.peepholes + rows) * self.unit_block

    @property
    def is_far(self) -> bool:
        """Whether the weights do not stay in the first-level cache."""
        return self.block_elements * self.blocks * 4 > self.isa.near_bytes

    def streams(self, operands: Sequence[Operand | None]) -> tuple[Stream, ...]:
        """The loops of a block; writes the code that puts vectors together, once for all blocks.

        One loop runs over all sections where that is possible, their vectors put one behind the
        other. A second loop would make the prefetchers start anew twice a block, which doubles the
        time for weights that do not stay in the first-level cache.

        Args:
            operands: the vector of each section; None where it is not to be computed.
        """
        wanted = [
            (index, section, operand)
            for index, (section, operand) in enumerate(
                zip(self.phase.sections, operands, strict=True)
            )
            if operand is not None
        ]
        if self._are_joined([section for _, section, _ in wanted]):
            first = self.section_offset(wanted[0][0])
            return (_joined(first, [section for _, section, _ in wanted], [o for *_, o in wanted]),)
        return tuple(
            Stream(
                self.section_offset(index),
                section.extent,
                len(section.gates),
                (operand,),
                tuple((gate, a, 0) for gate, a in enumerate(section.accumulators)),
            )
            for index, section, operand in wanted
        )

    @property
    def joins_sections(self) -> bool:
        """Whether one loop runs over all sections, where all of them are computed."""
        return self._are_joined(self.phase.sections)

    def _are_joined(self, sections: Sequence[Section]) -> bool:
        extent = sum(section.extent for section in sections)
        is_alike = len({section.gates for section in sections}) == 1
        return len(sections) > 1 and is_alike and self.is_far and extent <= _JOINED_ELEMENTS

    def sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[Stream],
        first: Operand | None = None,
    ) -> list[Expr]:
        """Write the loops of a block.

        Args:
            weights: the packed weights.
            block: element at which the block begins.
            part: which group of units.
            streams: what the loops run over.
            first: what the block's sums start from; None: from its biases.

        Returns:
            For each accumulator the sums, a vector of `units` lanes.
        """
        units, count = self.units, self.phase.accumulators
        splits = self.isa.splits(count, units)
        sums = tir.local(count * splits * units)
        shift = part * units

        def offset_of(accumulator: int, split: int) -> int:
            return (accumulator * splits + split) * units

        held, turned = (first.splits, first.turned) if isinstance(first, Started) else (1, 0)
        assert held in (1, splits)
        for accumulator in range(count):
            source, start = (weights, block) if first is None else (first.buffer, first.start)
            for split in range(splits):
                at = start + ((accumulator * held + split) * self.unit_block + shift)
                value = (
                    tir.load_vector(source, at, units) if split < held else tir.constant(0.0, units)
                )
                tir.store_vector(sums, offset_of(accumulator, split), value, units)

        def add_row(stream: Stream, start: Expr, k: Expr, split: int) -> None:
            row = k * (stream.gates * self.unit_block)
            lines = [
                tir.name(tir.load_vector(weights, start + (row + gate * self.unit_block), units))
                if sum(term[0] == gate for term in stream.terms) > 1
                else tir.load_vector(weights, start + (row + gate * self.unit_block), units)
                for gate in range(stream.gates)
            ]
            factors = [
                tir.name(tir.broadcast(factor.element(k), units)) for factor in stream.factors
            ]
            for gate, accumulator, factor in stream.terms:
                to = offset_of(accumulator, split)
                total = tir.load_vector(sums, to, units) + lines[gate] * factors[factor]
                tir.store_vector(sums, to, total, units)

        for stream in streams:
            start = block + (stream.offset + shift)
            body = self._body(stream.gates, splits)
            whole = stream.extent // body if stream.extent > 2 * body else 0
            if whole:
                with tir.loop(whole) as i:
                    for step in range(body):
                        add_row(stream, start, i * body + step, (step + turned) % splits)
            for k in range(whole * body, stream.extent):
                add_row(stream, start, tir.integer(k), (k + turned) % splits)
        return [
            tir.name(
                sum_in_pairs([tir.load_vector(sums, offset_of(a, s), units) for s in range(splits)])
            )
            for a in range(count)
        ]

    def _body(self, gates: int, splits: int) -> int:
        """Rows in the body of the inner loop: a multiple of the splits."""
        loads = splits * gates * math.ceil(self.units / self.isa.lanes)
        return splits * max(1, _LOADS // loads)


def _joined(offset: int, sections: Sequence[Section], operands: Sequence[Operand]) -> Stream:
    """One loop over sections that follow each other and have the same gates.

    A gate whose sums go elsewhere in each section (the candidate of GRU with linear_before_reset)
    is multiplied with vectors that are zero in the other sections.
    """
    extents = [section.extent for section in sections]
    starts = [tir.integer(sum(extents[:index])) for index in range(len(extents))]

    def joined(chosen: Sequence[int]) -> Operand:
        vector = tir.local(sum(extents))
        for i, (operand, start) in enumerate(zip(operands, starts, strict=True)):
            if i in chosen:
                copy_elements(operand.buffer, operand.start, vector, start, extents[i])
            else:
                fill_zero(vector, start, extents[i])
        return Operand(vector, tir.integer(0))

    factors: dict[tuple[int, ...], Operand] = {}
    terms = []
    gates = len(sections[0].gates)
    for gate in range(gates):
        into = [section.accumulators[gate] for section in sections]
        for accumulator in dict.fromkeys(into):
            chosen = tuple(i for i, other in enumerate(into) if other == accumulator)
            if chosen not in factors:
                factors[chosen] = joined(chosen)
            terms.append((gate, accumulator, list(factors).index(chosen)))
    return Stream(offset, sum(extents), gates, tuple(factors.values()), tuple(terms))


def sum_in_pairs(terms: list[Expr]) -> Expr:
    """The sum of all terms, pair by pair."""
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]
