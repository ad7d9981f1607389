"""Sessions: what they compute, what they refuse, and that nothing leaks between them."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm import Artifact, Session, Snapshot
from edgelstm.errors import (
    InternalError,
    NonFiniteSampleError,
    SampleShapeError,
    SampleTypeError,
    StreamError,
)
from edgelstm.memory import address_of
from tests.unit.runtime.toy_models import (
    WEIGHTS,
    double_call,
    leaky_expected,
    leaky_native,
    leaky_reference,
    needs_cc,
    pair_native,
    pair_reference,
)

BOTH = [
    pytest.param(leaky_native, marks=needs_cc, id="native"),
    pytest.param(leaky_reference, id="reference"),
]
PAIRS = [
    pytest.param(pair_native, marks=needs_cc, id="native"),
    pytest.param(pair_reference, id="reference"),
]
FRAMES = np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32)


@pytest.fixture(params=BOTH)
def leaky(request: pytest.FixtureRequest) -> Artifact:
    make: Callable[[], Artifact] = request.param
    return make()


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Artifact:
    make: Callable[[], Artifact] = request.param
    return make()


def pair_frames(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "a": rng.standard_normal((n, 2)).astype(np.float32),
        "k": rng.integers(-5, 5, n).astype(np.int32),
    }


def test_step_follows_the_sequence(leaky: Artifact) -> None:
    """Steps give what the model gives, through a view that the next step overwrites."""
    session = leaky.session()
    expected = leaky_expected(FRAMES)
    first = session.step(FRAMES[0])
    np.testing.assert_array_equal(first, expected[0])
    second = session.step(FRAMES[1])
    assert second is first
    np.testing.assert_array_equal(second, expected[1])


def test_run_gives_fresh_arrays(leaky: Artifact) -> None:
    """A block gives an array of its own, contiguous, of the model's type."""
    session = leaky.session()
    result = session.run(FRAMES)
    np.testing.assert_array_equal(result, leaky_expected(FRAMES))
    kept = result.copy()
    session.run(FRAMES)
    session.step(FRAMES[0])
    np.testing.assert_array_equal(result, kept)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=8))
@pytest.mark.parametrize("make", [leaky_reference, pair_reference])
def test_any_chunking_equals_the_whole(make: Callable[[], Artifact], sizes: list[int]) -> None:
    """However a stream is cut, and step and run mixed, the predictions are the same."""
    artifact = make()
    total = sum(sizes)
    data: Any = pair_frames(total) if make is pair_reference else FRAMES.repeat(2, axis=0)[:total]
    whole = artifact.session().run(data)
    session = artifact.session()
    start = 0
    for size in sizes:
        part: Any = (
            {name: array[start : start + size] for name, array in data.items()}
            if isinstance(data, dict)
            else data[start : start + size]
        )
        got = session.run(part)
        for name in ["total", "count"] if isinstance(data, dict) else [None]:
            result = got[name] if name else got
            expected = whole[name] if name else whole
            np.testing.assert_array_equal(result, expected[start : start + size])
        start += size


def test_run_of_nothing(leaky: Artifact, pair: Artifact) -> None:
    """An empty block gives empty arrays of the right shape and changes nothing."""
    session = leaky.session()
    session.step(FRAMES[0])
    before = session.snapshot()
    assert session.run(np.empty((0, 2), np.float32)).shape == (0, 2)
    assert session.run([]).shape == (0, 2)
    assert session.snapshot() == before
    empty = pair.session().run(pair_frames(0))
    assert empty["total"].shape == (0, 2)
    assert empty["count"].shape == (0,)


def test_several_inputs_and_outputs_go_by_name(pair: Artifact) -> None:
    """Inputs and outputs in dicts, with gaps between them in the blocks; order is free."""
    data = pair_frames(20)
    expected_total = 1 + data["a"].cumsum(axis=0, dtype=np.float32)
    expected_count = 7 + data["k"].cumsum(dtype=np.int32)
    session = pair.session()
    result = session.run(data)
    np.testing.assert_allclose(result["total"], expected_total, rtol=1e-5)
    np.testing.assert_array_equal(result["count"], expected_count)
    assert result["total"].flags.c_contiguous

    session.reset()
    views = None
    for i in range(20):
        got = session.step({"k": data["k"][i], "a": data["a"][i]})
        np.testing.assert_array_equal(got["total"], result["total"][i])
        assert int(got["count"]) == expected_count[i]
        assert views is None or got is views
        views = got
    assert list(result) == ["total", "count"]


