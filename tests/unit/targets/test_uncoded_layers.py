"""Layers whose scales and biases have no codes, as other quantizers give them, in native code."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Constant
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_targets.processors.x86 import HOST
from tests.models import stacked_model
from tests.quantized_models import quantized, recordings, step_graph
from tests.unit.targets.native import natives

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm


def without_codes(graph: StepGraph) -> StepGraph:
    """The graph with scales a little larger and biases a little further."""

    def changed(constant: Constant) -> Constant:
        name, data = constant.value.name, constant.data
        places = np.arange(data.size).reshape(data.shape)
        if name.endswith("scale"):
            data = (data * (1.001 + 1e-6 * places)).astype(data.dtype)
        elif name.endswith(".B"):
            data = data + (1e-5 * places).astype(np.float32)
        return Constant.of(name, data) if data is not constant.data else constant

    new = {each.value: changed(each) for each in graph.constants}
    values = {old: constant.value for old, constant in new.items()}
    nodes = tuple(
        dataclasses.replace(
            node, inputs=tuple(v if v is None else values.get(v, v) for v in node.inputs)
        )
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes, constants=tuple(new.values()))


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.W8, Scheme.W4], ids=lambda s: s.value)
def test_layers_without_codes(scheme: Scheme) -> None:
    """They are packed in full, and every instruction set computes what NumPy does."""
    graph = step_graph(stacked_model(ops=("LSTM", "GRU"), steps=None, hidden=37, head="sequence"))
    found = quantized(graph, scheme).graph
    programs = [
        lower(g, HOST.unit_block, None, HOST.weight_offset) for g in (found, without_codes(found))
    ]
    assert len(programs[1].weights) > len(programs[0].weights)
    runner = ProgramRunner(programs[1])
    (recording,) = recordings(graph, count=1)
    natively = natives(programs[1])
    for frames in next(iter(recording.values()))[:20]:
        wanted = runner.step({name: frames for name in recording})
        for isa, native in natively.items():
            (y,) = native.step(frames)
            expected = next(iter(wanted.values())).reshape(y.shape)
            np.testing.assert_allclose(y, expected, 0, 2e-3, err_msg=isa)
