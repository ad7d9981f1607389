"""`compile --set NAME=VALUE`: control inputs and weights that come as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgelstm
from edgelstm.errors import ShapeError
from edgelstm_compiler import compile_model
from tests.models import lstm_model
from tests.oracle import run_onnxruntime
from tests.unit.runtime.command_line import invoke


@pytest.fixture
def branching() -> onnx.ModelProto:
    """An LSTM behind which an input decides between two factors."""
    model = lstm_model(hidden=4, features=3, steps=6, outputs=("Y",))
    value = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [helper.make_node("Mul", ["Y", f"{name}_by"], [f"{name}_out"])],
            name,
            [],
            [value(f"{name}_out", TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(np.float32(factor), f"{name}_by")],
        )
        for name, factor in (("then_branch", 2), ("else_branch", 3))
    }
    rate = onnx.numpy_helper.from_array(np.array(16000), "wide")
    model.graph.initializer.append(rate)
    model.graph.node.append(helper.make_node("Equal", ["sr", "wide"], ["is_wide"]))
    model.graph.node.append(helper.make_node("If", ["is_wide"], ["Z"], **branches))
    model.graph.input.append(value("sr", TensorProto.INT64, []))
    del model.graph.output[:]
    model.graph.output.append(value("Z", TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_control_input(branching: onnx.ModelProto, rate: int) -> None:
    """The branch is chosen while compiling, and the input is none of the artifact's."""
    artifact = compile_model(branching, target="reference", mode="call", constants={"sr": rate})
    assert [spec.name for spec in artifact.signature.inputs] == ["X"]
    x = np.random.default_rng(0).standard_normal((6, 1, 3)).astype(np.float32)
    expected = run_onnxruntime(branching, {"X": x, "sr": np.array(rate)})["Z"]
    np.testing.assert_allclose(artifact.session().call(x), expected, atol=1e-6)


def test_before_ir_4() -> None:
    """Old files list what they store among their inputs, and so does the fixed one."""
    value = helper.make_tensor_value_info
    infos = [value("x", TensorProto.FLOAT, [2, 3]), value("by", TensorProto.FLOAT, [3])]
    node = helper.make_node("Mul", ["x", "by"], ["y"])
    graph = helper.make_graph([node], "old", infos, [value("y", TensorProto.FLOAT, [2, 3])])
    opset = helper.make_opsetid("", 7)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=3)
    by = np.array([1, 2, 3], np.float32)
    artifact = compile_model(model, target="reference", mode="call", constants={"by": by})
    assert [spec.name for spec in artifact.signature.inputs] == ["x"]
    assert artifact.manifest["check"]["against"].startswith("onnxruntime")


def test_without_it_the_way_out_is_named(branching: onnx.ModelProto) -> None:
    """The message says how the input is fixed."""
    with pytest.raises(edgelstm.ModelError, match="--set NAME=VALUE"):
        compile_model(branching, target="reference", mode="call")


@pytest.mark.parametrize(
    ("constants", "words"),
    [
        ({"rate": 1}, "no such input; its inputs are: X, sr"),
        ({"sr": 0.5}, "is not of type i64"),
        ({"sr": [1, 2]}, r"shape \(2,\), expected sr"),
        ({"X": "a"}, "is not of type f32"),
    ],
)
def test_values_that_do_not_fit(
    branching: onnx.ModelProto, constants: dict[str, Any], words: str
) -> None:
    """The input, what was given and what was expected."""
    with pytest.raises(ShapeError, match=words):
        compile_model(branching, target="reference", mode="call", constants=constants)


def test_on_the_command_line(branching: onnx.ModelProto, tmp_path: Path) -> None:
    """Compile fixes it, verify knows it from the artifact; a file of NumPy serves as well."""
    model, artifact = tmp_path / "m.onnx", tmp_path / "m.edgelstm"
    onnx.save(branching, model)
    words = ("compile", model, "-o", artifact, "--mode", "call", "--target", "reference")
    assert invoke(*words, "--set", "sr=16000").exit_code == 0
    checked = invoke("verify", artifact, "--model", model)
    assert checked.exit_code == 0, checked.stderr
    np.save(tmp_path / "rate.npy", np.array(8000))
    assert invoke(*words, "--set", f"sr={tmp_path / 'rate.npy'}").exit_code == 0
    wrong = invoke(*words, "--set", "sr=fast")
    assert wrong.exit_code == 2
    assert "'sr=fast'" in wrong.stderr
