"""Cross-layer equalization keeps the function and evens out the weights."""

from __future__ import annotations

import numpy as np
from onnx import helper

from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.quant.equalize import equalize
from edgelstm_compiler.quant.replay import Replay
from tests.models import CellCase, cell_attributes, cell_weights, make_model, stacked_model
from tests.quantized_models import recordings, step_graph


def _heads() -> object:
    rng = np.random.default_rng(0)
    case = CellCase(op="GRU", hidden=6, features=3)
    uneven = np.exp(rng.uniform(-3, 3, 8)).astype(np.float32)
    arrays = {
        **cell_weights(case),
        "one": np.array([1], np.int64),
        "w1": rng.standard_normal((6, 8)).astype(np.float32) * uneven,
        "b1": rng.standard_normal(8).astype(np.float32),
        "w2": rng.standard_normal((8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], name="gru", **cell_attributes(case)),
        helper.make_node("Squeeze", ["Y", "one"], ["frames"]),
        helper.make_node("MatMul", ["frames", "w1"], ["m1"]),
        helper.make_node("Add", ["m1", "b1"], ["a1"]),
        helper.make_node("Relu", ["a1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["Z"]),
    ]
    shapes = (("X", ("T", 1, 3)), ("Z", ("T", 1, 4)))
    infos = [helper.make_tensor_value_info(name, 1, list(shape)) for name, shape in shapes]
    return make_model(nodes, infos[:1], infos[1:], arrays)


def test_the_function_stays_the_same() -> None:
    """Outputs agree, and the largest weights of the first layer's units come closer together."""
    graph = step_graph(_heads())  # type: ignore[arg-type]
    even = equalize(graph)
    verify(even)
    (recording,) = recordings(graph, 1)
    wanted, found = (Replay(g).run(recording)["Z"] for g in (graph, even))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)

    def unevenness(g: object) -> float:
        dense = next(n for n in g.nodes if n.op.kind == "Dense")  # type: ignore[attr-defined]
        data = {c.value: c.data for c in g.constants}  # type: ignore[attr-defined]
        largest = np.abs(data[dense.inputs[1]]).max(axis=0)
        return float(largest.max() / largest.min())

    assert unevenness(even) < 0.5 * unevenness(graph)


def test_nothing_to_equalize() -> None:
    """Without such a pair the SAME graph comes back."""
    graph = step_graph(stacked_model(steps=None, head="sequence"))
    assert equalize(graph) is graph
