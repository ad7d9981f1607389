"""The packed mat-vec: sums of one phase for a block of units, kept in registers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import Phase
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import copy_elements, fill_zero
from edgelstm_targets.tvm_cpu.isa import InstructionSet
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
class Stream:
    """Rows of weights that one loop reads.

    Args:
        extent: rows.
        gates: weights per row and unit.
        factors: vectors that the rows are multiplied with.
        terms: gate, accumulator and factor of each multiplication.
    """

    extent: int
    gates: int
    factors: tuple[Operand, ...]
    terms: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class PackedPhase:
    """Where the parts of a block stand in the packed weights, and how it is computed.

    Args:
        phase: sections and biases.
        unit_block: units of a block.
        blocks: how many there are.
        peepholes: peephole vectors of a block.
        isa: the instruction set.
    """

    phase: Phase
    unit_block: int
    blocks: int
    peepholes: int
    isa: InstructionSet

    @property
    def units(self) -> int:
        """Units computed at once: the lanes of all vectors here."""
        return self.isa.units(self.phase.accumulators, self.unit_block)

    @property
    def parts(self) -> int:
        """Groups of `units` in a block."""
        return self.unit_block // self.units

    @property
    def peephole_offset(self) -> int:
        """Elements from the start of a block to its peepholes."""
        return self.phase.accumulators * self.unit_block

    @property
    def block_elements(self) -> int:
        """Elements of a block."""
        rows = sum(section.extent * len(section.gates) for section in self.phase.sections)
        return (self.phase.accumulators + self.peepholes + rows) * self.unit_block

    @property
    def is_joined(self) -> bool:
        """Whether one loop runs over all sections, their vectors put one behind the other.

        A second loop would make the prefetchers start anew twice a block, which doubles the time
        for weights that do not stay in the first-level cache.
        """
        sections = self.phase.sections
        return (
            len(sections) > 1
            and len({section.gates for section in sections}) == 1
            and self.block_elements * self.blocks * 4 > self.isa.near_bytes
            and sum(section.extent for section in sections) <= _JOINED_ELEMENTS
        )

    def streams(self, operands: Sequence[Operand]) -> tuple[Stream, ...]:
        """The loops of a block; writes the code that puts vectors together, once for all blocks.

        Args:
            operands: the vector of each section.
        """
        sections = self.phase.sections
        if not self.is_joined:
            return tuple(
                Stream(
                    section.extent,
                    len(section.gates),
                    (operand,),
                    tuple((gate, a, 0) for gate, a in enumerate(section.accumulators)),
                )
                for section, operand in zip(sections, operands, strict=True)
            )
        extents = [section.extent for section in sections]
        total = sum(extents)
        starts = [sum(extents[:index]) for index in range(len(extents))]
        zero = tir.integer(0)

        def joined(chosen: Sequence[int]) -> Operand:
            vector = tir.local(total)
            for index, operand in enumerate(operands):
                start = tir.integer(starts[index])
                if index in chosen:
                    copy_elements(operand.buffer, operand.start, vector, start, extents[index])
                else:
                    fill_zero(vector, start, extents[index])
            return Operand(vector, zero)

        factors: dict[tuple[int, ...], Operand] = {}
        terms = []
        for gate in range(len(sections[0].gates)):
            into = [section.accumulators[gate] for section in sections]
            for accumulator in dict.fromkeys(into):
                chosen = tuple(i for i, other in enumerate(into) if other == accumulator)
                if chosen not in factors:
                    factors[chosen] = joined(chosen)
                terms.append((gate, accumulator, list(factors).index(chosen)))
        return (Stream(total, len(sections[0].gates), tuple(factors.values()), tuple(terms)),)

    def sums(
        self, weights: Buffer, block: Expr, part: int, streams: Sequence[Stream]
    ) -> list[Expr]:
        """Write the loops of a block.

        Args:
            weights: the packed weights.
            block: element at which the block begins.
            part: which group of units.
            streams: what the loops run over.

        Returns:
            For each accumulator the sums, a vector of `units` lanes.
        """
        units, count = self.units, self.phase.accumulators
        splits = self.isa.splits(count, units)
        sums = tir.local(count * splits * units)
        shift = part * units

        def place(accumulator: int, split: int) -> int:
            return (accumulator * splits + split) * units

        for accumulator in range(count):
            bias = tir.load_vector(
                weights, block + (accumulator * self.unit_block + shift), units
            )
            for split in range(splits):
                first = bias if split == 0 else tir.constant(0.0, units)
                tir.store_vector(sums, place(accumulator, split), first, units)

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
                to = place(accumulator, split)
                total = tir.load_vector(sums, to, units) + lines[gate] * factors[factor]
                tir.store_vector(sums, to, total, units)

        offset = (count + self.peepholes) * self.unit_block + shift
        for stream in streams:
            start = block + offset
            body = self._body(stream.gates, splits)
            whole = stream.extent // body if stream.extent > 2 * body else 0
            if whole:
                with tir.loop(whole) as i:
                    for step in range(body):
                        add_row(stream, start, i * body + step, step % splits)
            for k in range(whole * body, stream.extent):
                add_row(stream, start, tir.integer(k), k % splits)
            offset += stream.extent * stream.gates * self.unit_block
        return [
            tir.name(_tree([tir.load_vector(sums, place(a, s), units) for s in range(splits)]))
            for a in range(count)
        ]

    def _body(self, gates: int, splits: int) -> int:
        """Rows in the body of the inner loop: a multiple of the splits."""
        loads = splits * gates * math.ceil(self.units / self.isa.lanes)
        return splits * max(1, _LOADS // loads)


def _tree(terms: list[Expr]) -> Expr:
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]
