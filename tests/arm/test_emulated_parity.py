"""Models on emulated ARM processors beside ONNX Runtime: the code of the artifact itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import MODEL_PATH, TRIAL_PATH
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.verification import verify_stream
from tests.models import CellCase, cell_model, stacked_model
from tests.oracle import assert_close, expected_outputs, random_inputs

pytestmark = pytest.mark.tvm
pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
pytest.importorskip("tvm")

TARGETS = ("aarch64", "armv7", "cortex-m4")
BASE = CellCase(hidden=19, features=5, steps=3, batch=2)
VARIANTS: list[dict[str, object]] = [
    {"op": "LSTM"},
    {"op": "LSTM", "clip": 0.3, "direction": "bidirectional"},
    {"op": "LSTM", "peepholes": True, "initial_c": "input", "hidden": 16},
    {"op": "LSTM", "peepholes": True, "input_forget": True, "direction": "reverse"},
    {"op": "LSTM", "sequence_lens": "input", "layout": 1},
    {"op": "GRU"},
    {"op": "GRU", "linear_before_reset": True, "direction": "bidirectional"},
    {"op": "GRU", "linear_before_reset": True, "clip": 0.3, "bias": False, "hidden": 33},
    {"op": "GRU", "clip": 0.4, "initial_h": "input", "sequence_lens": "input"},
    {"op": "RNN", "direction": "bidirectional"},
]
CASES = [dataclasses.replace(BASE, seed=i, **v) for i, v in enumerate(VARIANTS)]  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attributes(case: CellCase, target: str) -> None:
    """Every attribute in call mode, within the tolerance of every other target."""
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    artifact = compile_model(
        model,
        target=target,
        mode="call",
        shapes={name: x.shape for name, x in inputs.items()},
        check=False,
    )
    result = emulate(artifact).session().call(inputs)
    if not isinstance(result, dict):
        result = {artifact.signature.outputs[0].name: result}
    assert_close(result, expected_outputs(model, inputs), where=f"{case} on {target}")


@pytest.mark.parametrize("target", ["rpi3", "rpi4", "rpi5", "jetson-orin", *TARGETS, "cortex-m7"])
def test_stacked_stream(target: str) -> None:
    """The demo model (two LSTM layers, dense, softmax), step by step over its trial."""
    from edgelstm.io.recording import read_frames

    artifact = emulate(compile_model(MODEL_PATH, target=target, check=False))
    frames = read_frames(TRIAL_PATH, artifact.signature)
    block = {name: x[:120] for name, x in frames.items()}
    result = verify_stream(artifact, read_model(MODEL_PATH), block, 1e-5)
    assert result.passed, result.to_json()


@pytest.mark.parametrize("isa", ["armv7-vfpv4", "armv7-neon"])
def test_run_equals_steps(isa: str) -> None:
    """A block of frames in one call gives what single steps give, bit for bit."""
    artifact = emulate(compile_model(MODEL_PATH, target="armv7", check=False), isa)
    frames = np.random.default_rng(3).standard_normal((7, 6)).astype("f4")
    whole = artifact.session().run(frames)
    session = artifact.session()
    rows = np.stack([np.array(session.step(frame)) for frame in frames])
    assert np.array_equal(whole, rows)


@pytest.mark.parametrize("target", TARGETS)
def test_a_bad_sample_is_refused(target: str) -> None:
    """NaN in an input is found, by name; the state stays."""
    from edgelstm.errors import StreamError

    session = emulate(compile_model(MODEL_PATH, target=target, check=False)).session()
    before = bytes(session.snapshot())
    with pytest.raises(StreamError, match="imu"):
        session.step(np.array([0, 1, np.nan, 0, 0, 0], "f4"))
    assert bytes(session.snapshot()) == before


def test_the_self_check_runs_emulated() -> None:
    """Compiling for a foreign processor compares with the model all the same, and says by what."""
    artifact = compile_model(cell_model(CellCase(hidden=5, steps=2)), target="cortex-m4")
    assert artifact.manifest["check"]["done"]
    assert artifact.manifest["check"]["emulated_by"].startswith("unicorn")


def test_what_cannot_be_emulated_is_not_checked() -> None:
    """Helium is beyond Unicorn: the artifact is made, and says that nothing was compared."""
    artifact = compile_model(cell_model(CellCase(hidden=5, steps=2)), target="cortex-m55")
    assert not artifact.manifest["check"]["done"]


@pytest.mark.parametrize("scheme", ["int8", "w4"])
@pytest.mark.parametrize("target", TARGETS)
def test_coded_scales_and_tails(target: str, scheme: str) -> None:
    """Two quantized layers with inputs that fill no word compute what NumPy does."""
    model = stacked_model(steps=None, features=7, hidden=21, ops=("LSTM", "GRU"), head="sequence")
    frames = np.random.default_rng(0).standard_normal((40, 7)).astype("f4")
    found, wanted = (
        compile_model(model, target=name, quantize=scheme, calibration=[frames], check=False)
        for name in (target, "reference")
    )
    expected = wanted.session().run(frames)
    limit = 5e-3 if scheme == "int8" else 1e-5
    np.testing.assert_allclose(emulate(found).session().run(frames), expected, 0, limit)
