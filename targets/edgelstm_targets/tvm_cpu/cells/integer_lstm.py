"""The integer LSTM: int8 h, int16 c with the scale 2^(cell_exponent - 15), gates in Q0.15."""

from __future__ import annotations

from edgelstm.engines.numpy_ops.quantized_recurrence import SIGNED_FRACTION
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.integer_block import IntegerBlock
from edgelstm_targets.tvm_cpu.tensorir import Expr

_F, _G, _H = range(3)  # the operator's three functions
_I, _O, _FORGET = range(3)  # order of the peepholes


def finish(block: IntegerBlock) -> None:
    """C' = f c + i g, h' = o h(c'), as `IntegerLSTM` says."""
    op, numbers = block.op, block.arithmetic
    input_sum, output_sum, forget_sum, candidate_sum = block.sums
    assert block.c is not None
    c = block.load(block.c)

    def peep(gate: int, total: Expr, state: Expr) -> Expr:
        if not block.peepholes:
            return total
        weighted = numbers.product(block.load(block.peepholes[gate]), state)
        return total + numbers.rounding_shift(weighted, op.peephole_shift)

    i = block.gate(_F, peep(_I, input_sum, c))
    g = block.candidate(_G, candidate_sum)
    f = numbers.rest_of(i) if op.cell.input_forget else block.gate(_F, peep(_FORGET, forget_sum, c))
    gained = numbers.rounding_shift(numbers.weighed(i, g), op.cell_exponent)
    new_c = tir.name(numbers.settled(numbers.weighed(f, c) + gained, 15, lowest=-32767))
    block.store(block.c, new_c)
    o = block.gate(_F, peep(_O, output_sum, new_c))
    shown = block.shown(_H, numbers.moved(new_c, op.cell_exponent - (15 - SIGNED_FRACTION)))
    h = numbers.reduced(numbers.weighed(o, tir.name(shown)), 15)
    block.store(block.new_h, block.narrow(tir.name(h)))
