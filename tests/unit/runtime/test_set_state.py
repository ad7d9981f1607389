"""States of a session by name: read, set, and how that agrees with reset and snapshots."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm_compiler import compile_model
from tests.carried_models import CarriedCase, cells, packed_cells

STEPS = 5


def case_of(seed: int = 5) -> CarriedCase:
    return packed_cells(np.random.default_rng(seed))


@pytest.fixture(scope="module", params=["reference", pytest.param("host", marks=pytest.mark.tvm)])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    return compile_model(case_of().model, target=request.param, check=False)


def rows(artifact: Artifact, session: object, frames: np.ndarray) -> np.ndarray:
    shape = artifact.signature.inputs[0].shape
    return np.stack([np.array(session.step(frame.reshape(shape))) for frame in frames])  # type: ignore[attr-defined]


def test_a_state_that_is_set_is_what_onnx_runtime_would_begin_with(artifact: Artifact) -> None:
    """The next step computes from it."""
    case = case_of()
    (before,) = case.pairs
    (spec,) = artifact.signature.states
    start = np.random.default_rng(1).uniform(-1, 1, spec.shape).astype(np.float32)
    frames = case.frames(STEPS)
    begun = CarriedCase(case.kind, case.model, case.pairs, case.data, case.shown, {before: start})
    wanted = begun.replay(frames)[case.shown[0]]
    session = artifact.session()
    session.set_state(before, start)
    found = rows(artifact, session, frames["frame"])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=2e-6)


def test_what_was_set_is_read_back_and_reset_undoes_it(artifact: Artifact) -> None:
    """`get_state` gives a copy; `reset` goes back to the initial value."""
    session = artifact.session()
    name = artifact.signature.states[0].name
    before = session.get_state(name)
    session.set_state(name, 0.25)
    assert (session.get_state(name) == 0.25).all()
    session.get_state(name)[...] = 7.0
    assert (session.get_state(name) == 0.25).all()
    session.reset()
    np.testing.assert_array_equal(session.get_state(name), before)


def test_a_snapshot_holds_what_was_set(artifact: Artifact) -> None:
    """Another session goes on from there."""
    frames = case_of().frames(STEPS)["frame"]
    name = artifact.signature.states[0].name
    first, second = artifact.session(), artifact.session()
    first.set_state(name, -0.5)
    second.restore(first.snapshot())
    np.testing.assert_array_equal(rows(artifact, first, frames), rows(artifact, second, frames))


def test_the_state_after_a_step_is_the_models_own_output() -> None:
    """What is hidden is there to be read, in the shape of the model's input."""
    rng = np.random.default_rng(8)
    case = cells(rng)
    artifact = compile_model(case.model, target="reference", check=False)
    frames = case.frames(STEPS)
    wanted = case.replay(frames)
    session = artifact.session()
    spec = artifact.signature.inputs[0]
    for frame in frames[spec.name]:
        session.step(frame.reshape(spec.shape))
    for before, after in case.pairs.items():
        np.testing.assert_allclose(session.get_state(before), wanted[after][-1], atol=2e-6)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("nothing", 0.0, "no state 'nothing'"),
        (None, np.zeros((3, 3), np.float32), "expected shape"),
        (None, np.nan, "NaN"),
        (None, 1e30, "more than"),
        (None, "text", "text|str"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    artifact: Artifact, name: str | None, value: object, said: str
) -> None:
    """The message says what there is; the state is as before."""
    session = artifact.session()
    own = artifact.signature.states[0].name
    session.set_state(own, 0.125)
    with pytest.raises(StreamError, match=said):
        session.set_state(own if name is None else name, value)
    assert (session.get_state(own) == 0.125).all()


def test_a_closed_session_has_no_states(artifact: Artifact) -> None:
    """As for every other method."""
    session = artifact.session()
    session.close()
    with pytest.raises(StreamError, match="closed"):
        session.set_state(artifact.signature.states[0].name, 0.0)
