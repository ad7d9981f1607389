"""Normalizations in front of a layer disappear into it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.quant.fold_affine import fold_affine
from edgelstm_compiler.quant.replay import Replay
from tests.models import CellCase, _info, cell_attributes, cell_weights, make_model
from tests.quantized_models import recordings, step_graph


def _normalized(op: str, operators: list[str]) -> StepGraph:
    case = CellCase(op=op, hidden=5, features=3)
    arrays = {name: data for name, data in cell_weights(case).items()}
    nodes, source = [], "X"
    rng = np.random.default_rng(0)
    for index, operator in enumerate(operators):
        arrays[f"k{index}"] = rng.uniform(0.5, 2.0, 3).astype(np.float32)
        nodes.append(helper.make_node(operator, [source, f"k{index}"], [f"v{index}"]))
        source = f"v{index}"
    names = [source, "W", "R", "B"]
    nodes.append(helper.make_node(op, names, ["Y"], name="cell", **cell_attributes(case)))
    shapes = (("T", 1, 3), ("T", 1, 1, 5))
    return step_graph(make_model(nodes, [_info("X", shapes[0])], [_info("Y", shapes[1])], arrays))


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("operators", [["Sub", "Mul"], ["Div", "Add"], ["Add", "Sub", "Mul"]])
def test_normalization_is_folded(op: str, operators: list[str]) -> None:
    """The folded graph has the cell alone and computes the same."""
    graph = _normalized(op, operators)
    folded = fold_affine(graph, {"cell"})
    verify(folded)
    assert not any(node.op.kind == "Binary" for node in folded.nodes)
    (recording,) = recordings(graph, 1)
    wanted, found = (Replay(g).run(recording)["Y"] for g in (graph, folded))
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_other_layers_are_left_alone() -> None:
    """Only the named layers take it in; otherwise the SAME graph comes back."""
    graph = _normalized("LSTM", ["Sub"])
    assert fold_affine(graph, set()) is graph
