"""Real models and real exports: those with supported operators import, the others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.onnx_import import OnnxModel, import_graph, read_model
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is not here"),
]

ACCEPTED = (
    "models/andes_dtln1",
    "models/apple_watch_lstm",
    "models/dtln_model_1",
    "models/dtln_model_2",
    "models/fairtalk_lstm",
    "models/gtcrn_stream_simple",
    "models/pose_gru",
    "models/quant_sentinel_lstm",
    "models/silero_vad_openvino_16k",
    "models/tract_byte_sb_bidi_lstm",
    "models/turbofan_lstm",
    "exports/keras_bilstm_concat_tensorflow",
    "exports/keras_conv1d_lstm_tensorflow",
    "exports/keras_convlstm2d_tensorflow",
    "exports/keras_gru_classic_tensorflow",
    "exports/keras_gru_reset_after_tensorflow",
    "exports/keras_gru_reset_after_torch",
    "exports/keras_lstm2_clf_tensorflow",
    "exports/keras_lstm_attn_tensorflow",
    "exports/keras_lstm_last_tensorflow",
    "exports/keras_lstm_last_torch",
    "exports/keras_masked_lstm_tensorflow",
    "exports/keras_simplernn_tensorflow",
    "exports/keras_timedist_tensorflow",
    "exports/torch_bigru2_bf_ts_static",
    "exports/torch_bilstm2_bf_ts_static",
    "exports/torch_bilstm_attn_ts_static",
    "exports/torch_clf_hn_ts_static",
    "exports/torch_clf_lstm2_dyn_static",
    "exports/torch_conv1d_lstm_dyn_static",
    "exports/torch_conv1d_lstm_ts_static",
    "exports/torch_convlstm_cell_dyn_static",
    "exports/torch_convlstm_cell_ts_static",
    "exports/torch_gru1_bf_dyn_static",
    "exports/torch_gru_state_io_ts_dynshape",
    "exports/torch_lstm1_tf_ts_static",
    "exports/torch_lstm2_bf_dyn_static",
    "exports/torch_lstm2_bf_ts_static",
    "exports/torch_lstm_mha_ts_static",
    "exports/torch_lstm_state_io_ts_static",
    "exports/torch_lstmcell_loop_dyn_static",
    "exports/torch_lstmcell_loop_ts_static",
    "exports/torch_rnn_relu_bf_dyn_static",
    "exports/torch_rnn_tanh_bf_ts_static",
    "exports/torch_seq_ln_sigmoid_dyn_static",
    "exports/torch_stacked_modules_ts_static",
)

REFUSED = {
    "models/silero_vad_v4": {"If"},
    "models/silero_vad_v6": {"If"},
    "models/tract_qlstm_3-2-3_T3": {"QLinearConv"},
}


def reference_inputs(folder: Path, model: OnnxModel) -> dict[str, NDArray[Any]]:
    """The inputs that come with a model; of a stateful one those of its first step."""
    stored = np.load(folder / "ref.npz")
    found = {}
    for info in model.inputs:
        if f"step_in_{info.name}" in stored:
            found[info.name] = stored[f"step_in_{info.name}"][0]
        else:
            places = (f"{kind}_{info.name}" for kind in ("in", "init", "const"))
            found[info.name] = next(stored[place] for place in places if place in stored)
    return found


def dynamic_shapes(model: OnnxModel, inputs: dict[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """The shapes that have to be given."""
    return {info.name: inputs[info.name].shape for info in model.inputs if not info.is_static}


def test_every_model_is_listed() -> None:
    """A model that joins the corpus has to be put into one of the lists."""
    found = {str(path.parent.relative_to(CORPUS)) for path in CORPUS.glob("*/*/model.onnx")}
    assert found == {*ACCEPTED, *REFUSED}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    """The graph verifies and computes what ONNX Runtime computes."""
    folder = CORPUS / name
    model = read_model(folder / "model.onnx")
    inputs = reference_inputs(folder, model)
    graph = import_graph(model, dynamic_shapes(model, inputs))
    verify(graph)
    found = evaluate(graph, inputs, dtype=DType.F64).outputs
    expected = OnnxRuntimePeer(model, threads=1).run(inputs)
    tolerance = 4 * noise_floor(folder) or 1e-5
    for output, data in expected.items():
        assert found[output].shape == data.shape
        assert np.abs(found[output] - data).max() <= tolerance


def noise_floor(folder: Path) -> float:
    """The largest float32 error that ref.json declares, 0 where it declares none."""
    path = folder / "ref.json"
    if not path.is_file():
        return 0.0
    errors = json.loads(path.read_text(encoding="utf-8")).get("float64_check_max_abs_err", {})
    return max(map(float, errors.values()), default=0.0)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """All refused operators are named, whatever stands behind them."""
    folder = CORPUS / name
    model = read_model(folder / "model.onnx")
    inputs = reference_inputs(folder, model) if (folder / "ref.npz").is_file() else {}
    with pytest.raises(UnsupportedOpError) as caught:
        import_graph(model, dynamic_shapes(model, inputs))
    assert {operator for operator, _, _ in caught.value.refusals} >= REFUSED[name]
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(caught.value.refusals)


def test_dynamic_model_says_what_to_give() -> None:
    """The option stands in the message."""
    with pytest.raises(ShapeError, match="--shape input=1,30,34"):
        import_graph(read_model(CORPUS / "models/pose_gru/model.onnx"))


def test_bound_control_input_resolves_the_branches() -> None:
    """With its sampling rate bound, the voice detector computes what ONNX Runtime computes."""
    folder = CORPUS / "models/silero_vad_v6"
    model = read_model(folder / "model.onnx")
    inputs = reference_inputs(folder, model)
    expected = OnnxRuntimePeer(model, threads=1).run(inputs)
    rate = np.asarray(inputs.pop("sr"))
    shapes = {name: data.shape for name, data in inputs.items()}
    graph = import_graph(model, shapes, {"sr": rate.reshape(())})
    found = evaluate(graph, inputs, dtype=DType.F64).outputs
    for output, data in expected.items():
        assert np.abs(found[output] - data).max() <= 4 * noise_floor(folder)