def test_python_numbers_are_converted(leaky: Artifact, pair: Artifact) -> None:
    """Lists, tuples and numbers become the model's type; whole numbers may become floats."""
    session = leaky.session()
    np.testing.assert_array_equal(session.step([1, 2.5]), WEIGHTS * np.float32([1, 2.5]))
    np.testing.assert_array_equal(
        session.run([[0, 0], (1, 1)])[1], np.float32([0.5, -0.625]) + WEIGHTS
    )
    assert int(pair.session().step({"k": 3, "a": [0.0, 0.0]})["count"]) == 10


def test_any_strides_are_taken(leaky: Artifact) -> None:
    """Non-contiguous, reversed and Fortran-ordered arrays are read right."""
    wide = np.zeros((50, 6), np.float32)
    wide[:, ::3] = FRAMES
    expected = leaky_expected(FRAMES)
    np.testing.assert_array_equal(leaky.session().run(wide[:, ::3]), expected)
    np.testing.assert_array_equal(leaky.session().run(np.asfortranarray(FRAMES)), expected)
    np.testing.assert_array_equal(leaky.session().step(wide[0, ::3]), expected[0])
    backwards = np.ascontiguousarray(FRAMES[0, ::-1])[::-1]
    np.testing.assert_array_equal(leaky.session().step(backwards), expected[0])


def test_the_output_may_be_fed_back(leaky: Artifact) -> None:
    """The view that step returned is a valid next frame."""
    session = leaky.session()
    y = session.step(FRAMES[0])
    copy = y.copy()
    expected = leaky_expected(np.stack([FRAMES[0], copy]))[1]
    np.testing.assert_array_equal(session.step(y), expected)


BAD_FRAMES = [
    (np.zeros(3, np.float32), SampleShapeError, r"'x'.*\(2,\).*\(3,\)"),
    (np.zeros((1, 2), np.float32), SampleShapeError, "'x'"),
    (np.float32(1), SampleShapeError, "'x'"),
    ([1.0], SampleShapeError, "'x'"),
    ([[1.0], [1.0, 2.0]], SampleShapeError, "different lengths"),
    (np.zeros(2), SampleTypeError, "'x'.*float32.*float64.*astype"),
    (np.zeros(2, np.int32), SampleTypeError, "'x'"),
    (np.zeros(2, ">f4"), SampleTypeError, "'x'"),
    (np.ma.masked_array(np.zeros(2, np.float32), [0, 1]), SampleTypeError, "masked"),
    (["a", "b"], SampleTypeError, "'x'"),
    ([1j, 2], SampleTypeError, "'x'"),
    (None, SampleTypeError, "'x'"),
    ("ab", SampleTypeError, "'x'"),
    ({"y": [1.0, 2.0]}, StreamError, "missing 'x'; unknown 'y'"),
    ({"x": [1.0, 2.0], "z": 1}, StreamError, "unknown 'z'"),
    ({}, StreamError, "missing 'x'"),
    (np.array([1, np.nan], np.float32), NonFiniteSampleError, r"'x', element \[1\] is nan"),
    (np.array([-np.inf, 0], np.float32), NonFiniteSampleError, r"'x', element \[0\] is -inf"),
    ([1e39, 0], NonFiniteSampleError, r"\[0\] is inf"),
]


@pytest.mark.parametrize(("frame", "error", "message"), BAD_FRAMES)
def test_a_refused_frame_changes_nothing(
    leaky: Artifact, frame: Any, error: type[StreamError], message: str
) -> None:
    """The error names the input; state and later predictions are as if it had never come."""
    session = leaky.session()
    session.run(FRAMES[:5])
    before = session.snapshot()
    with pytest.raises(error, match=message):
        session.step(frame)
    assert session.snapshot() == before
    np.testing.assert_array_equal(session.run(FRAMES[5:]), leaky_expected(FRAMES)[5:])


def bad_block(row: int, column: int, value: float) -> np.ndarray:
    block = FRAMES.copy()
    block[row, column] = value
    return block


