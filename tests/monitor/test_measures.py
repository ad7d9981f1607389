"""Measures of trials from decoded phases."""

from __future__ import annotations

import pytest

from edgelstm.io.decoding.events import PHASE_ENDS, REPETITION
from edgelstm.monitor.measures import TimedPhase, measures_of, role_of, timed_up_and_go


def _phases(*spans: tuple[str, float]) -> list[TimedPhase]:
    phases, at = [], 100.0
    for label, duration in spans:
        phases.append(TimedPhase(label, at, duration))
        at += duration
    return phases


TRIAL = (
    ("STANDING_UP", 1.5),
    ("WALKING", 4.0),
    ("TURNING", 1.2),
    ("WALKING", 3.8),
    ("TURNING", 1.0),
    ("SITTING_DOWN", 1.7),
)


def test_timed_up_and_go_is_measured_from_rise_to_seat() -> None:
    """Times of the same phase add up; sitting before and after is no part of it."""
    found = timed_up_and_go(_phases(("SEATED", 3.0), *TRIAL, ("SEATED", 2.0)))
    assert {each.name: each.value for each in found} == pytest.approx(
        {
            "total": 13.2,
            "sit_to_stand": 1.5,
            "walk": 7.8,
            "turn": 2.2,
            "sit_down": 1.7,
            "turns": 2.0,
        }
    )


def test_a_rise_that_fails_does_not_begin_the_trial() -> None:
    """The trial begins with the last time of standing up in front of the walk."""
    found = timed_up_and_go(_phases(("STANDING_UP", 1.0), ("SEATED", 5.0), *TRIAL))
    assert found[0].value == pytest.approx(13.2)


def test_standing_up_and_sitting_down_without_a_walk_is_no_trial() -> None:
    """That is another test."""
    assert timed_up_and_go(_phases(("STANDING_UP", 1.0), ("SITTING_DOWN", 1.0))) == []


def test_of_two_whole_trials_the_last_is_measured() -> None:
    """Whoever repeats within one recording means the repetition."""
    slow = [(label, 2 * duration) for label, duration in TRIAL]
    assert timed_up_and_go(_phases(*TRIAL, *slow))[0].value == pytest.approx(26.4)


@pytest.mark.parametrize(
    ("label", "role"),
    [
        ("Sit-to-Stand", "sit_to_stand"),
        ("stand up", "sit_to_stand"),
        ("GAIT", "walk"),
        ("LIFT", ""),
    ],
)
def test_labels_of_other_data_sets_have_roles(label: str, role: str) -> None:
    """Case, hyphens and spaces do not matter."""
    assert role_of(label) == role


def test_other_exercises_are_measured_by_label_and_repetition() -> None:
    """A model without walking gives times by label, a count and the mean time."""
    events = [
        (PHASE_ENDS, 1.0, {"name": "lift", "start": 0.0, "duration_s": 1.0}),
        (PHASE_ENDS, 2.5, {"name": "lift", "start": 1.5, "duration_s": 1.0}),
        (REPETITION, 2.5, {"name": "curl", "duration_s": 1.5}),
        (REPETITION, 4.0, {"name": "curl", "duration_s": 2.5}),
    ]
    assert {each.name: each.value for each in measures_of(events)} == pytest.approx(
        {"time_lift": 2.0, "repetitions": 2.0, "repetition_time": 2.0}
    )
