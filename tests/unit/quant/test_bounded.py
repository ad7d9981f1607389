"""Which int8 values are known never to be -128."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.numerics.integers import IntegerNumerics
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.kernels import LayerKernel
from edgelstm_compiler.ir.numerics import Integer
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_compiler.lowering.bounded import bounded_values
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.models import gru_model, stacked_model
from tests.quantized_models import quantized, step_graph


@pytest.mark.parametrize("mode", ["stream", "call"])
def test_what_layers_hand_on_is_bounded(mode: str) -> None:
    """Not the input of the model; then what LSTM and GRU give, through both directions' merging."""
    steps, direction = (None, "forward") if mode == "stream" else (5, "bidirectional")
    model = stacked_model(ops=("LSTM", "GRU"), steps=steps, direction=direction, head="sequence")
    options = QuantizeOptions(wide_h=False)
    graph = quantized(step_graph(model, mode), Scheme.INT8_FULL, options).graph
    kernels = [call.kernel for call in lower(graph, 16).calls]
    layers = [kernel.numerics for kernel in kernels if isinstance(kernel, LayerKernel)]
    found = [numerics.is_x_bounded for numerics in layers if isinstance(numerics, Integer)]
    assert found == [False, True, True]


def test_no_h_comes_to_the_lowest_integer() -> None:
    """Whatever the step of h is: narrowing clamps to +-127."""
    options = QuantizeOptions(wide_h=False)
    graph = quantized(step_graph(gru_model()), Scheme.INT8_FULL, options).graph
    (op,) = [node.op for node in graph.nodes if isinstance(node.op, IntegerRecurrent)]
    assert bounded_values(graph)
    for multiplier in (127, 128, 300, 32767):
        fields = {**op_fields(op), "output_multiplier": multiplier}
        numerics = IntegerNumerics(op.cell.cell(), fields, 1)
        found = numerics.shown(np.arange(-32768, 32768, dtype=np.int16))
        assert (found.min(), found.max()) == (-127, 127)
