"""Which int8 values are known never to be -128."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm_compiler.ir.kernels import LayerKernel
from edgelstm_compiler.ir.numerics import Integer
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_compiler.lowering.bounded import bounded_values, is_symmetric
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import Scheme
from tests.models import gru_model, stacked_model
from tests.quantized_models import quantized, step_graph


@pytest.mark.parametrize("mode", ["stream", "call"])
def test_what_layers_hand_on_is_bounded(mode: str) -> None:
    """Not the input of the model; then what LSTM and GRU give, through both directions' merging."""
    steps, direction = (None, "forward") if mode == "stream" else (5, "bidirectional")
    model = stacked_model(ops=("LSTM", "GRU"), steps=steps, direction=direction, head="sequence")
    graph = quantized(step_graph(model, mode), Scheme.INT8_FULL).graph
    kernels = [call.kernel for call in lower(graph, 16).calls]
    layers = [kernel.numerics for kernel in kernels if isinstance(kernel, LayerKernel)]
    found = [numerics.is_x_bounded for numerics in layers if isinstance(numerics, Integer)]
    assert found == [False, True, True]


def test_other_scales_may_reach_the_lowest_integer() -> None:
    """An h of -1 becomes -127 as cells are made; with a larger multiplier nothing is known."""
    graph = quantized(step_graph(gru_model()), Scheme.INT8_FULL).graph
    (op,) = [node.op for node in graph.nodes if isinstance(node.op, IntegerRecurrent)]
    assert is_symmetric(op)
    wider = dataclasses.replace(op, output_multiplier=128)
    assert not is_symmetric(wider)
    nodes = [dataclasses.replace(node, op=wider) if node.op is op else node for node in graph.nodes]
    assert bounded_values(graph)
    assert not bounded_values(dataclasses.replace(graph, nodes=tuple(nodes)))
