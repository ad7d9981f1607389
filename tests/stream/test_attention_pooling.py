"""Softmax over time that is summed over time, in every form that exporters give it: exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.streaming.refusal import StreamabilityError

FORMS = {
    "product": [
        ("MatMul", ["s", "v"], "a", {}),
        ("Softmax", ["a"], "w", {"axis": 1}),
        ("Mul", ["w", "s"], "p", {}),
        ("ReduceSum", ["p", "one"], "o", {"keepdims": 0}),
    ],
    "matrix": [
        ("MatMul", ["s", "v"], "a", {}),
        ("Softmax", ["a"], "w", {"axis": 1}),
        ("Transpose", ["w"], "t", {"perm": [0, 2, 1]}),
        ("MatMul", ["t", "s"], "o", {}),
    ],
    "two queries": [
        ("Transpose", ["s"], "k", {"perm": [0, 2, 1]}),
        ("MatMul", ["q", "k"], "a", {}),
        ("Softmax", ["a"], "w", {"axis": -1}),
        ("MatMul", ["w", "s"], "o", {}),
    ],
    "squeezed scores": [
        ("MatMul", ["s", "v"], "a", {}),
        ("Squeeze", ["a", "two"], "b", {}),
        ("Softmax", ["b"], "w", {"axis": 1}),
        ("Unsqueeze", ["w", "one"], "u", {}),
        ("MatMul", ["u", "s"], "o", {}),
    ],
    "log of sums": [("ReduceLogSumExp", ["s", "one"], "o", {})],
    "log of sums over features, too": [("ReduceLogSumExp", ["s", "both"], "o", {})],
}


def attention(form: list[tuple[str, list[str], str, dict[str, object]]]) -> onnx.ModelProto:
    """An LSTM over (1, T, 3) with these nodes on its sequence s."""
    rng = np.random.default_rng(1)

    def stored(name: str, data: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(data), name)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return stored(name, rng.standard_normal(shape).astype(np.float32))

    tensors = [weights("W", 1, 16, 3), weights("R", 1, 16, 4), weights("v", 4, 1)]
    tensors += [weights("q", 2, 4), stored("one", [1]), stored("two", [2]), stored("both", [1, 2])]
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["xt", "W", "R"], ["y"], "cell", hidden_size=4),
        helper.make_node("Squeeze", ["y", "one"], ["ys"]),
        helper.make_node("Transpose", ["ys"], ["s"], perm=[1, 0, 2]),
    ]
    nodes += [
        helper.make_node(op, inputs, [out], f"{op}_{out}", **more) for op, inputs, out, more in form
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "T", 3])]
    shown = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "attention", given, shown, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


@pytest.mark.parametrize("form", FORMS)
def test_the_pooled_frames_are_known_at_any_time(form: str) -> None:
    """At several lengths of the sequence, as the self-check compares them with ONNX Runtime."""
    artifact = compile_model(attention(FORMS[form]), target="reference")
    check = artifact.manifest["check"]
    assert check["done"]
    assert check["against"].startswith("onnxruntime")
    assert artifact.signature.outputs[0].time_axis is None


def test_large_scores_do_not_overflow() -> None:
    """Exponentials are relative to the largest score so far."""
    artifact = compile_model(attention(FORMS["log of sums"]), target="reference", check=False)
    with artifact.session() as session:
        frames = np.full((50, 3), 1e6, np.float32)
        assert np.isfinite(session.run(frames)).all()


@pytest.mark.parametrize("operator", ["Identity", "Exp", "Transpose"])
def test_the_weights_themselves_are_refused(operator: str) -> None:
    """What every frame's share is, only the end of the sequence tells."""
    form = [*FORMS["product"][:2], (operator, ["w"], "o", {})]
    with pytest.raises(StreamabilityError, match=r"Softmax 'Softmax_w'.*needs all frames"):
        compile_model(attention(form), target="reference")
