"""What sessions refuse: magnitudes, integers, states; and what a refused frame leaves behind."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import (
    ArtifactFormatError,
    NonFiniteSampleError,
    NonFiniteStateError,
    SampleRangeError,
    StreamError,
)
from edgelstm.io.base import Batch
from edgelstm.io.replay import BadSamplePolicy, Replay
from edgelstm.sessions import Session
from edgelstm.signature import Signature, TensorSpec
from edgelstm.timing import random_frames
from tests.unit.runtime.toy_models import LEAKY, leaky_program, leaky_reference


def limited(limit: float) -> Artifact:
    """The leaky sum with a limit of its input."""
    inputs = (dataclasses.replace(LEAKY.inputs[0], limit=limit),)
    return leaky_reference(signature=dataclasses.replace(LEAKY, inputs=inputs))


def growing(state_limit: float = math.inf, gain: float = 1e20) -> Artifact:
    """S = gain * s + w * x, with new states checked."""
    signature = dataclasses.replace(LEAKY, checks_states=True, state_limit=state_limit)
    weights = np.array([1.0, 1.0, gain], np.float32).tobytes()
    return leaky_reference(signature=signature, weights=weights)


def indexed() -> Artifact:
    """A sum of integers that may lie within -2 and 1 in one element and 0 and 4 in the other."""
    spec = TensorSpec(
        "ids", DType.I64, (2,), 0, (1, 1, 2), time_axis=0, ranges=((1, -2, 1), (1, 0, 4))
    )
    program = leaky_program()
    program["inputs"] = [{"name": "ids", "value": "ids"}]
    cast = {"op": "Cast", "fields": {"dtype": "f32"}, "inputs": ["ids"], "outputs": ["x"]}
    program["nodes"].insert(0, cast)
    signature = dataclasses.replace(LEAKY, inputs=(spec,), input_bytes=16)
    sections = {"program": json.dumps(program).encode()}
    return leaky_reference(signature=signature, sections=sections)


def test_magnitudes_beyond_the_limit_are_refused() -> None:
    """The message names the element, its value, the limit and why; the state is as before."""
    session = limited(1e30).session()
    session.step(np.array([1.0, -1e30], np.float32))
    before = bytes(session.snapshot())
    with pytest.raises(NonFiniteSampleError, match=r"\[1\] is 2\.\d*e\+30, and beyond .*1e\+30"):
        session.step(np.array([1.0, 2e30], np.float32))
    frames = np.zeros((5, 2), np.float32)
    frames[3, 0] = -2e30
    with pytest.raises(NonFiniteSampleError, match=r"frame 3, element \[0\] is -2\."):
        session.run(frames)
    assert bytes(session.snapshot()) == before


@pytest.mark.parametrize(
    ("ids", "place"), [((-3, 0), 0), ((2, 0), 0), ((0, -1), 1), ((0, 5), 1), ((0, 2**62), 1)]
)
def test_integers_outside_of_their_range_are_refused(ids: tuple[int, int], place: int) -> None:
    """Each element has its own range; the message names it."""
    session = indexed().session()
    allowed = ("-2 to 1", "0 to 4")[place]
    with pytest.raises(SampleRangeError, match=rf"\[{place}\] is {ids[place]}, .* {allowed}"):
        session.step(np.array(ids, np.int64))
    session.step(np.array([-2, 4], np.int64))


def test_samples_that_are_made_up_are_taken() -> None:
    """Frames for timing lie within ranges and limits."""
    for artifact in (indexed(), limited(0.5)):
        frames = random_frames(artifact.signature, 50)
        artifact.session().run(frames)


def test_a_step_that_overflows_is_undone() -> None:
    """The state is as it was, and the stream goes on from there."""
    session = growing().session()
    session.step(np.array([1e30, 0], np.float32))
    before = bytes(session.snapshot())
    with pytest.raises(NonFiniteStateError, match="infinite or NaN") as caught:
        session.step(np.zeros(2, np.float32))
    assert caught.value.frames_done == 0
    assert caught.value.outputs is None
    assert bytes(session.snapshot()) == before
    session.reset()
    session.step(np.ones(2, np.float32))


def test_states_have_a_limit() -> None:
    """A state beyond it is refused though it is finite."""
    session = growing(state_limit=1e10, gain=1.0).session()
    session.step(np.array([9e9, 0], np.float32))
    with pytest.raises(NonFiniteStateError, match=r"beyond 1e\+10"):
        session.step(np.array([9e9, 0], np.float32))


def test_a_run_keeps_the_frames_before_the_one_that_overflows() -> None:
    """Their number and outputs come with the error, and the state is the one after them."""
    frames = np.zeros((6, 2), np.float32)
    frames[2] = 1e15
    session, other = growing().session(), growing().session()
    with pytest.raises(NonFiniteStateError, match="frame 4 of the block") as caught:
        session.run(frames)
    assert caught.value.frames_done == 4
    np.testing.assert_array_equal(caught.value.outputs, other.run(frames[:4]))
    assert bytes(session.snapshot()) == bytes(other.snapshot())


def test_the_error_can_be_pickled() -> None:
    """With what it holds."""
    error = pickle.loads(pickle.dumps(NonFiniteStateError("text", 3, np.ones(2))))
    assert (str(error), error.frames_done, error.outputs.sum()) == ("text", 3, 2)


def test_limits_are_kept_in_the_manifest_and_left_out_where_there_are_none() -> None:
    """Signatures read back equal; those of older artifacts have no such fields."""
    for artifact in (limited(1e30), growing(1e10), indexed()):
        again = Signature.from_json(json.loads(json.dumps(artifact.signature.to_json())))
        assert again == artifact.signature
    plain = LEAKY.to_json()
    assert "checks_states" not in plain
    assert not {"limit", "ranges"} & set(plain["inputs"][0])


def test_limits_are_no_part_of_the_identity() -> None:
    """A better bound must not end a stream of weeks: snapshots fit."""
    assert limited(1e30).model_id == leaky_reference().model_id == growing(gain=0.5).model_id


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": "1"},
        {"limit": -1.0},
        {"limit": True},
        {"ranges": 3},
        {"ranges": [[2, 0]]},
        {"ranges": [[1, 0, 4]]},
        {"ranges": [[2, 0.5, 4]]},
    ],
)
def test_limits_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    """As damage of the artifact, by name."""
    manifest = leaky_reference().container.manifest
    data = json.loads(json.dumps(manifest))
    data["signature"]["inputs"][0].update(fields)
    container = type(leaky_reference().container)(data, leaky_reference().container.sections)
    with pytest.raises(ArtifactFormatError, match="malformed"):
        Artifact(container)


class ListSource:
    """One batch."""

    kept: tuple[str, ...] = ()
    mapping: dict[str, Any] = {}  # noqa: RUF012 - a stand-in
    total = None
    done = 0

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def batches(self):
        """All frames at once."""
        yield Batch({"x": self.frames}, lambda i: f"list:{i}")


class ListSink:
    """Keeps everything."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def write(self, outputs, kept) -> None:
        """Keep the rows."""
        self.rows.extend(outputs["y"])

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self) -> None:
        """Nothing is left."""


