"""Window mode: every window from fresh state, whatever the hop and the chunking."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError, NonFiniteSampleError, NonFiniteStateError, StreamError
from edgelstm.sessions.window import Window, WindowSession
from edgelstm.snapshot import Snapshot
from edgelstm_compiler import compile_model
from tests.models import lstm_model, rnn_model

Array = NDArray[Any]

W, FRAMES = 12, 70
HOPS = (1, 3, 5, 12, 17)
NATIVE = pytest.mark.tvm


def recording(frames: int = FRAMES, seed: int = 3) -> Array:
    return np.random.default_rng(seed).standard_normal((frames, 3)).astype(np.float32)


def opened(artifact: Artifact) -> WindowSession:
    session = artifact.session()
    assert isinstance(session, WindowSession)
    return session


def named(artifact: Artifact, result: Any) -> dict[str, Array]:
    return result if isinstance(result, dict) else {artifact.signature.outputs[0].name: result}


def fed(
    artifact: Artifact, frames: Array, seed: int, session: WindowSession | None = None
) -> tuple[dict[str, Array], list[Window]]:
    """Answers and windows, in pieces at random, some frame by frame."""
    rng = np.random.default_rng(seed)
    session = session or opened(artifact)
    rows: dict[str, list[Array]] = {spec.name: [] for spec in artifact.signature.outputs}
    windows: list[Window] = []
    cuts = sorted(rng.integers(0, len(frames), rng.integers(0, 5)).tolist())
    for piece in np.split(frames, cuts):
        if rng.random() < 0.4:
            for frame in piece:
                answer = session.step(frame)
                assert (answer is None) == (not session.windows)
                windows += session.windows
                for name, row in {} if answer is None else named(artifact, answer).items():
                    rows[name].append(row[None])
        else:
            for name, block in named(artifact, session.run(piece)).items():
                rows[name].append(block)
            windows += session.windows
    return {name: np.concatenate(parts) for name, parts in rows.items() if parts}, windows


def windows_of(
    model: onnx.ModelProto, frames: Array, hop: int, length: int = W
) -> dict[str, Array]:
    """What ONNX Runtime says of each window alone."""
    peer = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in peer.get_outputs()]
    found = [
        peer.run(names, {"X": frames[start : start + W, None]})
        for start in range(0, len(frames) - W + 1, hop)
    ]
    return {name: np.stack([each[i] for each in found]) for i, name in enumerate(names)}


@pytest.mark.parametrize("target", ["reference", pytest.param("host", marks=NATIVE)])
@pytest.mark.parametrize("hop", HOPS)
@pytest.mark.parametrize("steps", [W, None], ids=["fixed", "free"])
def test_each_window_is_the_models_own(target: str, hop: int, steps: int | None) -> None:
    """In whatever pieces the frames come, and wherever windows begin."""
    model = lstm_model(steps=steps, outputs=("Y_h", "Y_c"), hidden=5)
    artifact = compile_model(
        model,
        target=target,
        window=None if steps else W,
        hop=hop,
        check=False,
        target_options={"streams": "yes"} if target == "host" and hop == 3 else None,
    )
    frames = recording()
    wanted = windows_of(model, frames, hop)
    for seed in range(4):
        answers, windows = fed(artifact, frames, seed)
        starts = list(range(0, FRAMES - W + 1, hop))
        assert windows == [Window(start, start + W - 1, 0) for start in starts]
        for name, rows in answers.items():
            np.testing.assert_allclose(rows.reshape(wanted[name].shape), wanted[name], atol=2e-6)


@pytest.mark.parametrize("hop", [1, 5, 17])
@pytest.mark.parametrize(
    "options", [{"direction": "bidirectional"}, {"outputs": ("Y", "Y_h")}], ids=["both", "frames"]
)
def test_what_is_no_step_is_computed_as_a_whole(options: dict[str, Any], hop: int) -> None:
    """Cells that run backwards, and outputs for every frame."""
    model = lstm_model(steps=W, hidden=5, **options)
    artifact = compile_model(model, target="reference", window=W, hop=hop, check=False)
    frames = recording()
    answers, _ = fed(artifact, frames, hop)
    for name, wanted in windows_of(model, frames, hop).items():
        np.testing.assert_allclose(answers[name].reshape(wanted.shape), wanted, atol=2e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_snapshot_holds_the_open_windows(direction: str) -> None:
    """Another session goes on from it; one of another model, or a damaged one, is refused."""
    model = lstm_model(steps=W, outputs=("Y_h",), direction=direction)
    artifact = compile_model(model, target="reference", hop=5, check=False)
    frames = recording()
    whole, windows = fed(artifact, frames, 1)
    session = opened(artifact)
    first, told = fed(artifact, frames[:33], 2, session)
    kept = bytes(session.snapshot())
    other = opened(artifact)
    other.restore(kept)
    rest, more = fed(artifact, frames[33:], 3, other)
    assert told + more == windows
    for name, rows in whole.items():
        np.testing.assert_array_equal(np.concatenate([first[name], rest[name]]), rows)
    state = Snapshot.from_bytes(kept).state
    for bad in (
        Snapshot("0" * 64, state),
        Snapshot(artifact.model_id, state[:-1]),
        Snapshot(artifact.model_id, b"\xff" * len(state)),
    ):
        with pytest.raises(StreamError):
            other.restore(bad)


def test_reset_begins_a_window_with_the_next_frame() -> None:
    """And frames are counted on."""
    artifact = compile_model(
        lstm_model(steps=W, outputs=("Y_h",)), target="reference", hop=5, check=False
    )
    session = opened(artifact)
    frames = recording()
    first = session.run(frames[:W])
    session.run(frames[:7])
    session.reset()
    again = session.run(frames[:W])
    np.testing.assert_array_equal(first, again)
    assert session.windows == (Window(W + 7, 2 * W + 6, 0),)


def test_the_state_can_be_carried_across_windows() -> None:
    """As stateful layers do: the answers are those of a stream, every window."""
    model = lstm_model(steps=W, outputs=("Y_h",))
    artifact = compile_model(
        model, target="reference", hop=W, carry_across_windows=True, check=False
    )
    stream = compile_model(model, target="reference", mode="stream", check=False).session()
    frames = recording()
    answers, windows = fed(artifact, frames, 4)
    rows = np.asarray(stream.run(frames))[W - 1 :: W]
    np.testing.assert_array_equal(answers["Y_h"], rows[: len(windows)])


def test_a_frame_that_no_input_takes_is_refused_alone() -> None:
    """By step and by run, and the windows go on as if it had not come."""
    model = lstm_model(steps=W, outputs=("Y_h",))
    artifact = compile_model(model, target="reference", hop=5, check=False)
    frames = recording()
    wanted = windows_of(model, frames, 5)["Y_h"]
    session = opened(artifact)
    bad = np.full(3, np.nan, np.float32)
    rows: list[Array] = []
    for index, frame in enumerate(frames):
        if index % 7 == 0:
            with pytest.raises(NonFiniteSampleError):
                session.step(bad)
            with pytest.raises(NonFiniteSampleError):
                session.run(np.stack([frame, bad]))
        answer = session.step(frame)
        rows += [] if answer is None else [answer]
    np.testing.assert_allclose(np.stack(rows).reshape(wanted.shape), wanted, atol=2e-6)


def test_a_state_that_would_overflow_refuses_its_frame() -> None:
    """The frames before it are fed, and the windows go on without it."""
    model = rnn_model(steps=W, outputs=("Y_h",), activations=("Relu",), gain=3.0, hidden=4)
    artifact = compile_model(model, target="reference", hop=5, check=False)
    assert artifact.signature.of_kernel.checks_states
    session = opened(artifact)
    frames = recording() * 1e36
    fed_frames = refused = 0
    while fed_frames + refused < FRAMES:
        try:
            session.run(frames[fed_frames + refused :])
            break
        except NonFiniteStateError as error:
            fed_frames += error.frames_done
            refused += 1
    assert refused
    answer = session.run(recording())
    assert np.isfinite(answer).all()


def test_integers_give_the_same_bits_as_a_fresh_stream() -> None:
    """int8-full: every window is what a new session says after its frames."""
    model = lstm_model(steps=W, outputs=("Y_h",), hidden=8)
    frames = recording(120, 8)
    options: dict[str, Any] = {"quantize": "int8-full", "calibration": [frames], "check": False}
    windowed = compile_model(model, target="reference", hop=5, **options)
    stream = compile_model(model, target="reference", mode="stream", **options)
    answers, windows = fed(windowed, frames, 6)
    for row, window in zip(answers["Y_h"], windows, strict=True):
        fresh = np.asarray(stream.session().run(frames[window.first : window.last + 1]))
        np.testing.assert_array_equal(row, fresh[-1])


def test_a_window_program_needs_its_hop() -> None:
    """The error shows what the choices cost; --mode stream steps it without end."""
    model = lstm_model(steps=W, outputs=("Y_h",))
    with pytest.raises(ModelError, match=r"(?s)windows of 12 frames.*--hop 1 .*12 steps.*--hop 3 "):
        compile_model(model, target="reference", check=False)
    assert compile_model(model, target="reference", mode="stream", check=False).warnings
    per_frame = lstm_model(steps=W, outputs=("Y",))
    assert compile_model(per_frame, target="reference", check=False).warnings


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"hop": 5, "carry_across_windows": True}, "--hop is 12"),
        ({"hop": 5, "window": 11}, "windows of 12 frames and no others"),
        ({"hop": 0}, "one frame at least"),
        ({"hop": 5, "mode": "stream"}, "--mode window"),
        ({"hop": 5, "smooth": "median:3"}, "mean:K or vote:K"),
    ],
)
def test_contradictions_are_named(asked: dict[str, Any], message: str) -> None:
    """What was asked of windows, and cannot be."""
    with pytest.raises(ModelError, match=message):
        compile_model(
            lstm_model(steps=W, outputs=("Y_h",)), target="reference", check=False, **asked
        )


def test_free_time_needs_the_length_of_a_window() -> None:
    """The model takes any."""
    with pytest.raises(ModelError, match="--window W"):
        compile_model(lstm_model(steps=None, outputs=("Y_h",)), target="reference", hop=5)


@pytest.mark.parametrize("smooth", ["mean:3", "vote:3"])
def test_answers_are_smoothed_over_the_newest(smooth: str) -> None:
    """In any pieces, across a snapshot, and from the beginning after a reset."""
    model = lstm_model(steps=W, outputs=("Y_h",))
    plain = compile_model(model, target="reference", hop=5, check=False)
    artifact = compile_model(model, target="reference", hop=5, smooth=smooth, check=False)
    frames = recording()
    raw = fed(plain, frames, 1)[0]["Y_h"]
    if smooth.startswith("vote"):
        raw = (raw == raw.max(axis=-1, keepdims=True)).astype(np.float32)
    wanted = np.stack([raw[max(i - 2, 0) : i + 1].mean(axis=0) for i in range(len(raw))])
    session = opened(artifact)
    first = fed(artifact, frames[:33], 2, session)[0]["Y_h"]
    other = opened(artifact)
    other.restore(bytes(session.snapshot()))
    rest = fed(artifact, frames[33:], 3, other)[0]["Y_h"]
    np.testing.assert_allclose(np.concatenate([first, rest]), wanted, atol=1e-6)
    other.reset()
    np.testing.assert_allclose(fed(artifact, frames, 4, other)[0]["Y_h"], wanted, atol=1e-6)
