"""All blocks of a small layer at once: sums of every unit in registers, rows outside.

Two blocks in turn wait twice for a body's chain of operations; side by side one runs under the
other's products. The first block's body follows as soon as its own sums are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from edgelstm.numerics.cells import Store
from edgelstm_compiler.ir.kernels import Source
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.slots import Slot, UnitGroup
from edgelstm_targets.tvm_cpu.matvec import Operand, PackedPhase, sum_in_pairs
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

if TYPE_CHECKING:
    from edgelstm_targets.tvm_cpu.recurrent import Layer

_BLOCKS = 2
# Lines of weights beyond which rows are a loop: LLVM moves the loads of straight lines to the
# front, and spills the registers that it then lacks.
_STRAIGHT_LINES = 32


def is_at_once(layer: Layer) -> bool:
    """Whether the sums of all units take half of the registers at most, and weights are near.

    The first block's new h is written before the second one's sums are complete. They then read
    its own units of the old h only; no later phase may read all of them.
    """
    kernel, isa = layer.kernel, layer.isa
    if not isinstance(kernel.numerics, Float32) or layer.projections is not None:
        return False
    first = kernel.cell.state_names[0]
    stores = [
        any(isinstance(each, Store) and each.target == first for each in phase.body)
        for phase in kernel.cell.phases
    ]
    return (
        layer.blocks <= _BLOCKS
        and isa.lanes == kernel.unit_block
        and not isa.is_bare
        and stores.index(True) == len(stores) - 1
        and all(
            not phase.is_far and layer.blocks * phase.phase.accumulators <= isa.registers // 2
            for phase in layer.float_phases
        )
    )


def write_at_once(
    layer: Layer,
    functions: int,
    begin: Expr,
    operands: Mapping[Source, Operand | None],
    state: Expr,
    y_start: Expr,
) -> None:
    """Write a frame of a layer: its phases one after the other, the new h in the old one's place.

    Args:
        layer: for which `is_at_once` holds.
        functions: the direction whose functions are applied.
        begin: element at which its weights begin.
        operands: what sections are multiplied with.
        state: element of the states at which its first unit stands.
        y_start: where the output of the frame begins.
    """
    hidden, weights = layer.kernel.op.hidden, layer.memory.weights
    units = layer.kernel.unit_block
    starts = range(0, hidden, units)
    for index, phase in enumerate(layer.float_phases):
        first = tir.name(begin)

        def finish(
            n: int,
            sums: list[Expr],
            index: int = index,
            first: Expr = first,
            elements: int = phase.block_elements,
        ) -> None:
            is_whole = hidden >= (n + 1) * units
            group = UnitGroup(units, tir.integer(0), is_whole, is_in_place=True)
            block, unit = first + n * elements, tir.integer(n * units)
            layer.finish(index, functions, sums, block, unit, group, state)

        AllBlocks(phase, weights, first, operands, layer.blocks).write(finish)
        begin = first + phase.block_elements * layer.blocks
    if layer.memory.y is None:
        return
    for start in starts:
        count = None if hidden >= start + units else tir.integer(hidden - start)
        h = Slot(layer.memory.states[0], state + start, count).load(units)
        Slot(layer.memory.y, y_start + start, count).store(h, units)


@dataclass(frozen=True, slots=True)
class AllBlocks:
    """Writes one phase for all blocks.

    Args:
        phase: how its blocks are packed.
        weights: the packed weights.
        begin: element at which the first block begins.
        operands: what sections are multiplied with.
        blocks: how many.
    """

    phase: PackedPhase
    weights: Buffer
    begin: Expr
    operands: Mapping[Source, Operand | None]
    blocks: int

    @property
    def units(self) -> int:
        """Units of a block: the lanes of all vectors here."""
        return self.phase.units

    @property
    def splits(self) -> int:
        """Sums per accumulator that are computed side by side."""
        return self.phase.isa.splits(self.phase.phase.accumulators * self.blocks, self.units)

    def write(self, finish: Callable[[int, list[Expr]], None]) -> None:
        """Write the products; `finish` writes the body of a block, from its sums."""
        phase, units = self.phase.phase, self.units
        sums = tir.local(self.blocks * phase.accumulators * self.splits * units)
        every = range(self.blocks)
        for block in every:
            for accumulator in range(phase.accumulators):
                bias = self._line(block, tir.integer(accumulator * units))
                tir.store_vector(sums, self._place(block, accumulator, 0), bias, units)
                for split in range(1, self.splits):
                    zero, at = tir.constant(0.0, units), self._place(block, accumulator, split)
                    tir.store_vector(sums, at, zero, units)
        # Rows of units that stand in later blocks come last, one block after the other.
        shared = [
            section.extent if section.source is Source.X else min(units, section.extent)
            for section in phase.sections
        ]
        for section, extent in enumerate(shared):
            self._rows(sums, section, 0, extent, every)
            self._settle(sums, every)
        for block in every:
            for section, extent in enumerate(shared):
                last = phase.sections[section].extent
                self._rows(sums, section, extent, last, range(block, block + 1))
            self._settle(sums, range(block, self.blocks))
            finish(block, [self._total(sums, block, a) for a in range(phase.accumulators)])

    def _settle(self, sums: Buffer, blocks: range) -> None:
        """Add up what there is before anything else is read."""
        for block, accumulator, split in product(
            blocks, range(self.phase.phase.accumulators), range(self.splits)
        ):
            at = self._place(block, accumulator, split)
            tir.settle(tir.load_vector(sums, at, self.units))

    def _rows(self, sums: Buffer, section: int, first: int, last: int, blocks: range) -> None:
        """Rows of a section for some blocks."""
        if first == last:
            return
        operand = self.operands[self.phase.phase.sections[section].source]
        assert operand is not None
        if self.blocks > 1:
            # Else LLVM keeps the vectors' elements for the next block or phase, and spills them.
            operand = Operand(tir.as_if_other(operand.buffer), operand.start)
        body = max(self.splits, 4 // len(blocks))
        lines = (last - first) * len(blocks) * len(self.phase.phase.sections[section].gates)
        whole = (last - first) // body if lines > _STRAIGHT_LINES else 0
        if whole > 1:
            with tir.loop(whole) as i:
                for step in range(body):
                    self._row(sums, section, operand, i * body + (first + step), blocks, step)
            first += whole * body
        for k in range(first, last):
            self._row(sums, section, operand, tir.integer(k), blocks, k)

    def _row(
        self, sums: Buffer, section: int, operand: Operand, k: Expr, blocks: range, turn: int
    ) -> None:
        units, part = self.units, self.phase.phase.sections[section]
        value = tir.name(tir.broadcast(operand.element(k), units))
        row = k * (len(part.gates) * units) + self.phase.section_offset(section)
        for block in blocks:
            for gate, accumulator in enumerate(part.accumulators):
                to = self._place(block, accumulator, turn % self.splits)
                line = self._line(block, row + gate * units)
                total = tir.load_vector(sums, to, units) + line * value
                tir.store_vector(sums, to, total, units)

    def _line(self, block: int, offset: Expr) -> Expr:
        at = self.begin + (offset + block * self.phase.block_elements)
        return tir.load_vector(self.weights, at, self.units)

    def _place(self, block: int, accumulator: int, split: int) -> int:
        return ((block * self.phase.phase.accumulators + accumulator) * self.splits + split) * (
            self.units
        )

    def _total(self, sums: Buffer, block: int, accumulator: int) -> Expr:
        terms = [
            tir.load_vector(sums, self._place(block, accumulator, split), self.units)
            for split in range(self.splits)
        ]
        return tir.name(sum_in_pairs(terms))