def replay(session: Session, frames: np.ndarray, policy: BadSamplePolicy) -> tuple[Replay, Any]:
    """A replay of those frames, and its sink."""
    sink = ListSink()
    return Replay(session, ListSource(frames), sink, policy), sink


OVERFLOWING = np.zeros((60, 2), np.float32)
OVERFLOWING[0] = 1.0
OVERFLOWING[20] = 9e9
OVERFLOWING[40, 1] = 9e9
OVERFLOWING[59] = 9e9


@pytest.mark.parametrize(
    ("policy", "predictions"),
    [(BadSamplePolicy.SKIP, 57), (BadSamplePolicy.HOLD, 60), (BadSamplePolicy.RESET, 57)],
)
def test_policies_treat_overflows_as_bad_samples(policy: BadSamplePolicy, predictions: int) -> None:
    """Counted, left out, held or followed by a new stream."""
    run, sink = replay(growing(5e9, gain=1.0).session(), OVERFLOWING, policy)
    run.run()
    assert (run.frames_in, run.frames_out, run.bad_frames) == (60, predictions, 3)
    assert len(sink.rows) == predictions
    assert np.isfinite(sink.rows).all()
    assert sink.rows[-1][0] == (0.0 if policy is BadSamplePolicy.RESET else 1.0)


