"""Many streams on a CPU: each behaves as a session of its own."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.artifact import Artifact
from edgelstm.errors import (
    BusyError,
    NonFiniteStateError,
    RefusedSamplesError,
    RefusedStreamsError,
    StreamError,
)
from edgelstm.sessions import Session
from edgelstm_compiler import compile_model
from tests import models

pytestmark = pytest.mark.tvm

PLACES, FEATURES = 9, 3
TOLERANCE = 1e-6


def compiled(model: object, **options: object) -> Artifact:
    """With code for many streams, which the suite leaves out elsewhere."""
    pytest.importorskip("tvm")
    return compile_model(model, target_options={"streams": "yes"}, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """Two kinds of layers and a head, of sizes that fill no block."""
    model = models.stacked_model(
        steps=None, ops=("LSTM", "GRU"), hidden=19, features=FEATURES, head="sequence"
    )
    return compiled(model)


@pytest.fixture(scope="module")
def integers() -> Artifact:
    """The same in integers."""
    model = models.stacked_model(
        steps=None, ops=("LSTM", "GRU"), hidden=19, features=FEATURES, head="sequence"
    )
    frames = np.random.default_rng(0).normal(size=(60, FEATURES)).astype(np.float32)
    return compiled(model, quantize="int8-full", calibration=[frames])


@pytest.fixture(scope="module")
def unbounded() -> Artifact:
    """A model whose states can overflow."""
    return compiled(
        models.rnn_model(
            features=FEATURES, steps=None, activations=("Relu",), outputs=("Y",), gain=9
        )
    )


def without_batch_code(artifact: Artifact) -> Artifact:
    """As older versions compiled it."""
    container = artifact.container
    kept = {key: data for key, data in container.sections.items() if "streams/" not in key}
    return Artifact(type(container)(container.manifest, kept))


def frames_of(count: int, streams: int, seed: int = 0) -> np.ndarray:
    """Blocks of frames."""
    return np.random.default_rng(seed).normal(size=(count, streams, FEATURES)).astype(np.float32)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 10**6)),
        st.tuples(st.just("run"), st.integers(0, 10**6)),
        st.tuples(st.just("leave"), st.integers(0, PLACES - 1)),
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("reset"), st.integers(0, PLACES - 1)),
        st.tuples(st.just("move"), st.integers(0, PLACES - 1)),
        st.tuples(st.just("bad"), st.integers(0, PLACES - 1)),
    ),
    min_size=1,
    max_size=12,
)


def follow(artifact: Artifact, actions: list[tuple[str, int]], threads: int, limit: float) -> None:
    """Do the same to a set and to single sessions, and compare."""
    streams = artifact.session(streams=PLACES, threads=threads)
    singles: list[Session | None] = [artifact.session() for _ in range(PLACES)]

    def compare(found: np.ndarray, frames: np.ndarray, bad: int | None = None) -> None:
        for i, single in enumerate(singles):
            if single is None or i == bad:
                assert not found[:, i].any()
                continue
            wanted = single.run(np.ascontiguousarray(frames[:, i]))
            np.testing.assert_allclose(found[:, i], wanted, 0, limit)

    for action, number in actions:
        if action == "step":
            frames = frames_of(1, PLACES, number)
            compare(streams.step(frames[0])[None], frames)
        elif action == "run":
            frames = frames_of(1 + number % 4, PLACES, number)
            compare(streams.run(frames), frames)
        elif action == "leave":
            streams.leave(number)
            singles[number] = None
        elif action == "join" and None in singles:
            singles[streams.join()] = artifact.session()
            assert streams.active.tolist() == [single is not None for single in singles]
        elif action == "reset":
            streams.reset(number)
            single = singles[number]
            if single is not None:
                single.reset()
        elif action == "move":
            # A stream goes on in another place.
            source, target = number, (number + 1) % PLACES
            one, other = singles[source], singles[target]
            if one is not None and other is not None:
                streams.restore(target, streams.snapshot(source))
                other.restore(one.snapshot())
        elif action == "bad" and singles[number] is not None:
            frames = frames_of(1, PLACES, number)
            frames[0, number, 1] = np.nan
            with pytest.raises(RefusedSamplesError, match=f"stream {number}, element") as caught:
                streams.step(frames[0])
            assert list(caught.value.refused) == [number]
            compare(caught.value.outputs[None], frames, bad=number)


@given(actions=ACTIONS, threads=st.integers(1, 2))
@settings(max_examples=15)
def test_streams_are_as_separate_sessions(
    artifact: Artifact, actions: list[tuple[str, int]], threads: int
) -> None:
    """For any joining, leaving, resetting, moving and refusing."""
    follow(artifact, actions, threads, TOLERANCE)


@given(actions=ACTIONS)
@settings(max_examples=8)
def test_integers_are_the_same_bits(integers: Artifact, actions: list[tuple[str, int]]) -> None:
    """Scheme int8-full: not one bit differs."""
    follow(integers, actions, 1, 0.0)


@given(actions=ACTIONS)
@settings(max_examples=5)
def test_artifacts_without_such_code_run_on(
    artifact: Artifact, actions: list[tuple[str, int]]
) -> None:
    """Streams are stepped one by one where the artifact has nothing better."""
    follow(without_batch_code(artifact), actions, 2, 0.0)


@pytest.mark.parametrize("streams", [1, 64, 65, 131])
def test_any_number_of_streams(artifact: Artifact, streams: int) -> None:
    """Groups and tiles that are not full are filled up, and nothing of that shows."""
    frames = frames_of(3, streams)
    found = artifact.session(streams=streams).run(frames)
    for i in range(streams):
        wanted = artifact.session().run(np.ascontiguousarray(frames[:, i]))
        np.testing.assert_allclose(found[:, i], wanted, 0, TOLERANCE)


def test_snapshots_fit_single_sessions(artifact: Artifact) -> None:
    """A stream goes on in a session, and comes back."""
    streams, single = artifact.session(streams=3), artifact.session()
    frames = frames_of(4, 3)
    streams.run(frames[:2])
    single.restore(streams.snapshot(1))
    wanted = streams.step(frames[2])[1]
    np.testing.assert_allclose(single.step(frames[2, 1]), wanted, 0, TOLERANCE)
    streams.restore(2, single.snapshot())
    assert streams.snapshot(2) == single.snapshot()


@pytest.mark.parametrize("has_code", [True, False])
def test_a_state_that_overflows_stops_its_stream_only(unbounded: Artifact, has_code: bool) -> None:
    """It stands as after the last frame that was kept; the others are fed to the end."""
    artifact = unbounded if has_code else without_batch_code(unbounded)
    assert artifact.signature.checks_states
    frames = np.abs(frames_of(4, 5)) * 1e-3
    frames[2, 3] = 1e36
    streams, single = artifact.session(streams=5), artifact.session()
    with pytest.raises(RefusedStreamsError, match="stream 3") as caught:
        streams.run(frames)
    error, outputs = caught.value.refused[3], caught.value.outputs
    assert isinstance(error, NonFiniteStateError)
    assert error.frames_done == 2
    wanted = single.run(np.ascontiguousarray(frames[:2, 3]))
    np.testing.assert_allclose(outputs[:2, 3], wanted, 1e-5)
    assert not outputs[2:, 3].any()
    kept = streams.snapshot(3).state, single.snapshot().state
    np.testing.assert_allclose(*(np.frombuffer(state, np.float32) for state in kept), 1e-5)
    other = artifact.session().run(np.ascontiguousarray(frames[:, 4]))
    np.testing.assert_allclose(outputs[:, 4], other, 1e-5)


def test_a_block_with_one_bad_frame_feeds_none_of_its_stream(artifact: Artifact) -> None:
    """All frames of a stream are looked at before the first; and long blocks are no different."""
    for count in (3, 400):
        streams = artifact.session(streams=4)
        frames = frames_of(count, 4)
        frames[count - 1, 2, 0] = np.inf
        before = streams.snapshot(2)
        with pytest.raises(RefusedSamplesError, match=f"in frame {count - 1} of the block"):
            streams.run(frames)
        assert streams.snapshot(2) == before
        single = artifact.session()
        single.run(np.ascontiguousarray(frames[:, 1]))
        kept = streams.snapshot(1).state, single.snapshot().state
        np.testing.assert_allclose(*(np.frombuffer(state, np.float32) for state in kept), 0, 1e-5)


def test_refusals_can_be_sent_on(artifact: Artifact) -> None:
    """They are pickled with reasons and outputs, as workers need it."""
    bad = np.full((2, FEATURES), np.nan, np.float32)
    with pytest.raises(RefusedStreamsError, match="and 1 more") as caught:
        artifact.session(streams=2).step(bad)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert set(again.refused) == {0, 1}


def test_threads_are_started_once_and_end_with_the_set(artifact: Artifact) -> None:
    """Steps start none."""
    gc.collect()
    before = threading.active_count()
    with artifact.session(streams=8, threads=2) as streams:
        for _ in range(3):
            streams.step(frames_of(1, 8)[0])
            assert threading.active_count() == before + 1
    assert threading.active_count() == before
    dropped = artifact.session(streams=8, threads=3)
    del dropped
    gc.collect()
    assert threading.active_count() == before


def test_threads_give_the_same_bits(artifact: Artifact) -> None:
    """However the streams are shared out."""
    frames = frames_of(5, 64)
    wanted = artifact.session(streams=64).run(frames)
    for threads in (2, 5):
        np.testing.assert_array_equal(
            artifact.session(streams=64, threads=threads).run(frames), wanted
        )


def test_nonsense_is_refused(artifact: Artifact) -> None:
    """Numbers of threads and places, shapes, names, closed sets."""
    with pytest.raises(ValueError, match="threads=0"):
        artifact.session(streams=2, threads=0)
    with pytest.raises(ValueError, match="many streams"):
        artifact.session(threads=2)  # type: ignore[call-overload]
    with pytest.raises(StreamError, match="0 streams"):
        artifact.session(streams=0)
    streams = artifact.session(streams=2)
    with pytest.raises(StreamError, match=r"expected \(2, 3\)"):
        streams.step(np.zeros((3, FEATURES), np.float32))
    with pytest.raises(StreamError, match=r"expected \(4, 2, 3\)"):
        streams.run(np.zeros((4, 3), np.float32))
    with pytest.raises(StreamError, match="there is no stream 2"):
        streams.reset(2)
    with pytest.raises(StreamError, match="places are taken"):
        streams.join()
    streams.close()
    with pytest.raises(StreamError, match="closed"):
        streams.step(np.zeros((2, FEATURES), np.float32))


def test_one_call_at_a_time(artifact: Artifact) -> None:
    """A second thread is refused by name."""
    streams = artifact.session(streams=64)
    frames, refused = frames_of(3000, 64), []
    worker = threading.Thread(target=streams.run, args=(frames,))
    worker.start()
    while worker.is_alive() and not refused:
        try:
            streams.reset(0)
        except BusyError:
            refused.append(1)
    worker.join()
    assert refused
