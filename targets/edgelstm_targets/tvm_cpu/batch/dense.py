"""A dense layer for many columns: streams, or the rows of one call."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.columns import DenseColumns
from edgelstm_compiler.ir.kernels import DenseKernel
from edgelstm_compiler.ir.numerics import Int8, Integer, Stored
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.byte_tile import ByteTile
from edgelstm_targets.tvm_cpu.batch.restored import RestoredPhase
from edgelstm_targets.tvm_cpu.batch.shape import BatchSet
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory, FloatTile, Tile
from edgelstm_targets.tvm_cpu.batch.walk import write_tiles
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.dense import activated
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase
from edgelstm_targets.tvm_cpu.matvec import BlockPhase, Operand, PackedPhase
from edgelstm_targets.tvm_cpu.quantized_dense import (
    dense_types,
    int8_dense_phase,
    integer_dense_phase,
    integer_outputs,
)
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class BatchDense:
    """Writes the body of a dense layer for many columns.

    Args:
        kernel: sizes; its rows are walked outside.
        isa: the instruction set.
        count: of columns.
        x: of all columns.
        y: of all columns.
        weights: packed.
        table: of integers, where there is one.
        work: the workspaces of the columns.
        shared: memory for a restored block.
    """

    kernel: DenseKernel
    isa: BatchSet
    count: Expr
    x: ColumnMemory
    y: ColumnMemory
    weights: Buffer
    table: Buffer | None
    work: ColumnMemory
    shared: Buffer

    def write(self) -> None:
        """All units of one row of all columns."""
        kernel = self.kernel
        phase = self._phase(self.work.buffer)
        tile = self._prepare(phase)
        lanes = phase.units
        with tir.loop(-(-kernel.units // lanes)) as group:
            first = tir.name(group * lanes)
            n = tir.name(tirx.truncdiv(first, kernel.unit_block))
            part = tir.name(group - n * phase.parts)
            block = tir.name(n * phase.block_elements)
            weights, at = self.weights, block
            if isinstance(phase, RestoredPhase):
                phase.restore(weights, block, part, self.shared)
                weights, at = self.shared, tir.integer(0)
            count = tir.name(kernel.units - first) if kernel.units % lanes else None

            def finish(column: Expr, held: Buffer, position: Expr) -> None:
                total = tir.load_vector(held, position * tile.held_elements, lanes)
                if isinstance(tile, ByteTile):
                    work = self.work.of(column)
                    own = self._phase(work)
                    sections = tile.sections_of(held, position)
                    (total,) = own.sums(self.weights, block, part, sections)
                value = tir.name(self._outputs(lanes, total))
                Slot(self.y.of(column), first, count).store(value, lanes)

            shift = tir.name(part * lanes)
            write_tiles(tile, self.count, weights, at, shift, finish)

    def _phase(self, work: Buffer) -> BlockPhase:
        kernel = self.kernel
        blocks = -(-kernel.units // kernel.unit_block)
        (only,) = kernel.phases
        match kernel.numerics:
            case Int8():
                return int8_dense_phase(kernel, self.isa, self.weights, work)
            case Integer():
                return integer_dense_phase(kernel, self.isa, work)
            case Stored():
                form = compact_form(kernel)
                return RestoredPhase(only, kernel.unit_block, blocks, 0, self.isa, form)
        return PackedPhase(only, kernel.unit_block, blocks, 0, self.isa)

    def _prepare(self, phase: BlockPhase) -> Tile:
        """Write what brings x of all columns into place; how it is multiplied."""
        if not isinstance(phase, BytePhase):
            plain = phase.plain if isinstance(phase, RestoredPhase) else phase
            assert isinstance(plain, PackedPhase)
            return FloatTile(plain, self.x, (0,))
        found: list[ByteTile] = []
        with tir.loop(self.count) as column:
            work = self.work.of(column)
            own = self._phase(work)
            assert isinstance(own, BytePhase)
            prepared = own.streams([Operand(self.x.of(column), tir.integer(0))])
            tile = ByteTile(own, self.work, tuple(prepared), DenseColumns(self.kernel).notes)
            tile.keep(work, prepared)
            found.append(tile)
        return found[0]

    def _outputs(self, lanes: int, total: Expr) -> Expr:
        if isinstance(self.kernel.numerics, Integer):
            return integer_outputs(self.kernel, self.isa, lanes, self.table, tir.name(total))
        return activated(self.kernel, self.isa, lanes, tir.name(total))


def buffer_types(kernel: DenseKernel) -> dict[str, str]:
    """TVM's names of the element types of x, weights, table and y."""
    if isinstance(kernel.numerics, Integer):
        return dense_types(kernel)
    return {"x": "float32", "weights": "float32", "y": "float32"}