def test_raise_stops_at_the_overflow_and_says_where() -> None:
    """What was predicted before is written."""
    run, sink = replay(growing(5e9, gain=1.0).session(), OVERFLOWING, BadSamplePolicy.RAISE)
    with pytest.raises(NonFiniteStateError, match=r"list:20: .*--on-bad-sample"):
        run.run()
    assert (run.frames_in, run.frames_out, run.bad_frames, len(sink.rows)) == (21, 20, 1, 20)


def test_an_overflow_in_front_of_a_bad_sample_comes_first() -> None:
    """The counts are those at the overflow."""
    frames = OVERFLOWING.copy()
    frames[30] = np.nan
    run, _ = replay(growing(5e9, gain=1.0).session(), frames, BadSamplePolicy.RAISE)
    with pytest.raises(NonFiniteStateError, match="list:20"):
        run.run()
    assert (run.frames_in, run.frames_out, run.bad_frames) == (21, 20, 1)


@pytest.mark.parametrize("policy", [BadSamplePolicy.SKIP, BadSamplePolicy.HOLD])
def test_a_stream_whose_every_frame_overflows_ends(policy: BadSamplePolicy) -> None:
    """All are counted; none has a prediction."""
    run, sink = replay(growing(1.0, gain=1.0).session(), OVERFLOWING + 5, policy)
    run.run()
    assert (run.frames_in, run.frames_out, run.bad_frames, sink.rows) == (60, 0, 60, [])


def test_limits_count_as_bad_samples_in_a_replay() -> None:
    """Frames beyond the limit are found before they are fed."""
    run, _ = replay(limited(1e9).session(), OVERFLOWING, BadSamplePolicy.SKIP)
    run.run()
    assert (run.frames_out, run.bad_frames) == (57, 3)
    run, _ = replay(limited(1e9).session(), OVERFLOWING, BadSamplePolicy.RAISE)
    with pytest.raises(NonFiniteSampleError, match=r"list:20: x\[0\] is 8999999488.*beyond"):
        run.run()


def test_artifacts_pickle_as_their_bytes() -> None:
    """And give the same outputs."""
    artifact = leaky_reference()
    again = pickle.loads(pickle.dumps(artifact))
    assert again.container.to_bytes() == artifact.container.to_bytes()
    frames = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(again.session().run(frames), artifact.session().run(frames))
    assert copy.copy(artifact).name == "leaky"


def test_artifacts_on_another_kernel_are_not_pickled() -> None:
    """Their bytes would run on a kernel of their own."""
    artifact = leaky_reference()
    with pytest.raises(TypeError, match="kernel of this process"):
        pickle.dumps(artifact.on(artifact.kernel))


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
def test_sessions_say_why_they_are_not_copied(copying: Any) -> None:
    """A running stream has memory and code of this process."""
    with pytest.raises(TypeError, match=r"a Session is a running stream.*session\.snapshot\(\)"):
        copying(leaky_reference().session())


def test_computed_indices_that_are_refused_leave_the_state_alone() -> None:
    """On the reference engine, in the middle of a block."""
    program = leaky_program()
    steps = {"op": "Cast", "fields": {"dtype": "i64"}, "inputs": ["x"], "outputs": ["i"]}
    pick = {"op": "Gather", "fields": {"axis": 0}, "inputs": ["w", "i"], "outputs": ["picked"]}
    program["nodes"][0:0] = [steps, pick]
    artifact = leaky_reference(sections={"program": json.dumps(program).encode()})
    session = artifact.session()
    before = bytes(session.snapshot())
    with pytest.raises(StreamError, match=r"within -2\.\.1"):
        session.run(np.array([[1, 1], [0, 1], [5, 0]], np.float32))
    assert bytes(session.snapshot()) == before
