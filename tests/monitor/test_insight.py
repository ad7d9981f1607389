"""Insight: gates against ONNX Runtime's operator, occlusion against a run by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError, RecordingError
from edgelstm.monitor.insight import Explainer, HeatMap, Insight
from edgelstm_compiler.demo import MODEL_PATH
from edgelstm_compiler.demo.monitored import compile_demo
from edgelstm_compiler.driver import compile_model
from tests.models import lstm_model

FRAMES, RATE_HZ = 150, 25.0
"""Few, because the reference engine steps the streams of an occlusion one by one."""


@pytest.fixture(scope="module")
def reference(reference_path: Path) -> Artifact:
    """The demo model as a reference program."""
    return Artifact.load(reference_path)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.float32]:
    """Something like a walk."""
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.normal(0, 0.1, (FRAMES, 6)), axis=0)
    return (walk - walk.mean(axis=0)).astype(np.float32)


@pytest.fixture(scope="module")
def said(reference: Artifact, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a stream answers."""
    with reference.session() as session:
        return np.asarray(session.run(frames)).reshape(FRAMES, -1)


@pytest.fixture(scope="module")
def found(reference: Artifact, frames: NDArray[np.float32], said: NDArray[np.float32]) -> Insight:
    """The insight into the last frame."""
    return Explainer(reference).explain(np.arange(FRAMES) / RATE_HZ, frames, said[-1], output=2)


def _map(found: Insight, layer: str, name: str) -> HeatMap:
    return next(each for each in found.maps if (each.layer, each.name) == (layer, name))


def test_the_answer_is_the_one_that_was_given(found: Insight, said: NDArray[np.float32]) -> None:
    """All that was fed is still there: the states are found exactly."""
    assert found.score == said[-1, 2]
    assert found.difference == 0.0
    assert found.warm_up_s == pytest.approx(1.96)  # 6 s in all, 4 of them shown


def test_states_are_those_of_onnx_runtime(found: Insight, frames: NDArray[np.float32]) -> None:
    """Hidden and cell state of the first layer in the last column: Y_h and Y_c of its operator."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load(MODEL_PATH)
    layer = next(node for node in model.graph.node if node.op_type == "LSTM")
    for k in (1, 2):
        layer.output[k] = layer.output[k] or f"state {k}"
        shown = helper.make_tensor_value_info(layer.output[k], onnx.TensorProto.FLOAT, None)
        model.graph.output.append(shown)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    *_, h, c = session.run(None, {"imu": frames[None]})
    for name, expected in (("hidden state", h), ("cell state", c)):
        values = _map(found, "layer 1", name).values
        assert values.shape == (32, 101)
        np.testing.assert_allclose(values[:, -1], expected.reshape(-1), rtol=1e-5, atol=2e-6)


def test_gates_are_those_of_the_equations(
    found: Insight, reference: Artifact, frames: NDArray[np.float32]
) -> None:
    """i, o, f and candidate of the last frame in float64, from the weights in the file.

    Source: ONNX operators, LSTM-22; gates in ONNX order i, o, f, c.
    """
    model = onnx.load(MODEL_PATH)
    layer = next(node for node in model.graph.node if node.op_type == "LSTM")
    tensors = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    w, r, b = (tensors[name].astype(np.float64)[0] for name in layer.input[1:4])
    nodes = {node.output[0]: node for node in model.graph.node}
    x = frames[-1].astype(np.float64)
    for op in ("Sub", "Mul"):
        node = next(n for n in nodes.values() if n.op_type == op)
        operand = next(tensors[name] for name in node.input if name in tensors).reshape(-1)
        x = x - operand if op == "Sub" else x * operand
    with reference.session() as session:
        session.run(frames[:-1])
        h = np.asarray(session.get_state("/lstm/LSTM.h"), np.float64).reshape(-1)
    i, o, f, g = np.split(w @ x + r @ h + b[:128] + b[128:], 4)
    expected = {
        "input gate": 1 / (1 + np.exp(-i)),
        "output gate": 1 / (1 + np.exp(-o)),
        "forget gate": 1 / (1 + np.exp(-f)),
        "candidate": np.tanh(g),
    }
    for name, values in expected.items():
        each = _map(found, "layer 1", name)
        np.testing.assert_allclose(each.values[:, -1], values, atol=2e-6)
        assert each.is_signed == (name == "candidate")


def test_occlusion_is_what_a_run_by_hand_loses(
    found: Insight, reference: Artifact, frames: NDArray[np.float32]
) -> None:
    """A channel and stretch replaced by the channel's mean, in a session of one stream."""
    since = (np.arange(FRAMES) - FRAMES + 1) / RATE_HZ
    for channel, stretch in ((0, 7), (3, 0), (5, 4)):
        begin, end = found.edges[stretch : stretch + 2]
        last = stretch == len(found.edges) - 2
        chosen = (since >= begin - 1e-9) & ((since < end - 1e-9) | last)
        other = frames.copy()
        other[chosen, channel] = frames[:, channel].mean()
        with reference.session() as session:
            answer = np.asarray(session.run(other)).reshape(FRAMES, -1)[-1, 2]
        assert found.by_stretch[channel, stretch] == pytest.approx(
            found.score - float(answer), abs=1e-6
        )
    assert np.abs(found.by_stretch).max() > 1e-3


