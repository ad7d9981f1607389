"""Bounded look-ahead: ONNX Runtime on the same chunks says the same, however it is fed."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm.errors import NonFiniteSampleError, NonFiniteStateError, StreamError
from edgelstm.sessions import Session
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.lookahead_check import ChunkRows
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant_report.restore import restore
from tests.lookahead_models import FEATURES, Layer, in_chunks, make_stack, whole

Array = NDArray[np.float32]

STACKS: tuple[tuple[Layer, ...], ...] = (
    (("LSTM", "bidirectional"),),
    (("GRU", "bidirectional"),),
    (("RNN", "bidirectional"),),
    (("LSTM", "reverse"),),
    (("GRU", "bidirectional"), ("LSTM", "bidirectional")),
    (("LSTM", "forward"), ("RNN", "bidirectional")),
    (("LSTM", "bidirectional"), ("GRU", "forward"), ("LSTM", "bidirectional")),
    (("RNN", "bidirectional"), ("GRU", "reverse"), ("LSTM", "forward")),
)
FLOORS = 4.0


def recording(frames: int, seed: int = 0) -> Array:
    """Frames (n, F) as sensors give them."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.tanh(np.cumsum(rng.normal(size=(frames, FEATURES)), axis=0)), np.float32)


@cache
def compiled(
    layers: tuple[Layer, ...],
    chunk: int,
    ahead: int,
    target: str = "reference",
    seed: int = 0,
    is_dressed: bool = True,
) -> tuple[onnx.ModelProto, Artifact]:
    """A stack and its artifact."""
    model = make_stack(layers, seed=seed, is_dressed=is_dressed)
    artifact = compile_model(
        model.SerializeToString(), lookahead=ahead, chunk=chunk, target=target, check=False
    )
    return model, artifact


def answers(session: Session, frames: Array, cuts: tuple[int, ...] = ()) -> Array:
    """All answers over a recording fed in pieces."""
    parts = [session.run(part) for part in np.split(frames, cuts)]
    return np.concatenate([*parts, session.finish()])


