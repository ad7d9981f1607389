"""GRU: hidden state from the sums of z, r and the candidate, reset before or after the product."""

from __future__ import annotations

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.block import Block

_F, _G = range(2)  # the operator's two functions


def finish(block: Block) -> None:
    """H' = (1 - z)*n + z*h.  Source: ONNX operators, GRU-22.

    With linear_before_reset there is one phase with the sums z, r, candidate of x and candidate of
    h. Without there are two: z and r; then the candidate, of r*h.
    """
    lanes, functions = block.lanes, block.functions
    h = tir.name(block.h.load(lanes))
    if block.phase == 0:
        z = tir.name(block.gate(_F, block.sums[0]).value)
        r = tir.name(block.gate(_F, block.sums[1]).value)
        if not block.op.linear_before_reset:
            block.handed[0].store(z, lanes)
            block.handed[1].store(functions.flush(tir.name(r * h)), lanes)
            return
        candidate = block.sums[2] + r * block.sums[3]
    else:
        z = tir.name(block.handed[0].load(lanes))
        candidate = block.sums[0]
    n = block.gate(_G, candidate).value
    new_h = tir.name((functions.number(1.0) - z) * n + z * h)
    block.new_h.store(functions.flush(new_h), lanes)
