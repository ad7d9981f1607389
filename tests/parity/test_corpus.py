"""Real models and what exporters write, in call mode: beside the outputs that came with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelstm_compiler import compile_model

pytestmark = pytest.mark.corpus

TARGETS = ["reference", pytest.param("host", marks=pytest.mark.tvm)]

MODELS = (
    "apple_watch_lstm",
    "fairtalk_lstm",
    "pose_gru",
    "quant_sentinel_lstm",
    "tract_byte_sb_bidi_lstm",
    "turbofan_lstm",
)

EXPORTS = (
    "keras_bilstm_concat_tensorflow",
    "keras_conv1d_lstm_tensorflow",
    "keras_convlstm2d_tensorflow",
    "keras_gru_classic_tensorflow",
    "keras_gru_reset_after_tensorflow",
    "keras_gru_reset_after_torch",
    "keras_lstm2_clf_tensorflow",
    "keras_lstm_attn_tensorflow",
    "keras_lstm_last_tensorflow",
    "keras_lstm_last_torch",
    "keras_masked_lstm_tensorflow",
    "keras_simplernn_tensorflow",
    "keras_timedist_tensorflow",
    "torch_bigru2_bf_ts_static",
    "torch_bilstm2_bf_ts_static",
    "torch_bilstm_attn_ts_static",
    "torch_clf_hn_ts_static",
    "torch_clf_lstm2_dyn_static",
    "torch_conv1d_lstm_dyn_static",
    "torch_conv1d_lstm_ts_static",
    "torch_convlstm_cell_dyn_static",
    "torch_convlstm_cell_ts_static",
    "torch_gru1_bf_dyn_static",
    "torch_gru_state_io_ts_dynshape",
    "torch_lstm1_tf_ts_static",
    "torch_lstm2_bf_dyn_static",
    "torch_lstm2_bf_ts_static",
    "torch_lstm_mha_ts_static",
    "torch_lstm_state_io_ts_static",
    "torch_lstmcell_loop_dyn_static",
    "torch_lstmcell_loop_ts_static",
    "torch_rnn_relu_bf_dyn_static",
    "torch_rnn_tanh_bf_ts_static",
    "torch_seq_ln_sigmoid_dyn_static",
    "torch_stacked_modules_ts_static",
)

CALLED = ("dtln_model_1", "silero_vad_v4")
"""Models with states as inputs and outputs, in call mode; as streams see test_corpus_states.py."""


def compare(folder: Path, target: str, variant: str, limits: dict[str, float]) -> None:
    """Compile for the shapes of a reference input and compare every output."""
    with np.load(folder / "ref.npz") as data:
        arrays = {name: data[name] for name in data.files}
    inputs = {
        name.removeprefix(f"{variant}in_"): x
        for name, x in arrays.items()
        if name.startswith(f"{variant}in_")
    }
    expected = {
        name.removeprefix(f"{variant}out_"): x
        for name, x in arrays.items()
        if name.startswith(f"{variant}out_")
    }
    assert inputs
    assert expected
    artifact = compile_model(
        folder / "model.onnx",
        target=target,
        mode="call",
        shapes={name: x.shape for name, x in inputs.items()},
    )
    result = artifact.session().call(inputs)
    outputs = result if isinstance(result, dict) else {artifact.signature.outputs[0].name: result}
    for name, wanted in expected.items():
        error = np.max(np.abs(outputs[name].astype(np.float64) - wanted))
        assert error <= limits.get(name, 1e-5), f"{name}: {error:.3g}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, target: str, corpus: Path) -> None:
    """Within four times the noise floor of float32 that `ref.json` states, in every variant.

    That floor is how far ONNX Runtime is from float64. NumPy's own sums in float32 are a little
    farther after 1000 frames of two layers (5.4e-7 in apple_watch_lstm): the reference gets 1e-6.
    """
    folder = corpus / "models" / name
    facts = json.loads((folder / "ref.json").read_text(encoding="utf-8"))
    limits = {
        output: 4 * max(floor, float(np.finfo(np.float32).eps) * facts["max_abs_output"][output])
        for output, floor in facts["float64_check_max_abs_err"].items()
    }
    if target == "reference":
        limits = {output: max(limit, 1e-6) for output, limit in limits.items()}
    for variant in facts["variants"]:
        compare(folder, target, f"{variant}_" if variant else "", limits)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str, target: str, corpus: Path) -> None:
    """Within 1e-5 of what the training framework computed."""
    compare(corpus / "exports" / name, target, "", {})


@pytest.mark.tvm
@pytest.mark.parametrize("name", CALLED)
def test_calls_with_the_state_fed_back_by_hand(name: str, corpus: Path) -> None:
    """Over all recorded steps, each state fed back: within four times the noise floor."""
    folder = corpus / "models" / name
    facts = json.loads((folder / "ref.json").read_text(encoding="utf-8"))
    with np.load(folder / "ref.npz") as data:
        arrays = {key: data[key] for key in data.files}
    frames, wanted, states, given = (
        {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}
        for prefix in ("step_in_", "step_out_", "init_", "const_")
    )
    shapes = {key: x.shape[1:] for key, x in frames.items()}
    shapes |= {key: x.shape for key, x in states.items()}
    artifact = compile_model(folder / "model.onnx", mode="call", shapes=shapes, constants=given)
    names = {spec.name for spec in artifact.signature.inputs}
    floors = facts["float64_check_max_abs_err"]
    with artifact.session() as session:
        for t in range(len(next(iter(frames.values())))):
            inputs = {**{key: x[t] for key, x in frames.items()}, **states}
            outputs = session.call({key: x for key, x in inputs.items() if key in names})
            for key, x in wanted.items():
                error = np.max(np.abs(outputs[key].astype(np.float64) - x[t]))
                assert error <= 4 * max(floors.get(key, 0), 1e-6), f"{key} in step {t}: {error:.3g}"
            states = {key: outputs[facts["state_map"][key]] for key in states}


def test_every_export_is_judged(corpus: Path) -> None:
    """No export of the corpus is forgotten here."""
    there = {path.name for path in (corpus / "exports").iterdir() if path.is_dir()}
    assert there == set(EXPORTS)
