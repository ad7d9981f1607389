"""A stream is the whole sequence, however it is cut: compiled code beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.sessions import Session
from edgelstm_compiler import compile_model
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.oracle import FP32, Tolerance, run_onnxruntime

LONG = 10_000
HOST = pytest.param("host", marks=pytest.mark.tvm)

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "lstm": lambda: lstm_model(hidden=37, features=6, steps=None, outputs=("Y",)),
    "lstm_peepholes_clip": lambda: lstm_model(
        hidden=20, features=6, steps=None, peepholes=True, clip=1.0, outputs=("Y",)
    ),
    "lstm_input_forget": lambda: lstm_model(
        hidden=16, features=6, steps=None, input_forget=True, outputs=("Y",)
    ),
    "lstm_initial": lambda: lstm_model(
        hidden=16,
        features=6,
        steps=None,
        initial_h="constant",
        initial_c="constant",
        outputs=("Y",),
    ),
    "lstm_batch_first": lambda: lstm_model(
        hidden=16, features=6, steps=None, layout=1, opset=17, outputs=("Y",)
    ),
    "gru_before": lambda: gru_model(
        hidden=37, features=6, steps=None, linear_before_reset=True, outputs=("Y",)
    ),
    "gru_after": lambda: gru_model(hidden=37, features=6, steps=None, outputs=("Y",)),
    "rnn": lambda: rnn_model(hidden=37, features=6, steps=None, outputs=("Y",)),
    "two_layers_and_head": lambda: stacked_model(
        ops=("LSTM", "GRU"), hidden=24, features=6, steps=None, head="sequence"
    ),
}


def whole_sequence(model: onnx.ModelProto, frames: NDArray[Any]) -> NDArray[Any]:
    """ONNX Runtime over all frames at once; layout=1 through its time-major twin."""
    from tests.oracle import accepted_by_onnxruntime

    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    batch_first = shape[0] == 1
    x = frames[None] if batch_first else frames[:, None]
    (y,) = run_onnxruntime(accepted_by_onnxruntime(model), {"X": x}).values()
    return np.asarray(y).reshape(len(frames), -1)


def feed(session: Session, frames: NDArray[Any], cuts: list[int]) -> NDArray[Any]:
    """All outputs, the frames fed in pieces; a piece of one goes through `step`."""
    rows = []
    for start, stop in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        if stop - start == 1:
            rows.append(np.array(session.step(frames[start]))[None])
        else:
            rows.append(session.run(frames[start:stop]))
    return np.concatenate(rows).reshape(len(frames), -1)


_artifacts: dict[tuple[str, str], Artifact] = {}


def artifact_of(name: str, target: str) -> Artifact:
    """Compiled once for all tests of this file."""
    key = (name, target)
    if key not in _artifacts:
        options = {"cpu": "native"} if target == "host" else {}
        _artifacts[key] = compile_model(MODELS[name](), target=target, target_options=options)
    return _artifacts[key]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", [HOST])
def test_ten_thousand_steps(name: str, target: str) -> None:
    """10,000 steps in random pieces equal the whole sequence of ONNX Runtime within 1e-5."""
    rng = np.random.default_rng(7)
    walk = np.cumsum(rng.standard_normal((LONG, 6)), axis=0)
    frames = (np.sin(0.05 * walk) + 0.3 * rng.standard_normal((LONG, 6))).astype(np.float32)
    cuts = sorted(set(rng.integers(1, LONG, 200).tolist()) | {1, 2, 3, LONG - 1})
    actual = feed(artifact_of(name, target).session(), frames, cuts)
    expected = whole_sequence(MODELS[name](), frames)
    assert np.max(np.abs(actual - expected)) <= FP32.absolute


@pytest.mark.parametrize("target", ["reference", HOST])
@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_any_chunking_gives_the_same_bits(name: str, target: str, data: st.DataObject) -> None:
    """Pieces of any length give bit for bit what single steps give."""
    artifact = artifact_of(name, target)
    count = data.draw(st.integers(1, 40))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, count - 1)), max_size=6)))
    cuts = [cut for cut in cuts if cut < count]
    seed = data.draw(st.integers(0, 2**16))
    frames = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    single = feed(artifact.session(), frames, list(range(1, count)))
    pieces = feed(artifact.session(), frames, cuts)
    np.testing.assert_array_equal(pieces, single)


@pytest.mark.parametrize("target", ["reference", HOST])
@pytest.mark.parametrize("name", MODELS)
def test_reset_snapshot_and_other_sessions(name: str, target: str) -> None:
    """Reset is a fresh stream, restore is a point in time, another session changes nothing."""
    artifact = artifact_of(name, target)
    frames = np.random.default_rng(3).standard_normal((30, 6)).astype(np.float32)
    session, other = artifact.session(), artifact.session()
    first = session.run(frames)
    other.run(frames[::-1])
    session.reset()
    session.run(frames[:11])
    snapshot = session.snapshot()
    rest = session.run(frames[11:])
    np.testing.assert_array_equal(rest, first[11:])
    other.restore(snapshot)
    np.testing.assert_array_equal(other.run(frames[11:]), rest)


@pytest.mark.tvm
def test_last_step_becomes_any_time() -> None:
    """A classifier of the last step answers at every step what it says of the frames so far."""
    model = stacked_model(ops=("GRU", "LSTM"), hidden=16, features=6, steps=None, head="last_step")
    session = compile_model(model, target_options={"cpu": "native"}).session()
    frames = np.random.default_rng(4).standard_normal((25, 6)).astype(np.float32)
    for count in range(1, 26):
        actual = session.step(frames[count - 1])
        (expected,) = run_onnxruntime(model, {"X": frames[:count, None]}).values()
        assert np.max(np.abs(actual - expected.reshape(actual.shape))) <= FP32.absolute


@pytest.mark.tvm
def test_static_length_is_lifted() -> None:
    """A model traced for 16 frames runs on; its first 16 frames are what it was traced to give."""
    model = stacked_model(ops=("LSTM", "LSTM"), hidden=16, features=6, steps=16, head="sequence")
    session = compile_model(model, target_options={"cpu": "native"}).session()
    frames = np.random.default_rng(5).standard_normal((40, 6)).astype(np.float32)
    actual = session.run(frames)
    (expected,) = run_onnxruntime(model, {"X": frames[:16, None]}).values()
    assert actual.shape == (40, 5)
    assert np.max(np.abs(actual[:16] - expected.reshape(16, 5))) <= FP32.absolute
    free = stacked_model(ops=("LSTM", "LSTM"), hidden=16, features=6, steps=None, head="sequence")
    (longer,) = run_onnxruntime(free, {"X": frames[:, None]}).values()
    assert np.max(np.abs(actual - longer.reshape(40, 5))) <= FP32.absolute


@pytest.mark.tvm
def test_a_million_steps_of_silence() -> None:
    """States that decay towards zero never become denormal, so silence is as fast as signal."""
    artifact = artifact_of("gru_before", "host")
    session = artifact.session()
    session.run(np.ones((100, 6), np.float32))
    quiet = session.run(np.zeros((100_000, 6), np.float32))
    tiny = np.finfo(np.float32).tiny
    for _ in range(9):
        quiet = session.run(np.zeros((100_000, 6), np.float32))
    state = np.frombuffer(session.snapshot().state, np.float32)
    values = np.concatenate([quiet.ravel(), state])
    assert not np.any((values != 0) & (np.abs(values) < tiny))


TIGHT = Tolerance("fp32 against float64", 5e-6)


@pytest.mark.parametrize("target", ["reference", HOST])
def test_batch_of_streams(target: str) -> None:
    """A model of three independent streams takes three rows a frame."""
    model = lstm_model(hidden=12, features=4, steps=None, batch=3, outputs=("Y",))
    session = compile_model(model, target=target).session()
    frames = np.random.default_rng(6).standard_normal((20, 3, 4)).astype(np.float32)
    actual = session.run(frames)
    (expected,) = run_onnxruntime(model, {"X": frames}).values()
    assert actual.shape == (20, 1, 3, 12)
    assert np.max(np.abs(actual - expected)) <= TIGHT.absolute
