"""A recurrent layer for many columns: every block of weights is read once for all of them.

What a cell does, and in which numbers, is written by the classes of single steps (`recurrent.py`
and its numerics); here only the order differs: all columns before the next block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx

from edgelstm_compiler.ir.columns import RecurrentColumns
from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.ops import Direction
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.byte_tile import ByteTile
from edgelstm_targets.tvm_cpu.batch.columns import Columns
from edgelstm_targets.tvm_cpu.batch.restored import RestoredPhase
from edgelstm_targets.tvm_cpu.batch.shape import BatchSet
from edgelstm_targets.tvm_cpu.batch.tile import FirstSums, FloatTile, Tile
from edgelstm_targets.tvm_cpu.batch.walk import write_tiles
from edgelstm_targets.tvm_cpu.cells.slots import UnitGroup
from edgelstm_targets.tvm_cpu.copying import copy_elements, fill_zero
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase
from edgelstm_targets.tvm_cpu.integer_recurrent import IntegerPhase
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand, PackedPhase
from edgelstm_targets.tvm_cpu.quantized_recurrent import Int8Phase
from edgelstm_targets.tvm_cpu.recurrent import (
    Arguments,
    Layer,
    Memory,
    handed_operand,
)
from edgelstm_targets.tvm_cpu.stored_weights import StoredPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class BatchLayer:
    """Writes the body of a layer for many columns.

    Args:
        kernel: sizes and attributes.
        arguments: which buffers there are.
        isa: the instruction set.
        layer: what writes the body of single steps.
        columns: what goes through it.
        shared: memory for a restored block, as float32.
        begun: the sums of x, where they are computed already, [phase][block].
    """

    kernel: RecurrentKernel
    arguments: Arguments
    isa: BatchSet
    layer: type[Layer]
    columns: Columns
    shared: Buffer
    begun: FirstSums | None = None

    def of(self, column: Expr) -> Layer:
        """The layer on the buffers of one column."""
        return self._on(self.columns.memory(column))

    def write(self) -> None:
        """All directions; one loop where they differ in nothing but their order."""
        op, functions = self.kernel.op, self._template.functions
        half = len(functions) // op.direction.count
        halves = [functions[d * half : (d + 1) * half] for d in range(op.direction.count)]
        if op.direction is Direction.BIDIRECTIONAL and halves[0] == halves[1]:
            with tir.repeat(2) as d:
                self._direction(d, 0, d == 1)
            return
        for d in range(op.direction.count):
            backward = d == 1 or op.direction is Direction.REVERSE
            self._direction(tir.integer(d), d, tirx.const(backward, "bool"))

    def _direction(self, d: Expr, functions: int, backward: Expr) -> None:
        hidden, steps = self.kernel.op.hidden, self.kernel.steps
        if not all(self.arguments.continues):
            with tir.loop(self.columns.count) as column:
                memory, at = self.columns.memory(column), self._state(d, column)
                for state, initial, goes_on in zip(
                    memory.states, memory.initial, self.arguments.continues, strict=True
                ):
                    if initial is not None:
                        copy_elements(initial, at, state, at, hidden)
                    elif not goes_on:
                        fill_zero(state, at, hidden)
        with tir.repeat(steps) as i:
            self._frame(d, functions, tirx.Select(backward, steps - 1 - i, i))

    def _frame(self, d: Expr, functions: int, t: Expr) -> None:
        """One frame of all columns."""
        template, begin, begun = self._template, self._template.begin(d), 0
        for index, phase in enumerate(self._phases(template)):
            tile = self._prepare(index, d, t)
            with tir.loop(-(-self.kernel.op.hidden // phase.units)) as group:
                n = tir.name(tirx.truncdiv(group, phase.parts)) if phase.parts > 1 else group
                part = tir.name(group - n * phase.parts) if phase.parts > 1 else tir.integer(0)
                block = tir.name(begin + n * phase.block_elements)
                weights, at = template.memory.weights, block
                if isinstance(phase, RestoredPhase):
                    phase.restore(weights, block, part, self.shared)
                    weights, at = self.shared, tir.integer(0)
                write_tiles(
                    self._begin_with(tile, begun, n),
                    self.columns.count,
                    weights,
                    at,
                    tir.name(part * phase.units),
                    self._finisher(index, functions, d, tile, block, n, part),
                )
            begin = begin + phase.block_elements * template.blocks
            begun += phase.phase.accumulators * self.kernel.padded_hidden
        with tir.loop(self.columns.count) as column:
            layer = self.of(column)
            element = self.columns.element(column)
            layer.commit(self._state(d, column), layer.y_start(d, element, t))

    def _begin_with(self, tile: Tile, begun: int, n: Expr) -> Tile:
        """The tile with the sums of x of a block, where they are computed already."""
        if self.begun is None:
            return tile
        assert isinstance(tile, FloatTile)
        size = tile.phase.phase.accumulators * self.kernel.unit_block
        return replace(tile, first=replace(self.begun, block=tir.name(n * size + begun)))

    def _finisher(
        self, index: int, functions: int, d: Expr, tile: Tile, block: Expr, n: Expr, part: Expr
    ) -> Callable[[Expr, Buffer, Expr], None]:
        """What becomes of the sums of one column; writes what is the same for all of them."""
        own = self._phases(self._template)[index]
        beside = None
        if isinstance(own, Int8Phase):
            beside = own.beside(self._template.memory.weights, block, part).named()

        def finish(column: Expr, held: Buffer, position: Expr) -> None:
            layer = self.of(column)
            phase = self._phases(layer)[index]
            lanes = phase.units
            weights = layer.memory.weights
            if isinstance(tile, ByteTile):
                sections = tile.sections_of(held, position)
                if beside is not None:
                    assert isinstance(phase, Int8Phase)
                    sums = phase.scaled_sums(weights, block, part, sections, beside)
                else:
                    sums = phase.sums(weights, block, part, sections)
            else:
                at = position * tile.held_elements
                count = phase.phase.accumulators
                sums = [
                    tir.name(tir.load_vector(held, at + a * lanes, lanes)) for a in range(count)
                ]
            group = UnitGroup(lanes, tir.name(part * lanes), self.kernel.op.hidden % lanes == 0)
            unit = tir.name(n * self.kernel.unit_block)
            layer.finish(index, functions, sums, block, unit, group, self._state(d, column))

        return finish

    def _prepare(self, index: int, d: Expr, t: Expr) -> Tile:
        """Write what brings the vectors of all columns into place; how they are multiplied."""
        found: list[Tile] = []
        work = self.columns.work
        with tir.loop(self.columns.count) as column:
            layer = self.of(column)
            memory, own = layer.memory, self._phases(layer)[index]
            operands = {
                Source.X: Operand(
                    memory.x, tir.name(layer.x_start(self.columns.element(column), t))
                ),
                Source.H: Operand(memory.states[0], self._state(d, column)),
                Source.RESET_H: layer.handed_operand,
            }
            vectors = [operands[section.source] for section in own.phase.sections]
            if isinstance(own, BytePhase):
                prepared = own.streams(vectors)
                tile = ByteTile(own, work, tuple(prepared), self._layout.notes)
                tile.keep(memory.work, prepared)
                found.append(tile)
            else:
                plain = own.plain if isinstance(own, RestoredPhase) else own
                assert isinstance(plain, PackedPhase)
                factors = self._bring(plain, memory.work, operands)
                found.append(FloatTile(plain, work, factors))
        return found[0]

    def _bring(
        self, phase: PackedPhase, work: Buffer, operands: dict[Source, Operand | None]
    ) -> tuple[int | None, ...]:
        """Copy x and h behind each other; where the vector of each section begins."""
        positions = {Source.X: self._layout.x, Source.H: self._layout.h}
        factors: list[int | None] = []
        for section in phase.phase.sections:
            if section.source is Source.X and self.begun is not None:
                factors.append(None)
                continue
            if section.source is Source.RESET_H:
                at = handed_operand(self.kernel.cell)
                assert at is not None
                factors.append((1 + at) * self.kernel.padded_hidden)
                continue
            operand, position = operands[section.source], positions[section.source]
            assert operand is not None
            copy_elements(
                operand.buffer, operand.start, work, tir.integer(position), section.extent
            )
            factors.append(position)
        return tuple(factors)

    def _state(self, d: Expr, column: Expr) -> Expr:
        element = self.columns.element(column)
        return tir.name((d * self.kernel.batch + element) * self.kernel.op.hidden)

    @property
    def _layout(self) -> RecurrentColumns:
        return RecurrentColumns(self.kernel)

    @property
    def _template(self) -> Layer:
        """The layer on the buffers of the first column."""
        return self._on(self.columns.memory(tir.integer(0)))

    def _on(self, memory: Memory) -> Layer:
        return self.layer(self.kernel, self.arguments, self.isa, memory)

    def _phases(self, layer: Layer) -> tuple[BlockPhase, ...]:
        """The phases of a layer, as columns need them."""
        return tuple(_for_columns(phase, self._layout) for phase in layer.phases)


def _for_columns(phase: BlockPhase, layout: RecurrentColumns) -> BlockPhase:
    x, h = layout.byte_starts
    match phase:
        case Int8Phase():
            return replace(phase, vectors=replace(phase.vectors, x_start=x, h_start=h))
        case IntegerPhase():
            return replace(phase, vectors=replace(phase.vectors, x_start=x, h_start=h))
        case StoredPhase():
            return RestoredPhase(
                phase.phase, phase.unit_block, phase.blocks, phase.peepholes, phase.isa, phase.form
            )
    return phase
