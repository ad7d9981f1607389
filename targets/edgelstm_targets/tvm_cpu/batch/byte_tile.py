"""Tiles of packed bytes: exact int32 sums, scaled column by column as single steps scale them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.shape import tile_sizes
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase, PreparedSection
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_WORD = 4


@dataclass(frozen=True, slots=True)
class ByteTile:
    """Sums of packed bytes, [section][gate][unit] for each column.

    Args:
        phase: how the weights are packed.
        memory: of the columns, as float32.
        sections: and how their vectors stand in a column's memory.
        notes: word of a column's memory at which it keeps, for each section, what is too much in
            its sums and how many rows its vector has.
    """

    phase: BytePhase
    memory: ColumnMemory
    sections: tuple[PreparedSection, ...]
    notes: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """A register for every partial sum of the largest section."""
        products = [
            (len(each.section.gates) * each.product.registers, each.product.temporaries)
            for each in self.sections
        ]
        registers, temporaries = (max(column) for column in zip(*products, strict=True))
        return tile_sizes(self.phase.isa, registers, temporaries)

    @property
    def held_elements(self) -> int:
        """[section][gate][unit]."""
        return sum(len(each.section.gates) for each in self.sections) * self.phase.units

    @property
    def held_type(self) -> str:
        """Sums are int32."""
        return "int32"

    def keep(self, work: Buffer, prepared: Sequence[PreparedSection]) -> None:
        """Write a column's notes."""
        notes = tir.flat(work.data, "int32")
        for index, each in enumerate(prepared):
            vector = each.vector
            if vector.correction is not None:
                tir.store(notes, self.notes + 2 * index, vector.correction)
            if vector.rows is not None:
                tir.store(notes, self.notes + 2 * index + 1, vector.rows)

    def sections_of(self, held: Buffer, position: Expr) -> list[PreparedSection]:
        """The sections of one column with their sums.

        Args:
            held: sums of a tile.
            position: of the column in the tile.
        """
        lanes = self.phase.units
        found, at = [], 0
        for each in self.sections:
            sums = []
            for _ in each.section.gates:
                total = tir.load_vector(held, position * self.held_elements + at, lanes)
                sums.append(tir.name(total))
                at += lanes
            found.append(
                PreparedSection(each.index, each.section, each.product, each.vector, tuple(sums))
            )
        return found

    def write(
        self, weights: Buffer, block: Expr, shift: Expr, columns: Sequence[Expr], held: Buffer
    ) -> None:
        """Write the loops of a block; see `Tile.write`."""
        words = tir.flat(weights.data, "int32")
        at = 0
        for index, each in enumerate(self.sections):
            self._write_section(index, each, words, block, shift, columns, held, at)
            at += len(each.section.gates) * self.phase.units

    def _write_section(
        self,
        index: int,
        prepared: PreparedSection,
        words: Buffer,
        block: Expr,
        shift: Expr,
        columns: Sequence[Expr],
        held: Buffer,
        at: int,
    ) -> None:
        phase, section, product = self.phase, prepared.section, prepared.product
        lanes, gates, width = phase.units, len(section.gates), phase.unit_block
        groups, partial = phase.groups(section), product.registers
        row = gates * width
        start = tir.name(block + phase.section_offset(prepared.index) + shift)
        tails = [phase.tail(words, block, section, shift + gate * width) for gate in range(gates)]
        sums = tir.local(len(columns) * gates * partial * lanes, "int32")
        notes = tir.flat(self.memory.buffer.data, "int32")
        stride = self.memory.stride_bytes // _WORD
        zero = tir.constant(0, lanes, "int32")
        for number, column in enumerate(columns):
            first = zero
            if prepared.vector.correction is not None:
                # What is too much in the end is taken off in the beginning.
                assert partial == 1
                too_much = notes[column * stride + (self.notes + 2 * index)]
                first = tir.name(zero - tir.broadcast(too_much, lanes))
            for position in range(gates * partial):
                at_place = (number * gates * partial + position) * lanes
                tir.store_vector(sums, at_place, first, lanes)

        def positions(column: int, gate: int) -> list[int]:
            first = (column * gates + gate) * partial
            return [(first + i) * lanes for i in range(partial)]

        def add(
            column: int, gate: int, lines: Sequence[Expr], factors: Sequence[Sequence[Expr]]
        ) -> None:
            totals = [
                tir.load_vector(sums, position, lanes) for position in positions(column, gate)
            ]
            totals = product.add_groups(totals, lines, factors)
            for position, total in zip(positions(column, gate), totals, strict=True):
                tir.store_vector(sums, position, total, lanes)

        def add_groups(vectors: Sequence[Vector], k: Expr, count: int) -> None:
            for first in range(0, count, product.added):
                chosen = range(first, min(first + product.added, count))
                lines = [
                    [
                        tir.name(
                            tir.load_vector(words, start + ((k + i) * row + gate * width), lanes)
                        )
                        for i in chosen
                    ]
                    for gate in range(gates)
                ]
                for column, vector in enumerate(vectors):
                    factors = product.factors_of(vector, k, count)
                    for gate in range(gates):
                        add(column, gate, lines[gate], [factors[i] for i in chosen])

        def add_row(vectors: Sequence[Vector]) -> None:
            body = product.groups
            whole = groups // body
            if whole:
                with tir.loop(whole) as i:
                    add_groups(vectors, i * body, body)
            if groups % body:
                add_groups(vectors, tir.integer(whole * body), groups - whole * body)
            for column, vector in enumerate(vectors):
                if all(tail is None for tail in tails):
                    break
                # Factors are read from multiples of `groups` on.
                rest = groups % product.groups
                *_, factor = product.factors_of(vector, tir.integer(groups - rest), rest + 1)
                for gate, tail in enumerate(tails):
                    add(column, gate, [tail], [factor])

        vectors = [self._vector(prepared, column) for column in columns]
        if prepared.vector.rows is None:
            add_row(vectors)
        else:
            rows = tir.integer(1)
            for column in columns:
                rows = tirx.max(rows, notes[column * stride + (self.notes + 2 * index + 1)])
            with tir.loop(tir.name(rows)) as i:
                add_row(
                    [
                        Vector(
                            each.buffer,
                            tir.name(each.start + i * each.row_words),
                            None,
                            row_words=each.row_words,
                        )
                        for each in vectors
                    ]
                )
        for column in range(len(columns)):
            for gate in range(gates):
                loaded = [
                    tir.load_vector(sums, position, lanes) for position in positions(column, gate)
                ]
                position = column * self.held_elements + at + gate * lanes
                tir.store_vector(held, position, product.summed(loaded), lanes)

    def _vector(self, prepared: PreparedSection, column: Expr) -> Vector:
        """The vector of one of the columns."""
        vector, size = prepared.vector, _bytes_read(prepared)
        buffer = tir.flat(self.memory.buffer.data, prepared.product.read_as)
        base = column * (self.memory.stride_bytes // size)
        masks: Expr = tir.name(base + vector.masks) if vector.masks else 0
        return Vector(
            buffer, tir.name(base + vector.start), None, masks, row_words=vector.row_words
        )


def _bytes_read(prepared: PreparedSection) -> int:
    return {"int8": 1, "int16": 2, "int32": 4}[prepared.product.read_as]