def expect_oracle(
    layers: tuple[Layer, ...], chunk: int, ahead: int, frames: int, target: str
) -> None:
    """The artifact within four times the floor of float32 from ONNX Runtime on the pieces."""
    is_dressed = bool((chunk + ahead) % 2)
    model, artifact = compiled(layers, chunk, ahead, target, chunk, is_dressed)
    x = recording(frames, ahead)
    wanted = in_chunks(model, x[:, None], chunk, ahead)
    found = answers(artifact.session(), x, (frames // 3, frames // 3 + 1))
    source = read_model(model.SerializeToString())
    chunks = ChunkRows.of(artifact, restore(artifact, source).float_graph)
    scale = max(1.0, float(np.abs(wanted).max()))
    floor = chunks.noise({"x": x})["y"] * scale
    wanted = wanted.reshape(found.shape)
    assert np.abs(found - wanted).max() <= FLOORS * floor


@pytest.mark.parametrize(
    "layers", STACKS, ids=lambda layers: "-".join(op + d[0] for op, d in layers)
)
@pytest.mark.parametrize(("chunk", "ahead", "frames"), [(1, 4, 23), (5, 3, 31), (4, 0, 18)])
def test_the_reference_engine_is_the_oracle(
    layers: tuple[Layer, ...], chunk: int, ahead: int, frames: int
) -> None:
    """1 to 3 layers of every cell, bare and between Dense, Tanh and LayerNorm."""
    expect_oracle(layers, chunk, ahead, frames, "reference")


@settings(max_examples=8)
@given(st.sampled_from(STACKS), st.integers(1, 9), st.integers(0, 12), st.integers(1, 40))
def test_any_chunk_and_look_ahead_is_the_oracle(
    layers: tuple[Layer, ...], chunk: int, ahead: int, frames: int
) -> None:
    """Also recordings shorter than a chunk, and look-aheads of several of them."""
    expect_oracle(layers, chunk, ahead, frames, "reference")


@pytest.mark.tvm
@pytest.mark.parametrize(
    ("layers", "chunk", "ahead"),
    [(STACKS[6], 1, 5), (STACKS[4], 6, 4)],
)
def test_native_code_is_the_oracle(layers: tuple[Layer, ...], chunk: int, ahead: int) -> None:
    """The states after N of N + L frames are kept in compiled code, too."""
    expect_oracle(layers, chunk, ahead, 37, "host")


@settings(max_examples=25)
@given(st.lists(st.integers(0, 29), max_size=8), st.sampled_from([(1, 3), (4, 2), (7, 0), (3, 9)]))
def test_any_chunking_of_the_feed_is_the_same(cuts: list[int], span: tuple[int, int]) -> None:
    """Bit for bit, whatever comes together in a block."""
    _, artifact = compiled(STACKS[4], *span)
    x = recording(29)
    wanted = answers(artifact.session(), x)
    assert len(wanted) == 29
    assert np.array_equal(answers(artifact.session(), x, tuple(sorted(cuts))), wanted)


@pytest.mark.parametrize(("chunk", "ahead"), [(1, 3), (4, 2), (5, 0)])
def test_steps_give_one_answer_each_behind_the_delay(chunk: int, ahead: int) -> None:
    """None for N - 1 + L frames, then one with every frame; `finish` gives the others."""
    _, artifact = compiled(STACKS[4], chunk, ahead)
    x, delay = recording(17), chunk - 1 + ahead
    (spec,) = artifact.signature.outputs
    assert (spec.delay, spec.stride, spec.tail) == (delay, 1, delay)
    session = artifact.session()
    stepped = [session.step(frame) for frame in x]
    assert [found is not None for found in stepped] == [n >= delay for n in range(17)]
    rows = np.concatenate([np.stack([r for r in stepped if r is not None]), session.finish()])
    assert np.array_equal(rows, answers(artifact.session(), x))


def test_blocks_give_what_is_known() -> None:
    """Answers of a chunk come when it is whole: L to N - 1 + L frames late."""
    _, artifact = compiled(STACKS[4], 4, 2)
    session = artifact.session()
    counts = [len(session.run(frame[None])) for frame in recording(14)]
    assert counts == [0] * 5 + [4, 0, 0, 0] * 2 + [4]


def test_steps_and_blocks_may_follow_each_other() -> None:
    """No answer is lost between them, and none comes twice."""
    _, artifact = compiled(STACKS[4], 4, 2)
    x, session = recording(19), artifact.session()
    found = [row[None] for frame in x[:8] if (row := session.step(frame)) is not None]
    found.append(session.run(x[8:13]))
    found += [row[None] for frame in x[13:] if (row := session.step(frame)) is not None]
    found.append(session.finish())
    assert np.array_equal(np.concatenate(found), answers(artifact.session(), x))


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_recording_within_the_first_chunk_is_the_whole_sequence(frames: int) -> None:
    """Backward halves begin at the true end, so nothing is approximated."""
    model, artifact = compiled(STACKS[6], 3, 5)
    x = recording(frames)
    found = answers(artifact.session(), x)
    assert np.abs(found - whole(model, x[:, None])[:, 0]).max() < 1e-5


def test_a_longer_look_ahead_is_nearer_to_the_whole_sequence() -> None:
    """And one that is as long as the recording is there."""
    x = recording(24)
    distances = []
    for ahead in (0, 4, 24):
        model, artifact = compiled(STACKS[1], 1, ahead)
        wanted = whole(model, x[:, None])[:, 0]
        distances.append(float(np.square(answers(artifact.session(), x) - wanted).mean()))
    assert distances[0] > 4 * distances[1] > 0
    assert distances[2] < 1e-10


def test_a_stream_that_has_ended_is_refused_until_reset() -> None:
    """Then it is a fresh one."""
    _, artifact = compiled(STACKS[4], 4, 2)
    x, session = recording(9), artifact.session()
    wanted = answers(session, x)
    for feed in (session.step, lambda frame: session.run(frame[None])):
        with pytest.raises(StreamError, match=r"ended behind frame 8.*reset\(\)"):
            feed(x[0])
    with pytest.raises(StreamError, match="ended"):
        session.finish()
    session.reset()
    assert np.array_equal(answers(session, x), wanted)


@pytest.mark.parametrize("cut", [0, 3, 6, 11])
def test_a_snapshot_goes_on_where_it_was_taken(cut: int) -> None:
    """With the frames that are kept, and answers that wait for their step."""
    _, artifact = compiled(STACKS[4], 4, 2)
    x, first = recording(17), artifact.session()
    before = [row[None] for frame in x[:cut] if (row := first.step(frame)) is not None]
    kept = bytes(first.snapshot())
    first.run(x[:5])
    second = artifact.session()
    for session in (first, second):
        session.restore(kept)
        found = np.concatenate([*before, session.run(x[cut:]), session.finish()])
        assert np.array_equal(found, answers(artifact.session(), x))


def test_snapshots_of_other_look_aheads_are_refused() -> None:
    """Of the same model, but cut otherwise; and damaged ones."""
    _, artifact = compiled(STACKS[4], 4, 2)
    _, other = compiled(STACKS[4], 4, 3)
    session = artifact.session()
    session.run(recording(7))
    before = session.snapshot()
    with pytest.raises(StreamError, match="another look-ahead"):
        session.restore(other.session().snapshot())
    for state in (before.state[:-1], before.state + b"\0", b"\xff" * len(before.state)):
        with pytest.raises(StreamError):
            session.restore(type(before)(before.model_id, state))
    assert session.snapshot() == before


def test_states_are_those_behind_the_answered_frames() -> None:
    """A caller may read and set what the forward halves carry."""
    _, artifact = compiled(STACKS[0], 4, 2)
    names = [state.name for state in artifact.signature.states]
    assert names == ["layer0.forward.h", "layer0.forward.c"]
    x, session, same = recording(20), artifact.session(), artifact.session()
    session.run(x[:6])
    same.run(x[:7])
    assert np.array_equal(session.get_state(names[0]), same.get_state(names[0]))
    session.set_state(names[1], 0.25)
    assert (session.get_state(names[1]) == 0.25).all()
    assert not np.array_equal(session.run(x[6:14]), same.run(x[7:14]))
    with pytest.raises(StreamError, match=r"lookahead\.there"):
        session.set_state("lookahead.there", 1)


def test_a_bad_frame_changes_nothing() -> None:
    """It is refused when it comes, not when its chunk is computed."""
    _, artifact = compiled(STACKS[4], 4, 2)
    x, session = recording(12), artifact.session()
    bad = x[:3].copy()
    bad[1, 2] = np.nan
    found = session.run(x[:5])
    for feed in (lambda: session.run(bad), lambda: session.step(bad[1])):
        with pytest.raises(NonFiniteSampleError):
            feed()
    rest = [session.run(x[5:]), session.finish()]
    assert np.array_equal(np.concatenate([found, *rest]), answers(artifact.session(), x))


def growing(clip: float | None = None) -> bytes:
    """A forward and a backward RNN with relu, of which the forward one doubles its state."""
    weights = {
        "W": np.ones((2, 1, 1), np.float32),
        "R": np.array([[[2e9]], [[0.5]]], np.float32),
    }
    node = helper.make_node(
        "RNN",
        ["x", "W", "R"],
        ["Y"],
        name="grow",
        hidden_size=1,
        direction="bidirectional",
        activations=["Relu", "Relu"],
        **({} if clip is None else {"clip": clip}),
    )
    graph = helper.make_graph(
        [node],
        "growing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, 1])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["T", 2, 1, 1])],
        [numpy_helper.from_array(data, name) for name, data in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_state_that_would_overflow_refuses_the_frame_that_fills_its_chunk() -> None:
    """The answers before are kept, the state is as it was, and reset() begins anew."""
    artifact = compile_model(growing(), lookahead=1, chunk=2, target="reference", check=False)
    assert artifact.signature.lookahead is not None
    assert artifact.signature.lookahead.kernel.checks_states
    x = np.ones((12, 1), np.float32)
    session, stepped = artifact.session(), artifact.session()
    with pytest.raises(NonFiniteStateError) as caught:
        session.run(x)
    fed = caught.value.frames_done
    assert 2 < fed < 12
    for frame in x[:fed]:
        stepped.step(frame)
    before = stepped.snapshot()
    with pytest.raises(NonFiniteStateError):
        stepped.step(x[fed])
    assert stepped.snapshot() == before
    session.reset()
    assert len(session.run(x[:3])) == 2


@pytest.mark.tvm
def test_integers_have_the_same_bits_on_every_engine() -> None:
    """Scheme int8-full: outputs and states of the reference and of native code."""
    model = make_stack(STACKS[4], seed=1)
    x = recording(40, 3)
    found = []
    for target in ("reference", "host"):
        artifact = compile_model(
            model.SerializeToString(),
            lookahead=3,
            chunk=4,
            target=target,
            quantize="int8-full",
            calibration=recording(300, 4),
            force=True,
        )
        session = artifact.session()
        rows = session.run(x)
        states = [session.get_state(state.name) for state in artifact.signature.states]
        found.append([rows, *states])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    exact = compile_model(
        model.SerializeToString(), lookahead=3, chunk=4, target="reference", check=False
    )
    assert np.abs(found[0][0] - exact.session().run(x)).max() < 0.2


@pytest.mark.tvm
@pytest.mark.parametrize("scheme", ["w8", "int8"])
def test_float_schemes_agree_on_every_engine(scheme: str) -> None:
    """Compiled with the self-check, which compares with the quantized chunk."""
    model = make_stack(STACKS[4], seed=1)
    x = recording(30, 3)
    found = []
    for target in ("reference", "host"):
        artifact = compile_model(
            model.SerializeToString(),
            lookahead=3,
            chunk=4,
            target=target,
            quantize=scheme,
            calibration=recording(300, 4),
            force=True,
        )
        assert artifact.manifest["check"]["done"]
        found.append(answers(artifact.session(), x))
    assert np.abs(found[0] - found[1]).max() < 1e-5


def test_layers_are_not_reset_alone() -> None:
    """Frames that wait for their chunk wait for all layers; the stream goes on as it was."""
    _, artifact = compiled(STACKS[0], 3, 2)
    frames = recording(11)
    with artifact.session() as session, artifact.session() as other:
        expected = answers(other, frames)
        first = session.run(frames[:4])
        with pytest.raises(StreamError, match="takes chunks with a look-ahead"):
            session.reset(layers=["lstm"])
        rest = session.run(frames[4:])
        found = np.concatenate([first, rest, session.finish()])
    assert np.array_equal(found, expected)
