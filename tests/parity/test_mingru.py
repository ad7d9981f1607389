"""A cell of another file: minGRU, which the package has never heard of, on every kind of target."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnxruntime
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError, UnsupportedOpError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.onnx_import.ops import OPERATORS
from tests.mingru import OPERATOR, import_mingru, mingru_model, unrolled_model

pytestmark = pytest.mark.tvm
FRAMES = 60


@pytest.fixture(autouse=True)
def _importer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import function of the operator, in the table for the length of a test."""
    monkeypatch.setitem(OPERATORS, OPERATOR, import_mingru)


def compiled(target: str, scheme: str | None, hidden: int = 21) -> tuple[Artifact, np.ndarray]:
    """An artifact of two layers, and how it differs from ONNX Runtime on the unrolled graph."""
    model, weights = mingru_model(hidden)
    rng = np.random.default_rng(5)
    x = np.sin(np.cumsum(rng.standard_normal((FRAMES, 1, 3)), axis=0)).astype(np.float32)
    calibration = [x, x[::-1].copy()] if scheme == "int8" else None
    artifact = compile_model(
        model, target=target, quantize=scheme, calibration=calibration, check=scheme is not None
    )
    if target.startswith("cortex"):
        artifact = emulate(artifact)
    unrolled = unrolled_model(weights, FRAMES).SerializeToString()
    peer = onnxruntime.InferenceSession(unrolled, providers=["CPUExecutionProvider"])
    (wanted,) = peer.run(None, {"X": x})
    session = artifact.session()
    found = np.stack([np.array(session.step(frame[0])).reshape(1, -1) for frame in x])
    return artifact, found - wanted


@pytest.mark.parametrize("target", ["host", "reference", "cortex-m4"])
@pytest.mark.parametrize(
    ("scheme", "tolerance"), [(None, 1e-5), ("w8", 2e-2), ("int8", 4e-2)], ids=str
)
def test_a_stream_equals_the_unrolled_graph(
    target: str, scheme: str | None, tolerance: float
) -> None:
    """In float32 to the last digits, with 8-bit weights within their steps."""
    if target.startswith("cortex"):
        pytest.importorskip("unicorn")
    _, error = compiled(target, scheme)
    assert np.abs(error).max() < tolerance
    assert np.abs(error).max() > 0 or scheme is None


def test_the_reference_program_holds_the_cell() -> None:
    """A runtime that knows the nodes runs it, whatever compiler made it."""
    artifact, _ = compiled("reference", None)
    assert b'"name":"minGRU"' in bytes(artifact.container.section("program"))


def test_int8_full_refuses_by_name() -> None:
    """Nothing bounds the candidate."""
    model, _ = mingru_model()
    frames = np.zeros((80, 1, 3), np.float32)
    with pytest.raises(UnsupportedOpError, match=r"layer_0.*int8-full: .*no function bounds"):
        compile_model(model, target="host", quantize="int8-full", calibration=[frames])


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_cuda_refuses_by_name() -> None:
    """It has hand-placed cells."""
    model, _ = mingru_model()
    with pytest.raises(CapabilityError, match="not for MinGRU"):
        compile_model(model, target="cuda", check=False)
