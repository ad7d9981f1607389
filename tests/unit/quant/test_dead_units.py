"""Dead units of dense layers disappear, with what they add to the layers behind them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Dense
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.dead_units import drop_dead_units
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import Scheme
from tests.models import CellCase, _info, cell_attributes, cell_weights, make_model
from tests.quantized_models import recordings, step_graph


def _graph(behind: str, function: str, *, dead: bool) -> StepGraph:
    """Dense 3 -> 8 with a function, then a layer; units 2 and 5 have no inputs, 6 no readers."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((3, 8)).astype(np.float32),
        "b": rng.standard_normal(8).astype(np.float32),
    }
    case = CellCase(op=behind if behind != "Gemm" else "LSTM", hidden=5, features=8)
    cell = cell_weights(case)
    second = rng.standard_normal((8, 4)).astype(np.float32)
    if dead:
        arrays["w"][:, [2, 5]] = 0
        cell["W"][..., 6] = 0
        second[6] = 0
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node(function, ["s"], ["a"]),
    ]
    if behind == "Gemm":
        arrays["v"] = second
        nodes.append(helper.make_node("MatMul", ["a", "v"], ["Y"], name="second"))
        shape: tuple[int | str, ...] = (1, 1, 4)
    else:
        arrays |= cell
        names = ["a", "W", "R", "B"]
        nodes.append(helper.make_node(behind, names, ["Y"], name="cell", **cell_attributes(case)))
        shape = ("T", 1, 1, 5)
    frames: int | str = 1 if behind == "Gemm" else "T"
    model = make_model(nodes, [_info("X", (frames, 1, 3))], [_info("Y", shape)], arrays)
    return step_graph(model, "call" if behind == "Gemm" else "stream")


def _schemes(graph: StepGraph, scheme: Scheme) -> dict[str, Scheme]:
    return {node.name: scheme for node in graph.nodes}


@pytest.mark.parametrize("function", ["Relu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("behind", ["Gemm", "LSTM", "GRU"])
def test_dead_units_are_dropped(behind: str, function: str) -> None:
    """Five of eight units are left, and the function is the same."""
    graph = _graph(behind, function, dead=True)
    narrow, _ = drop_dead_units(graph, None, _schemes(graph, Scheme.W8))
    verify(narrow)
    first = next(node for node in narrow.nodes if isinstance(node.op, Dense))
    assert first.outputs[0].type.shape[-1] == 5
    (recording,) = recordings(graph, 1)
    wanted, found = (Replay(g).run(recording)["Y"] for g in (graph, narrow))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_living_units_stay() -> None:
    """Otherwise, and where the layer is not quantized, the SAME graph comes back."""
    graph = _graph("LSTM", "Relu", dead=False)
    assert drop_dead_units(graph, None, _schemes(graph, Scheme.W8))[0] is graph
    graph = _graph("LSTM", "Relu", dead=True)
    assert drop_dead_units(graph, None, {})[0] is graph


@pytest.mark.parametrize("scheme", [Scheme.W8, Scheme.INT8, Scheme.INT8_FULL], ids=str)
@pytest.mark.parametrize("behind", ["Gemm", "LSTM", "GRU"])
def test_dead_units_cost_no_accuracy(behind: str, scheme: Scheme) -> None:
    """A model with dead units comes as close as one without."""
    graph = _graph(behind, "Relu", dead=True)
    result = quantize_graph(graph, calibrate(graph, recordings(graph, 100)), scheme)
    recording = recordings(graph, 1, seed=5)[0]
    wanted, found = (Replay(g).run(recording)["Y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= 33.0
