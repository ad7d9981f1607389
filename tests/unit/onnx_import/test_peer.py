"""ONNX Runtime as the peer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm_compiler.onnx_import import read_model
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from tests.models import lstm_model, rnn_model, stacked_model
from tests.oracle import assert_close, random_inputs, run_onnxruntime


def test_runs_a_model(tmp_path: Path) -> None:
    """Outputs by name, from a model or from its path; inputs it does not have are ignored."""
    model = stacked_model()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    inputs = random_inputs(model)
    expected = run_onnxruntime(model, inputs)
    for source in (read_model(model), path, str(path)):
        peer = OnnxRuntimePeer(source, threads=1)
        assert_close(peer.run({**inputs, "other": np.zeros(1)}), expected)
    assert peer.version.startswith("onnxruntime ")
    assert (peer.input_names, peer.output_names) == (("X",), ("Z",))
    assert_close(peer.run_list(inputs)[0], expected["Z"])


def test_static_axes_can_be_freed() -> None:
    """A baked-in length becomes free, where the graph allows it."""
    peer = OnnxRuntimePeer(read_model(lstm_model(steps=5)), dynamic={"X": [0]})
    x = np.zeros((9, 1, 3), np.float32)
    assert peer.run({"X": x})["Y"].shape == (9, 1, 1, 4)


def test_inner_values_can_be_shown() -> None:
    """Extra outputs by ONNX name; unknown names are skipped."""
    model = stacked_model()
    peer = OnnxRuntimePeer(read_model(model), extra_outputs=["frames_1", "nobody", "Z"])
    assert peer.output_names == ("Z", "frames_1")
    assert set(peer.run(random_inputs(model))) == {"Z", "frames_1"}


def test_refusals_are_one_error() -> None:
    """What ONNX Runtime does not take is told to fall back."""
    model = lstm_model(layout=1)
    with pytest.raises(PeerUnavailableError, match="onnxruntime"):
        OnnxRuntimePeer(read_model(model)).run(random_inputs(model))


@pytest.mark.parametrize("inputs", [{}, {"X": np.zeros((2, 2), np.float32)}, {"X": np.zeros(3)}])
def test_wrong_inputs_are_the_same_error(inputs: dict[str, Any]) -> None:
    """Missing inputs, wrong shapes, wrong types."""
    peer = OnnxRuntimePeer(read_model(lstm_model()))
    with pytest.raises(PeerUnavailableError, match="does not run"):
        peer.run(inputs)


def test_unknown_input_to_free() -> None:
    """The input is named."""
    with pytest.raises(PeerUnavailableError, match="no input 'Q'"):
        OnnxRuntimePeer(read_model(lstm_model()), dynamic={"Q": [0]})


def test_unsound_versions_are_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that aborts the process on a model is not asked about it."""
    monkeypatch.setattr("onnxruntime.__version__", "1.23.2")
    OnnxRuntimePeer(read_model(rnn_model()))
    OnnxRuntimePeer(read_model(lstm_model(activations=("Elu", "Tanh", "Tanh"))))
    with pytest.raises(PeerUnavailableError, match=r"1\.23\.2 reads activation_alpha"):
        OnnxRuntimePeer(read_model(rnn_model(activations=("Elu",), alpha=(0.5,))))


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxruntime the peer says so and nothing else breaks."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not OnnxRuntimePeer.available()
    with pytest.raises(PeerUnavailableError, match="pip install onnxruntime"):
        OnnxRuntimePeer(read_model(lstm_model()))
