"""PyTorch networks through both exporters: exact in call mode; those without later frames stream.

pip install './compiler[exporters]' && pytest tests/exporters
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra exporters")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra exporters")

from edgelstm_compiler.driver import compile_model  # noqa: E402 - behind the skip
from edgelstm_compiler.streaming.refusal import StreamabilityError  # noqa: E402
from tests.exporters.torch_networks import NETWORKS, example  # noqa: E402

NOT_CAUSAL = {
    "LSTM, both directions",
    "GRU, two layers, both directions",
    "Conv1d in front",
    "attention",
}
"""What needs frames that come later."""


def exported(name: str, path: Path, *, dynamo: bool) -> Any:
    """The file, and what the network computes."""
    torch.manual_seed(0)
    network, x = NETWORKS[name]().eval(), example(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(network, (x,), dynamo=True, verbose=False).save(path)
        else:
            torch.onnx.export(network, (x,), path, dynamo=False)
        return x.numpy(), network(x).detach().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, dynamo: bool, tmp_path: Path) -> None:
    """Call mode computes what PyTorch computes; a stream is checked by itself, or refused."""
    path = tmp_path / "model.onnx"
    x, wanted = exported(name, path, dynamo=dynamo)
    session = compile_model(path, target="reference", mode="call").session()
    found = np.asarray(session.call(x)).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    if name in NOT_CAUSAL:
        with pytest.raises(StreamabilityError):
            compile_model(path, target="reference", mode="stream")
    else:
        artifact = compile_model(path, target="reference", mode="stream")
        assert artifact.manifest["check"]["done"]
