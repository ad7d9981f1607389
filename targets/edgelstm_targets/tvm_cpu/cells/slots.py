"""Vectors in memory that a cell's body reads and writes."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_NARROW = ("int8", "int16")


@dataclass(frozen=True, slots=True)
class Slot:
    """Vectors in memory, at the block's units.

    Args:
        buffer: the memory.
        start: element of the first unit of the block.
        count: how many units of the block exist, or None if there is room for all.
    """

    buffer: Buffer
    start: Expr
    count: Expr | None = None

    def load(self, lanes: int) -> Expr:
        """The units' values; undefined for units that do not exist."""
        if self.count is None:
            return tir.load_vector(self.buffer, self.start, lanes)
        return tir.load_masked(self.buffer, self.start, lanes, self.count)

    def store(self, value: Expr, lanes: int) -> None:
        """Write the values of the units that exist."""
        if self.count is None:
            tir.store_vector(self.buffer, self.start, value, lanes)
        elif str(self.buffer.dtype) in _NARROW:
            self._store_narrow(value, lanes, self.count)
        else:
            tir.store_masked(self.buffer, self.start, value, lanes, self.count)

    def _store_narrow(self, value: Expr, lanes: int, count: Expr) -> None:
        """No masked store: LLVM writes 32 bits where the mask is known to hold one lane only."""
        staged = tir.local(lanes, str(self.buffer.dtype))
        tir.store_vector(staged, 0, value, lanes)
        with tir.when(count >= lanes):
            whole = tir.load_vector(staged, 0, lanes)
            tir.store_vector(self.buffer, self.start, whole, lanes)
        with tir.when(count < lanes), tir.loop(tirx.max(count, tir.integer(0))) as i:
            tir.store(self.buffer, self.start + i, staged[i])


@dataclass(frozen=True, slots=True)
class UnitGroup:
    """Units of a block that a body is written for.

    Args:
        lanes: how many.
        offset: the first of them, from the block's first.
        is_whole: none of them is padding.
        is_in_place: the new h is written where the old one is, which nothing else reads.
    """

    lanes: int
    offset: Expr
    is_whole: bool
    is_in_place: bool = False
