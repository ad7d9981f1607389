"""`Session.stats`: what lay beyond the range of integers, counted alike in NumPy and in code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm_compiler import compile_model
from tests.models import gru_model, lstm_model
from tests.quantized_models import recordings, step_graph

STATE = "lstm_1.h"
FEATURES = 19
"""A whole vector of 16 lanes, and a rest."""
NATIVE = {"cpu": "native"}
"""One instruction set is enough: this machine's."""


def _compiled(target: str, scheme: str) -> Artifact:
    model = lstm_model(hidden=8, features=FEATURES, steps=None)
    given = recordings(step_graph(model), frames=60)
    for each in given:
        each["X"][..., 4] += 100.0  # far from zero: an offset is taken off before
    return compile_model(
        model,
        target=target,
        target_options=NATIVE if target == "host" else None,
        quantize=scheme,
        calibration=given,
        check=False,
    )


@pytest.fixture(scope="module", params=["reference", "host"])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    """In int8-full, for both engines."""
    if request.param == "host":
        pytest.importorskip("tvm")
    return _compiled(request.param, "int8-full")


def _frames(artifact: Artifact, count: int) -> np.ndarray[Any, Any]:
    x = np.zeros((count, *artifact.signature.inputs[0].shape), np.float32)
    x[..., 4] = 100.0
    return x


def test_inputs_are_counted(artifact: Artifact) -> None:
    """Value by value, in steps and runs; what lies within the range is not."""
    session = artifact.session()
    x = _frames(artifact, 30)
    session.run(x)
    assert session.stats.saturated_inputs == {"X": 0}
    x[3], x[7, ..., 2], x[8, ..., FEATURES - 1] = 1e4, -1e4, 1e4
    session.run(x)
    assert session.stats.saturated_inputs == {"X": FEATURES + 2}
    session.step(x[7])
    session.reset()
    assert session.stats.saturated_inputs == {"X": FEATURES + 3}
    assert artifact.session().stats.saturated_inputs == {"X": 0}


def test_given_states_are_in_the_units_of_the_model(artifact: Artifact) -> None:
    """Floats are rounded to the state's scale, and counted beyond it; integers are as they are."""
    session = artifact.session()
    (spec,) = [each for each in artifact.signature.states if each.name == STATE]
    assert spec.scale == 2.0**-15
    session.set_state(STATE, 0.25)
    assert (session.get_state(STATE) == 8192).all()
    assert session.stats.saturated_states == {}
    values = np.linspace(-2.0, 2.0, 8)
    session.set_state(STATE, values)
    assert session.stats.saturated_states == {STATE: int((np.abs(values) > 1.0).sum())}
    found = session.get_state(STATE).ravel()
    assert (found[0], found[-1]) == (-32767, 32767)
    session.set_state(STATE, np.full(8, 77, np.int16))
    assert (session.get_state(STATE) == 77).all()
    with pytest.raises(StreamError, match="NaN and infinity"):
        session.set_state(STATE, np.nan)
    assert (session.get_state(STATE) == 77).all()


def test_who_counts_nothing_says_so() -> None:
    """Floats, and int8, which quantizes within its layers."""
    for scheme in ("w8", "int8"):
        session = _compiled("reference", scheme).session()
        assert session.stats.saturated_inputs is None
        assert session.stats.saturated_states == {}


def test_a_first_state_that_is_an_input() -> None:
    """Beyond what the recordings reached it is clamped and counted, under its name."""
    pytest.importorskip("tvm")
    model = gru_model(hidden=5, steps=6, initial_h="input")
    given = recordings(step_graph(model, "call"))
    for each in given:
        each["initial_h"] = np.linspace(-1.9, 1.9, 5, dtype=np.float32).reshape(1, 1, 5)
    counts = []
    for target in ("reference", "host"):
        made = compile_model(
            model,
            target=target,
            target_options=NATIVE if target == "host" else None,
            mode="call",
            quantize="int8-full",
            calibration=given,
            check=False,
        )
        session = made.session()
        session.call(given[0])
        within = session.stats.saturated_inputs
        session.call({**given[0], "initial_h": 2.0 * given[0]["initial_h"]})
        counts.append((within, session.stats.saturated_inputs))
    assert counts[0] == counts[1]
    within, beyond = counts[0]
    assert within is not None
    assert beyond is not None
    assert (within["initial_h"], beyond["initial_h"]) == (0, 2)
