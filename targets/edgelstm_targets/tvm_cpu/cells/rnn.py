"""RNN: hidden state from one sum."""

from __future__ import annotations

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.block import Block


def finish(block: Block) -> None:
    """H' = f(sum).  Source: ONNX operators, RNN-22."""
    h = tir.name(block.gate(0, block.sums[0]).value)
    block.new_h.store(block.functions.flush(h), block.lanes)
