"""A tile: gates x a register of units x several columns, its sums kept in registers.

Every row of weights is read once for all columns of a tile, and multiplied with one element of each
of them. What the columns are multiplied with stands in their own memory (`ColumnMemory`), all at
the same distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.shape import tile_sizes
from edgelstm_targets.tvm_cpu.matvec import Operand, PackedPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_ROWS = 2
"""Rows in the body of the inner loop; LLVM keeps the sums in registers as long as it is a loop."""
_MANY_REGISTERS = 32


@dataclass(frozen=True, slots=True)
class ColumnMemory:
    """Memory of which every column has the same piece.

    Args:
        buffer: where the first column's begins, in elements of any type.
        stride_bytes: from one column to the next.
    """

    buffer: Buffer
    stride_bytes: int

    def of(self, column: Expr) -> Buffer:
        """The memory of one column."""
        size = element_bytes(self.buffer)
        return tir.behind(self.buffer, column * (self.stride_bytes // size))


class Tile(Protocol):
    """Sums of one phase for several columns."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Columns that there is code for, the largest first."""
        ...

    @property
    def held_elements(self) -> int:
        """Elements of `held` for one column."""
        ...

    @property
    def held_type(self) -> str:
        """TVM's name of their type."""
        ...

    def write(
        self, weights: Buffer, block: Expr, shift: Expr, columns: Sequence[Expr], held: Buffer
    ) -> None:
        """Write the loops of a block.

        Args:
            weights: the packed weights.
            block: element at which the block begins.
            shift: units from the block's first to those of the tile.
            columns: which.
            held: where the sums go: [column][`held_elements`].
        """
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of weights that one loop reads.

    Args:
        offset: elements from the start of a block to the first row.
        extent: rows.
        accumulators: for each gate of a row the sum it adds to.
        factor: element of a column's memory that the first row is multiplied with.
    """

    offset: int
    extent: int
    accumulators: tuple[int, ...]
    factor: int


@dataclass(frozen=True, slots=True)
class FirstSums:
    """Sums that columns begin with, each its own: [accumulator][unit_block] of a block.

    Args:
        buffer: float32.
        starts: for each column the element at which its sums of all blocks begin, int64.
        block: from there to the block's.
    """

    buffer: Buffer
    starts: Buffer
    block: Expr

    def of(self, column: Expr) -> Operand:
        """Those of one column."""
        return Operand(self.buffer, tir.name(self.starts[column] + tirx.Cast("int64", self.block)))


@dataclass(frozen=True, slots=True)
class FloatTile:
    """Sums of weights in float32.

    Args:
        phase: how the weights are packed.
        memory: of the columns, as float32.
        factors: for each section the element of a column's memory at which its vector begins;
            None: the section is left out.
        first: what the columns begin with instead of the biases.
    """

    phase: PackedPhase
    memory: ColumnMemory
    factors: tuple[int | None, ...]
    first: FirstSums | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """A register for every sum."""
        return tile_sizes(self.phase.isa, self.phase.phase.accumulators)

    @property
    def held_elements(self) -> int:
        """[accumulator][unit]."""
        return self.phase.phase.accumulators * self.phase.units

    @property
    def held_type(self) -> str:
        """Sums are float32."""
        return "float32"

    @property
    def runs(self) -> tuple[Run, ...]:
        """The loops of a block: one over sections that follow each other, where it can be."""
        found: list[Run] = []
        for index, (section, factor) in enumerate(
            zip(self.phase.phase.sections, self.factors, strict=True)
        ):
            if factor is None:
                continue
            run = Run(
                self.phase.section_offset(index), section.extent, section.accumulators, factor
            )
            last = found[-1] if found else None
            if last is not None and _follows(last, run, self.phase.unit_block):
                extent = last.extent + run.extent
                found[-1] = Run(last.offset, extent, last.accumulators, last.factor)
            else:
                found.append(run)
        return tuple(found)

    def write(
        self, weights: Buffer, block: Expr, shift: Expr, columns: Sequence[Expr], held: Buffer
    ) -> None:
        """Write the loops of a block; see `Tile.write`."""
        lanes, width = self.phase.units, self.phase.unit_block
        count, size = self.phase.phase.accumulators, len(columns)
        sums = tir.local(count * size * lanes)
        same = Operand(weights, block)
        begun = [same if self.first is None else self.first.of(column) for column in columns]
        for accumulator in range(count):
            value = None
            for column, own in enumerate(begun):
                if value is None or own is not same:
                    at = own.start + (accumulator * width) + shift
                    value = tir.name(tir.load_vector(own.buffer, at, lanes))
                tir.store_vector(sums, (column * count + accumulator) * lanes, value, lanes)
        stride = self.memory.stride_bytes // element_bytes(self.memory.buffer)
        bases = [tir.name(column * stride) for column in columns]
        for run in self.runs:
            self._write_run(run, weights, tir.name(block + run.offset + shift), bases, sums)
        for position in range(count * size):
            value = tir.load_vector(sums, position * lanes, lanes)
            tir.store_vector(held, position * lanes, value, lanes)

    def _write_run(
        self, run: Run, weights: Buffer, start: Expr, bases: Sequence[Expr], sums: Buffer
    ) -> None:
        lanes, width = self.phase.units, self.phase.unit_block
        count, gates = self.phase.phase.accumulators, len(run.accumulators)

        def line(k: Expr, gate: int) -> Expr:
            return tir.name(
                tir.load_vector(weights, start + (k * (gates * width) + gate * width), lanes)
            )

        def factor(k: Expr, base: Expr) -> Expr:
            element = self.memory.buffer[base + (k + run.factor)]
            return tir.name(tir.broadcast(element, lanes))

        def add(column: int, gate: int, value: Expr) -> None:
            position = (column * count + run.accumulators[gate]) * lanes
            tir.store_vector(sums, position, tir.load_vector(sums, position, lanes) + value, lanes)

        def row(k: Expr) -> None:
            # The fewer of the two stay in registers; where registers are few, the factors.
            if self.phase.isa.registers >= _MANY_REGISTERS and gates <= len(bases):
                lines = [line(k, gate) for gate in range(gates)]
                for column, base in enumerate(bases):
                    value = factor(k, base)
                    for gate in range(gates):
                        add(column, gate, lines[gate] * value)
                return
            values = [factor(k, base) for base in bases]
            for gate in range(gates):
                weight = line(k, gate)
                for column, value in enumerate(values):
                    add(column, gate, weight * value)

        whole = run.extent // _ROWS
        if whole:
            with tir.loop(whole) as i:
                for step in range(_ROWS):
                    row(i * _ROWS + step)
        for k in range(whole * _ROWS, run.extent):
            row(tir.integer(k))


def element_bytes(buffer: Buffer) -> int:
    """Bytes of an element of a buffer."""
    dtype = str(buffer.dtype)
    return int("".join(filter(str.isdigit, dtype))) // 8 if dtype != "bool" else 1


def _follows(last: Run, run: Run, width: int) -> bool:
    """Whether a run goes on where another one ends, in the weights and in the columns."""
    rows = last.extent * len(last.accumulators) * width
    return (
        last.accumulators == run.accumulators
        and last.offset + rows == run.offset
        and last.factor + last.extent == run.factor
    )
