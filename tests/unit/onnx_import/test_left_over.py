"""Operators of TensorFlow that tf2onnx leaves in its files."""

from __future__ import annotations

from math import erfc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.driver import compile_model
from tests.unit.onnx_import.one_node import graph_model, imported, kinds, normal


def gelu(op: str = "Erfc", opset: int = 15) -> onnx.ModelProto:
    """x/2 * erfc(-x/sqrt(2)), as Keras' GELU is exported."""
    nodes = [
        helper.make_node("Mul", ["x", "slope"], ["scaled"]),
        helper.make_node(op, ["scaled"], ["tail"], name="Gelu/Erfc"),
        helper.make_node("Mul", ["x", "tail"], ["double"]),
        helper.make_node("Mul", ["double", "half"], ["y"]),
    ]
    constants = {
        "slope": np.asarray(-np.sqrt(0.5), np.float32),
        "half": np.asarray(0.5, np.float32),
    }
    given = {"x": (TensorProto.FLOAT, (2, 5))}
    return graph_model(nodes, given, ["y"], constants, opset=opset)


def test_the_complement_of_erf() -> None:
    """Computed by what the function is; the self-check runs it in ONNX Runtime."""
    x = normal(2, 5) * 3
    artifact = compile_model(gelu(), target="reference", mode="call")
    assert artifact.manifest["check"]["done"]
    wanted = [v / 2 * erfc(-v / np.sqrt(2)) for v in x.reshape(-1).tolist()]
    found = artifact.session().call(x)
    np.testing.assert_allclose(found.reshape(-1), wanted, 1e-5, 1e-6)


def test_inside_of_branches() -> None:
    """Graphs inside of a graph are looked through."""
    inner = gelu().graph
    branch = helper.make_graph(
        list(inner.node), "branch", [], list(inner.output), list(inner.initializer)
    )
    node = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    made = graph_model([node], {"x": normal(2, 5)}, ["out"], {"yes": np.asarray(True)}, opset=15)
    assert kinds(imported(made)) == ["Binary", "Unary", "Binary", "Binary", "Binary"]


def test_others_are_refused_by_name() -> None:
    """What has no meaning here; of random numbers with what to do."""
    with pytest.raises(UnsupportedOpError, match=r"Erfinv 'Gelu/Erfc': no such ONNX operator"):
        imported(gelu("Erfinv"))
    with pytest.raises(UnsupportedOpError, match=r"random numbers.*training=False"):
        imported(gelu("StatelessRandomUniformV2"))
