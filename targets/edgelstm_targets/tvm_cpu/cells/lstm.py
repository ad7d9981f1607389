"""LSTM: cell and hidden state from the sums of i, o, f and the candidate."""

from __future__ import annotations

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Fraction
from edgelstm_targets.tvm_cpu.cells.block import Block

_F, _G, _H = range(3)  # the operator's three functions


def finish(block: Block) -> None:
    """C' = f*c + i*g, h' = o*h(c').  Source: ONNX operators, LSTM-22."""
    lanes, functions = block.lanes, block.functions
    input_sum, output_sum, forget_sum, candidate_sum = block.sums
    assert block.c is not None
    c = tir.name(block.c.load(lanes))
    if block.peepholes:
        input_sum = input_sum + block.peepholes[0].load(lanes) * c
        forget_sum = forget_sum + block.peepholes[2].load(lanes) * c
    i = block.gate(_F, input_sum)
    g = block.gate(_G, candidate_sum)
    if block.op.input_forget:
        i = Fraction(tir.name(i.value))
        f = functions.number(1.0) - i.value
    else:
        f = block.gate(_F, forget_sum).value
    new_c = tir.name(functions.flush(tir.name(f * c + (i * g).value)))
    block.c.store(new_c, lanes)
    if block.peepholes:
        output_sum = output_sum + block.peepholes[1].load(lanes) * new_c
    o = block.gate(_F, output_sum)
    # As in ONNX Runtime, clip bounds the gates but not the cell state on its way to h.
    h = tir.name((o * block.activate(_H, new_c)).value)
    block.new_h.store(functions.flush(h), lanes)
