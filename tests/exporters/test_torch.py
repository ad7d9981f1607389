"""PyTorch networks and everyday heads through both exporters: exact in call mode.

pip install './compiler[exporters]' && pytest tests/exporters -n 0

or with a Python of its own: EDGELSTM_TORCH_PYTHON=PATH. Networks without later frames stream.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.exporters.exported import Exported, check_call, python_with, run_script

pytestmark = pytest.mark.slow

EXPORTERS = ("TorchScript", "dynamo")

TARGETS = ["reference", pytest.param("host", marks=pytest.mark.tvm)]

NETWORKS = (
    *("LSTM", "LSTM, two layers", "LSTM, both directions", "LSTM, time first", "LSTM, final state"),
    *("LSTM, LayerNorm", "GRU", "GRU, two layers, both directions", "GRU, last step", "RNN"),
    *("RNN, two layers, final state", "Conv1d in front", "attention", "embedding"),
    *("attention, no mask", "attention, causal", "attention, band"),
    *("encoder, causal", "encoder, band"),
    *("LSTMCell loop", "minGRU", "sLSTM", "LRU", "Mamba"),
)

HEADS = (
    *("mean over time", "maximum over time", "mean and maximum", "norm over features"),
    *("deviation over time", "argmax", "two largest", "log softmax", "attention pooling"),
    *("additive attention", "causal mask", "added mask", "scaled dot product"),
    *("standardised window", "window from zero to one", "differences", "spectral power"),
    *("two inputs", "two branches", "GELU and LayerNorm", "BatchNorm1d", "InstanceNorm1d"),
    *("GroupNorm", "thresholds", "rounding", "bilinear", "cosine similarity", "prototypes"),
    *("pooling", "adaptive pooling", "upsampling", "residual", "reversed", "gathered", "one hot"),
    *("log sum exp", "remainder", "PReLU", "unfolded"),
)

NOT_CAUSAL = {
    "LSTM, both directions",
    "GRU, two layers, both directions",
    "attention",
    "attention, no mask",
    "attention, causal",
    "encoder, causal",
}
"""What needs frames that come later, or all before."""

CONTEXTS = (
    ("attention, no mask", None, 4),
    ("attention, causal", "attention, band", 4),
    ("attention, causal", "attention, causal", 9),
    ("attention, band", "attention, band", 4),
    ("encoder, causal", "encoder, band", 4),
    ("encoder, causal", "encoder, causal", 9),
    ("encoder, band", "encoder, band", 6),
)
"""Networks, the frames that their attention is to see, and the network that was made so."""

NOT_EXPORTED = {("dynamo", "scaled dot product")}
"""What PyTorch itself does not export."""


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All models of an exporter, made once."""
    python = python_with("EDGELSTM_TORCH_PYTHON", "torch", "onnxscript")
    folder = tmp_path_factory.mktemp(request.param)
    names = [*NETWORKS, *HEADS]
    return run_script(python, "torch_networks.py", folder, [request.param, *names])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*NETWORKS, *HEADS])
def test_network(
    name: str, target: str, exported: Exported, request: pytest.FixtureRequest
) -> None:
    """Call mode computes what PyTorch computes."""
    if (request.node.callspec.params["exported"], name) in NOT_EXPORTED:
        assert name in exported.failures
        pytest.skip("PyTorch does not export it")
    check_call(exported, name, target)


@pytest.mark.parametrize("name", NETWORKS)
def test_stream(name: str, exported: Exported) -> None:
    """A stream is checked by itself, or refused where later frames are needed."""
    path: Path = exported.path(name)
    if name in NOT_CAUSAL:
        with pytest.raises(StreamabilityError):
            compile_model(path, target="reference", mode="stream")
    else:
        artifact = compile_model(path, target="reference", mode="stream")
        assert artifact.manifest["check"]["done"]


@pytest.mark.parametrize(("name", "same", "context"), CONTEXTS)
def test_attention_context(name: str, same: str | None, context: int, exported: Exported) -> None:
    """What PyTorch itself computes with that mask; the others are compared while compiled."""
    artifact = compile_model(exported.path(name), target="reference", attention_context=context)
    assert artifact.manifest["check"]["done"]
    assert artifact.manifest["attention"]["is_exact"] == (same == name)
    if same is None:
        return
    (x,), (wanted,) = exported.arrays(same)
    found = artifact.session().run(x[0])
    assert np.abs(found.reshape(wanted.shape) - wanted).max() < 1e-5
