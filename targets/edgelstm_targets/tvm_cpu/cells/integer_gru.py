"""The integer GRU: int16 h in Q0.15, which products and outputs see as int8."""

from __future__ import annotations

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.integer_block import IntegerBlock

_F, _G = range(2)  # the operator's two functions


def finish(block: IntegerBlock) -> None:
    """H' = (1 - z) n + z h, as `IntegerGRU` says; phases as in the float cell."""
    op, numbers = block.op, block.arithmetic
    h = block.load(block.h)
    if block.phase == 0:
        z = block.gate(_F, block.sums[0])
        r = block.gate(_F, block.sums[1])
        if not op.cell.linear_before_reset:
            block.store(block.handed[0], z - numbers.number(16384))
            block.store(block.handed[1], numbers.rounding_shift(r * h, 15))
            return
        inner = numbers.saturate16(block.sums[3])
        total = block.sums[2] + numbers.rounding_shift(r * inner, 15)
    else:
        z = tir.name(block.load(block.handed[0]) + numbers.number(16384))
        total = block.sums[0]
    n = block.candidate(_G, total)
    mixed = (numbers.number(32768) - z) * n + z * h
    block.store(block.new_h, numbers.saturate16(numbers.rounding_shift(mixed, 15)))
