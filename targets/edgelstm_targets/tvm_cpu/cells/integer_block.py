"""What an integer epilogue sees: as `block.py`, with int32 sums and functions from tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.engines.numpy_ops.quantized_recurrence import (
    SIGNED_FRACTION,
    UNIT_FRACTION,
    clip_limit,
)
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.block import Slot
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class IntegerBlock:
    """One group of units of one frame.

    Args:
        op: the integer operator.
        arithmetic: on its vectors.
        tables: all tables.
        rows: which of them this direction's functions are, in ONNX order.
        sums: the accumulators of the phase, shifted.
        phase: index of the phase.
        h: the previous hidden state.
        c: the cell state, in place (LSTM).
        new_h: where the new hidden state goes.
        handed: workspace (int16) by which an earlier phase hands vectors to a later one.
        peepholes: i, o, f, or empty.
    """

    op: Any
    arithmetic: Integers
    tables: Buffer
    rows: Sequence[int]
    sums: Sequence[Expr]
    phase: int
    h: Slot
    c: Slot | None
    new_h: Slot
    handed: Sequence[Slot]
    peepholes: Sequence[Slot]

    def load(self, slot: Slot) -> Expr:
        """The units' values as a half."""
        return tir.name(self.arithmetic.half(slot.load(self.arithmetic.lanes)))

    def store(self, slot: Slot, value: Expr) -> None:
        """Write the low bits of the units' values."""
        narrow = self.arithmetic.narrowed_to(str(slot.buffer.dtype), value)
        slot.store(narrow, self.arithmetic.lanes)

    def gate(self, function: int, total: Expr) -> Expr:
        """A gate of a sum in Q4.11, as a unit."""
        within = self._bounded(total, UNIT_FRACTION)
        return tir.name(self.arithmetic.unit(self._look_up(function, within)))

    def candidate(self, function: int, total: Expr) -> Expr:
        """A value in [-1, 1] as Q0.15, a half, of a sum in Q3.12."""
        return tir.name(self._look_up(function, self._bounded(total, SIGNED_FRACTION)))

    def shown(self, function: int, value: Expr) -> Expr:
        """A function of a half in Q3.12, which no clip bounds."""
        return self._look_up(function, value)

    def narrow(self, h: Expr) -> Expr:
        """The h in Q0.15 as products and outputs take it."""
        return self.arithmetic.narrow(h, self.op.output_multiplier, self.op.output_shift)

    def _look_up(self, function: int, value: Expr) -> Expr:
        return self.arithmetic.look_up(self.tables, self.rows[function], value)

    def _bounded(self, total: Expr, fraction: int) -> Expr:
        clip = self.op.cell.clip
        if clip is None:
            return self.arithmetic.saturated(total)
        return self.arithmetic.bounded(total, clip_limit(clip, fraction))


IntegerEpilogue = Callable[[IntegerBlock], None]
