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
            block.store(block.handed[0], numbers.handed(z))
            block.store(block.handed[1], numbers.reduced(numbers.weighed(r, h), 15))
            return
        inner = tir.name(numbers.saturated(block.sums[3]))
        total = block.sums[2] + numbers.rounding_shift(numbers.weighed(r, inner), 15)
    else:
        z = tir.name(numbers.taken(block.load(block.handed[0])))
        total = block.sums[0]
    n = block.candidate(_G, total)
    mixed = numbers.weighed(numbers.rest_of(z), n) + numbers.weighed(z, h)
    block.store(block.new_h, numbers.settled(mixed, 15))