BAD_BLOCKS = [
    (FRAMES[0], SampleShapeError, r"\(n, 2\).*use step"),
    (np.zeros((4, 3), np.float32), SampleShapeError, "'x'"),
    (np.zeros((2, 2, 2), np.float32), SampleShapeError, "'x'"),
    (np.float32(0), SampleShapeError, "'x'"),
    (FRAMES.astype(np.float64), SampleTypeError, "'x'"),
    (bad_block(17, 1, np.nan), NonFiniteSampleError, r"'x' in frame 17, element \[1\] is nan"),
    (bad_block(49, 0, np.inf), NonFiniteSampleError, r"frame 49, element \[0\] is inf"),
]


@pytest.mark.parametrize(("block", "error", "message"), BAD_BLOCKS)
def test_a_refused_block_changes_nothing(
    leaky: Artifact, block: Any, error: type[StreamError], message: str
) -> None:
    """None of the block is fed, whichever frame is at fault."""
    session = leaky.session()
    session.run(FRAMES[:5])
    before = session.snapshot()
    with pytest.raises(error, match=message):
        session.run(block)
    assert session.snapshot() == before


def test_refusals_with_several_inputs(pair: Artifact) -> None:
    """Each input is named; whole numbers stay whole and within range."""
    session = pair.session()
    before = session.snapshot()
    a = np.zeros(2, np.float32)
    for sample, error, message in [
        (a, StreamError, "2 inputs.*'k', 'a'"),
        ({"a": a}, StreamError, "missing 'k'"),
        ({"a": a, "k": 1.0}, SampleTypeError, "'k'"),
        ({"a": a, "k": 2**31}, SampleTypeError, "'k'"),
        ({"a": a, "k": 2**80}, SampleTypeError, "'k'"),
        ({"a": a, "k": np.int64(1)}, SampleTypeError, "'k'"),
        ({"a": a, "k": [1]}, SampleShapeError, "'k'"),
        ({"a": a + np.nan, "k": 1}, NonFiniteSampleError, "'a'"),
    ]:
        with pytest.raises(error, match=message):
            session.step(sample)
    with pytest.raises(SampleShapeError, match=r"different numbers of frames.*'k' 3.*'a' 2"):
        session.run({"a": np.zeros((2, 2), np.float32), "k": np.zeros(3, np.int32)})
    bad = pair_frames(5)
    bad["a"][3, 1] = np.nan
    with pytest.raises(NonFiniteSampleError, match=r"'a' in frame 3, element \[1\]"):
        session.run(bad)
    assert session.snapshot() == before


def test_reset_is_a_fresh_session(leaky: Artifact, pair: Artifact) -> None:
    """After reset the stream begins again, from the model's initial state."""
    session = leaky.session()
    first = session.run(FRAMES)
    session.reset()
    np.testing.assert_array_equal(session.run(FRAMES), first)
    assert int(pair.session().step({"k": 0, "a": [0.0, 0.0]})["count"]) == 7


def test_snapshot_and_restore(leaky: Artifact) -> None:
    """A stream continues in another session, also by way of bytes."""
    session = leaky.session()
    session.run(FRAMES[:20])
    snapshot = session.snapshot()
    rest = session.run(FRAMES[20:])
    other = leaky.session()
    other.restore(snapshot)
    np.testing.assert_array_equal(other.run(FRAMES[20:]), rest)
    other.restore(bytes(snapshot))
    np.testing.assert_array_equal(other.run(FRAMES[20:]), rest)
    assert Snapshot.from_bytes(bytes(snapshot)) == snapshot


@needs_cc
def test_snapshots_move_between_engines() -> None:
    """The state of the native engine continues in the reference engine."""
    native = leaky_native().session()
    native.run(FRAMES[:20])
    reference = leaky_reference().session()
    reference.restore(native.snapshot())
    np.testing.assert_array_equal(reference.run(FRAMES[20:]), native.run(FRAMES[20:]))


def test_foreign_and_damaged_snapshots_are_refused(leaky: Artifact, pair: Artifact) -> None:
    """Another model's snapshot, or broken bytes, leave the state alone."""
    session = leaky.session()
    session.step(FRAMES[0])
    before = session.snapshot()
    good = bytes(before)
    with pytest.raises(StreamError, match="another model"):
        session.restore(pair.session().snapshot())
    with pytest.raises(StreamError, match="holds 4 bytes, the state has 8"):
        session.restore(Snapshot(before.model_id, b"1234"))
    for data in [
        b"",
        b"nonsense",
        good[:-1],
        good + b"1",
        *(flip(good, i) for i in range(len(good))),
    ]:
        with pytest.raises(StreamError):
            session.restore(data)
    assert session.snapshot() == before


