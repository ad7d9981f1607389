"""Real models and exports as streams: in any chunking what their whole sequence gives, or refused.

Every file of the corpus stands in one of the lists; those whose states are inputs and outputs also
in `test_corpus_states.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.sessions import Session
from edgelstm_compiler import compile_model
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.parity.test_corpus import EXPORTS, MODELS

pytestmark = pytest.mark.corpus

BACKWARD, ATTENTION = "from the last frame back", "sees frames that come later"

REFUSED = {
    "apple_watch_lstm": BACKWARD,
    "keras_bilstm_concat_tensorflow": BACKWARD,
    "torch_bigru2_bf_ts_static": BACKWARD,
    "torch_bilstm2_bf_ts_static": BACKWARD,
    "torch_bilstm_attn_ts_static": BACKWARD,
    "torch_lstm_mha_ts_static": ATTENTION,
    "tract_byte_sb_bidi_lstm": BACKWARD,
}

LOOKAHEAD = ("apple_watch_lstm", "keras_bilstm_concat_tensorflow", "tract_byte_sb_bidi_lstm")
"""Those that answer for every frame, so that a bounded look-ahead has a meaning."""

STREAMS = (
    "fairtalk_lstm",
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
    "pose_gru",
    "quant_sentinel_lstm",
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
    "torch_lstm_state_io_ts_static",
    "torch_lstmcell_loop_dyn_static",
    "torch_lstmcell_loop_ts_static",
    "torch_rnn_relu_bf_dyn_static",
    "torch_rnn_tanh_bf_ts_static",
    "torch_seq_ln_sigmoid_dyn_static",
    "torch_stacked_modules_ts_static",
    "turbofan_lstm",
)

NATIVE = ("keras_conv1d_lstm_tensorflow", "pose_gru", "torch_gru1_bf_dyn_static", "turbofan_lstm")
"""Those that are compiled to machine code here, too: late, any-time and timed outputs."""

CHUNKINGS = 6
LIMIT = 1e-5
"""Of the error, relative to the output where that exceeds 1."""


def test_every_file_is_in_one_list() -> None:
    """Nothing is left out unseen."""
    assert sorted([*STREAMS, *REFUSED]) == sorted([*MODELS, *EXPORTS])


def folder_of(corpus: Path, name: str) -> Path:
    """Where a model or export stands."""
    return next(f for kind in ("models", "exports") if (f := corpus / kind / name).is_dir())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_stream_is_refused(name: str, corpus: Path) -> None:
    """With the reason and the commands that compile it."""
    with pytest.raises(StreamabilityError, match=REFUSED[name]) as caught:
        compile_model(folder_of(corpus, name) / "model.onnx", target="reference", mode="stream")
    ahead = {"lookahead"} if name in LOOKAHEAD else set()
    assert {way.mode for way in caught.value.ways} == {"call", "window"} | ahead


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "reference") for name in STREAMS),
        *(pytest.param(name, "host", marks=pytest.mark.tvm) for name in NATIVE),
    ],
)
def test_a_stream_is_the_sequence(name: str, target: str, corpus: Path) -> None:
    """Step by step, in random chunks and as a whole, to the end: what the framework computed."""
    folder = folder_of(corpus, name)
    artifact = compile_model(folder / "model.onnx", target=target, mode="stream", check=False)
    with np.load(folder / "ref.npz") as data:
        arrays = {key: data[key] for key in data.files}
    variants = {key.partition("in_")[0] for key in arrays if "in_" in key}
    for variant in sorted(variants):
        given, wanted = (
            {
                k.removeprefix(f"{variant}{what}_"): x
                for k, x in arrays.items()
                if k.startswith(f"{variant}{what}_")
            }
            for what in ("in", "out")
        )
        with artifact.session() as session:
            for seed in range(CHUNKINGS):
                for stream in streams_of(artifact, given):
                    compare(session, given, wanted, stream, seed)


def streams_of(artifact: Artifact, given: Mapping[str, Any]) -> range:
    """Rows of a batch that the artifact steps one by one; one where it steps all of them."""
    spec = artifact.signature.inputs[0]
    return range(given[spec.name].size // (frames_of(artifact, given) * int(np.prod(spec.shape))))


def frames_of(artifact: Artifact, given: Mapping[str, Any]) -> int:
    """How long the recording is."""
    spec = artifact.signature.inputs[0]
    assert spec.time_axis is not None
    return int(given[spec.name].shape[spec.time_axis])


def cut(array: Any, spec: Any, frames: int, stream: int) -> Any:
    """Of a sequence model's tensor the frames of one stream, `(frames, *shape)`."""
    moved = np.moveaxis(array, spec.time_axis, 0)
    return moved.reshape(frames, -1, *spec.shape)[:, stream]


def compare(
    session: Session, given: Mapping[str, Any], wanted: Mapping[str, Any], stream: int, seed: int
) -> None:
    """One recording in one chunking."""
    signature, rng = session.signature, np.random.default_rng(seed)
    specs = {spec.name: spec for spec in signature.inputs}
    first = next(iter(specs.values()))
    frames = int(given[first.name].shape[first.time_axis or 0])
    x = {name: cut(given[name], spec, frames, stream) for name, spec in specs.items()}
    session.reset()
    for name, value in given.items():
        if name not in specs:
            session.set_state(name, value)
    rows: dict[str, list[Any]] = {spec.name: [] for spec in signature.outputs}
    at = 0
    while at < frames:
        count = (1, frames, *rng.integers(1, frames + 1, CHUNKINGS).tolist())[seed]
        block = {name: values[at : at + count] for name, values in x.items()}
        keep(session.run(block if len(block) > 1 else block[first.name]), rows)
        at += count
    keep(session.finish(), rows)
    for spec in signature.outputs:
        whole, found = wanted[spec.name], np.concatenate(rows[spec.name])
        if spec.time_axis is None:
            expected, found = whole.reshape(-1, *spec.shape)[stream], found[-1]
        else:
            expected = cut(whole, spec, len(found), stream)
        assert found.shape == expected.shape
        scale = np.maximum(1.0, np.abs(expected.astype(np.float64)))
        error = np.max(np.abs(found.astype(np.float64) - expected) / scale)
        assert error <= LIMIT, f"{spec.name}: {error:.3g}"


def keep(result: Any, rows: Mapping[str, list[Any]]) -> None:
    """More rows of each output."""
    named = result if isinstance(result, dict) else {next(iter(rows)): result}
    for name, block in named.items():
        rows[name].append(np.array(block))
