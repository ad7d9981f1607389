"""Real models with states as inputs and outputs, as streams: pairs found, states hidden."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelstm_compiler import compile_model
from edgelstm_compiler.binding.carried import find_carried
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.streaming.carry import CarryRequest
from tests.carried_models import Array

pytestmark = pytest.mark.corpus

TARGETS = ["reference", pytest.param("host", marks=pytest.mark.tvm)]

MODELS = (
    "andes_dtln1",
    "dtln_model_1",
    "dtln_model_2",
    "gtcrn_stream_simple",
    "silero_vad_openvino_16k",
    "silero_vad_v4",
    "silero_vad_v6",
)

EXPORTS = {
    "torch_gru_state_io_ts_dynshape": {"h0": "hn"},
    "torch_lstm_state_io_ts_static": {"h0": "hn", "c0": "cn"},
}

OTHERS = (
    "tract_byte_sb_bidi_lstm",
    "torch_convlstm_cell_ts_static",
    "keras_masked_lstm_tensorflow",
)
"""Models without states as inputs."""


def recorded(folder: Path) -> dict[str, dict[str, Array]]:
    """The arrays of `ref.npz`, by what they are."""
    with np.load(folder / "ref.npz") as data:
        return {
            prefix: {
                key.removeprefix(f"{prefix}_"): data[key]
                for key in data.files
                if key.startswith(f"{prefix}_")
            }
            for prefix in ("step_in", "step_out", "const")
        }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_recorded_steps(name: str, target: str, corpus: Path) -> None:
    """Within four times the noise floor of `ref.json`, over all steps, no pair told."""
    folder = corpus / "models" / name
    facts = json.loads((folder / "ref.json").read_text(encoding="utf-8"))
    arrays = recorded(folder)
    frames = arrays["step_in"]
    artifact = compile_model(
        folder / "model.onnx",
        target=target,
        shapes={key: x.shape[1:] for key, x in frames.items()},
        constants=arrays["const"],
        check=False,
    )
    assert artifact.manifest["options"]["carry"] == facts["state_map"]
    (spec,) = artifact.signature.inputs
    (shown,) = artifact.signature.outputs
    wanted = arrays["step_out"][shown.name]
    with artifact.session() as session:
        rows = [np.array(session.step(x.reshape(spec.shape))) for x in frames[spec.name]]
        states = {before: session.get_state(before) for before in facts["state_map"]}
    floors = facts["float64_check_max_abs_err"]
    error = np.abs(np.stack(rows).reshape(wanted.shape).astype(np.float64) - wanted).max()
    assert error <= 4 * floors[shown.name]
    for before, after in facts["state_map"].items():
        last = arrays["step_out"][after][-1]
        scale = max(1.0, facts["max_abs_output"][after])
        limit = 4 * max(floors[after], scale * float(np.finfo(np.float32).eps))
        assert np.abs(states[before].reshape(last.shape).astype(np.float64) - last).max() <= limit


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", EXPORTS)
def test_exported_states(name: str, target: str, corpus: Path) -> None:
    """Beside ONNX Runtime with the state fed back, by the self-check."""
    artifact = compile_model(corpus / "exports" / name / "model.onnx", target=target)
    assert artifact.manifest["options"]["carry"] == EXPORTS[name]
    assert [spec.name for spec in artifact.signature.inputs] == ["x"]
    assert artifact.manifest["check"]["done"]
    assert artifact.manifest["check"]["max_error"] <= 1e-6


@pytest.mark.parametrize("name", OTHERS)
def test_models_without_states_as_inputs_have_no_pairs(name: str, corpus: Path) -> None:
    """One input is data, whatever the outputs look like."""
    folder = next(path for path in corpus.glob(f"*/{name}"))
    assert (
        find_carried(fix_inputs(read_model(folder / "model.onnx"), {}), {}, CarryRequest()) is None
    )


def test_context_is_kept_for_silero(corpus: Path) -> None:
    """`overlap=64`: 512 new samples a step, the model's own 576 made of them."""
    folder = corpus / "models" / "silero_vad_v6"
    arrays = recorded(folder)
    artifact = compile_model(
        folder / "model.onnx",
        target="reference",
        shapes={"input": (1, 576)},
        constants=arrays["const"],
        overlap=64,
    )
    (spec,) = artifact.signature.inputs
    assert spec.shape == (512,)
    frames = arrays["step_in"]["input"].reshape(-1, 576)
    assert not frames[0, :64].any()
    with artifact.session() as session:
        found = [np.array(session.step(frame[64:])).item() for frame in frames]
    np.testing.assert_allclose(found, arrays["step_out"]["output"].reshape(-1), atol=2.8e-6)