def test_a_lost_beginning_shows_in_the_difference(
    reference: Artifact, frames: NDArray[np.float32], said: NDArray[np.float32]
) -> None:
    """The states are found from less; the text on the page says by how much the answer differs."""
    times = np.arange(FRAMES) / RATE_HZ
    late = Explainer(reference).explain(times[-60:], frames[-60:], said[-1], output=2)
    assert late.difference > 0
    assert late.warm_up_s == 0


def test_the_compiled_model_explains_itself_and_the_reference_shows_its_gates(
    reference: Artifact, frames: NDArray[np.float32], said: NDArray[np.float32], tmp_path: Path
) -> None:
    """Without the reference there are states, no gates; another model's is refused by name."""
    pytest.importorskip("tvm")
    compile_demo(tmp_path / "host.edgelstm", "host")
    host = Artifact.load(tmp_path / "host.edgelstm")
    times = np.arange(FRAMES) / RATE_HZ
    alone = Explainer(host).explain(times, frames, said[-1], output=2)
    assert {each.name for each in alone.maps} == {"hidden state", "cell state"}
    both = Explainer(host, reference).explain(times, frames, said[-1], output=2)
    assert "forget gate" in {each.name for each in both.maps}
    np.testing.assert_allclose(both.by_channel, alone.by_channel, atol=1e-7)
    other = compile_model(lstm_model(), target="reference", check=False)
    with pytest.raises(CapabilityError, match="is not the model that runs"):
        Explainer(host, other)


def test_what_cannot_be_explained_says_so(
    reference: Artifact, frames: NDArray[np.float32], said: NDArray[np.float32]
) -> None:
    """Too few samples, nothing measured, no such output."""
    times = np.arange(FRAMES) / RATE_HZ
    explainer = Explainer(reference)
    with pytest.raises(RecordingError, match="only 5 samples"):
        explainer.explain(times[:5], frames[:5], said[4], output=0)
    with pytest.raises(RecordingError, match="there is no output 9"):
        explainer.explain(times, frames, said[-1], output=9)
    broken = frames.copy()
    broken[-1, 2] = np.nan
    with pytest.raises(RecordingError, match="nothing was measured"):
        explainer.explain(times, broken, said[-1], output=0)
    broken = frames.copy()
    broken[30, 2] = np.nan  # what is behind it is explained
    assert explainer.explain(times, broken, said[-1], output=0).warm_up_s < 1


def test_attention_inside_a_step_is_shown() -> None:
    """A softmax that weighs the channels of a frame: its weights, over time; not the output's."""
    model = lstm_model(features=4, hidden=3)
    fed = model.graph.input[0].name
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name == fed:
                node.input[k] = "attended"
    weights = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "scores of channels"))
    for node in (
        helper.make_node("Mul", [fed, "attention"], ["attended"]),
        helper.make_node("Softmax", ["scores"], ["attention"], axis=-1),
        helper.make_node("MatMul", [fed, "scores of channels"], ["scores"]),
    ):
        model.graph.node.insert(0, node)
    artifact = compile_model(model, target="reference", check=False)
    frames = np.random.default_rng(4).normal(size=(50, 4)).astype(np.float32)
    found = Explainer(artifact).explain(np.arange(50) / 10, frames, np.zeros(1), output=0)
    shown = [each for each in found.maps if each.name == "attention weights"]
    assert len(shown) == 1
    scores = np.exp(frames[-1].astype(np.float64) @ weights)
    np.testing.assert_allclose(shown[0].values[:, -1], scores / scores.sum(), atol=1e-6)