def flip(data: bytes, i: int) -> bytes:
    changed = bytearray(data)
    changed[i] ^= 1
    return bytes(changed)


def test_call_mode() -> None:
    """Whole functions by `call`, with fresh results; stream methods say what to use instead."""
    session = double_call().session()
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    result = session.call({"x": x})
    np.testing.assert_array_equal(result, 2 * x)
    np.testing.assert_array_equal(session.call(x + 1), 2 * x + 2)
    np.testing.assert_array_equal(result, 2 * x)
    for use in (session.step, session.run):
        with pytest.raises(StreamError, match=r"--mode call: use call\(inputs\)"):
            use(x)
    with pytest.raises(NonFiniteSampleError, match=r"element \[0,0\]"):
        session.call(x + np.nan)
    with pytest.raises(SampleShapeError):
        session.call(x[0])


def test_call_on_a_stream_says_what_to_use(leaky: Artifact) -> None:
    """The way round."""
    with pytest.raises(StreamError, match=r"--mode stream: use step\(frame\) or run\(frames\)"):
        leaky.session().call(FRAMES)


def test_a_closed_session_refuses(leaky: Artifact) -> None:
    """Everything but reading old results is over; closing twice is fine."""
    with leaky.session() as session:
        y = session.step(FRAMES[0])
    session.close()
    for use in (
        lambda: session.step(FRAMES[0]),
        lambda: session.run(FRAMES),
        session.reset,
        session.snapshot,
    ):
        with pytest.raises(StreamError, match="closed"):
            use()
    np.testing.assert_array_equal(y, leaky_expected(FRAMES)[0])


def test_states_of_sessions_never_mix(leaky: Artifact) -> None:
    """Interleaved sessions give what each gives alone."""
    sessions = [leaky.session() for _ in range(5)]
    streams = [FRAMES * np.float32(i + 1) for i in range(5)]
    for t in range(len(FRAMES)):
        for session, stream in zip(sessions, streams, strict=True):
            result = session.step(stream[t])
            np.testing.assert_array_equal(result, leaky_expected(stream[: t + 1])[-1])


def test_sessions_share_weights_and_nothing_else() -> None:
    """All memory that is written belongs to one session; weights exist once."""
    artifact = leaky_reference()
    sessions = [artifact.session() for _ in range(3)]
    assert len({id(session.kernel) for session in sessions}) == 1
    blocks = [getattr(s._blocks, name) for s in sessions for name in ("state", "inputs", "outputs")]
    assert len({address_of(block) for block in blocks}) == len(blocks)


def test_threads(leaky: Artifact) -> None:
    """Sessions in threads, one each, give what they give alone."""
    failures: list[object] = []
    barrier = threading.Barrier(6)

    def work(seed: int) -> None:
        stream = np.random.default_rng(seed).standard_normal((200, 2)).astype(np.float32)
        expected = leaky_expected(stream)
        barrier.wait()
        session = leaky.session()
        for _ in range(3):
            session.reset()
            stepped = [session.step(frame).copy() for frame in stream[:100]]
            ran = session.run(stream[100:])
            if not np.array_equal(np.concatenate([stepped, ran]), expected):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@needs_cc
def test_steps_leave_nothing_allocated() -> None:
    """A million frames need the memory of the first."""
    session = leaky_native().session()
    step = session.step
    frames = list(FRAMES)
    for frame in frames:
        step(frame)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(100):
            for frame in frames:
                step(frame)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 512
    assert peak - before < 4096


def test_an_impossible_code_is_our_fault() -> None:
    """A kernel that complains about an input that does not exist, or is fine, is a bug."""
    session = leaky_reference().session()
    session._step = lambda: 7
    with pytest.raises(InternalError, match="returned 7"):
        session.step(FRAMES[0])
    session._step = lambda: 1
    with pytest.raises(InternalError, match="nothing is wrong"):
        session.step(FRAMES[0])


def test_repr_names_model_and_engine(leaky: Artifact) -> None:
    """What a prompt shows."""
    session: Session = leaky.session()
    assert "leaky stream on" in repr(session)
    assert "leaky stream for" in repr(leaky)
