"""Outputs row by row to phases, repetitions, exercises and alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import RecordingError
from edgelstm.io.decoding.decoder import DecodedRows, Decoder
from edgelstm.io.decoding.events import (
    ALARM,
    ALARM_ACKNOWLEDGED,
    ALARM_ENDS,
    PHASE_BEGINS,
    PHASE_ENDS,
    REPETITION,
    SPAN,
    Decoded,
)
from edgelstm.io.decoding.recipe import Recipe, recipe_of
from edgelstm.io.toml_table import parse_toml

LABELS = ("rest", "down", "up")
RATE_HZ = 100.0


def recipe(text: str) -> Recipe:
    return recipe_of(parse_toml(text, "decode.toml"))


def decoder(text: str) -> Decoder:
    return Decoder(recipe(text), {"phase": LABELS}, RATE_HZ)


def scores(*stretches: tuple[str, float], sure: float = 0.9) -> np.ndarray[Any, Any]:
    """Probabilities of stretches of a label, each so many seconds long."""
    rows = []
    for label, seconds in stretches:
        row = np.full(len(LABELS), (1 - sure) / (len(LABELS) - 1))
        row[LABELS.index(label)] = sure
        rows += [row] * round(seconds * RATE_HZ)
    return np.array(rows)


def decoded(
    stage: Decoder, rows: np.ndarray[Any, Any], size: int = 17, **given_: Any
) -> DecodedRows:
    times = np.arange(len(rows)) / RATE_HZ
    valid = given_.get("valid", np.ones(len(rows), np.bool_))
    parts = []
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        parts.append(stage.feed(rows[part], times[part], np.arange(len(rows))[part], valid[part]))
    parts.append(stage.finish())
    return DecodedRows(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(event for part in parts for event in part.events),
    )


def of_kind(kind: str, found: DecodedRows) -> list[Decoded]:
    return [event for event in found.events if event.kind == kind]


WAYS = {
    "path": "[phases]\nminimum_s = 0.2",
    "order": '[phases]\nminimum_s = 0.2\norder = ["rest", "down", "up"]',
    "hysteresis": "[hysteresis]\nenter = 0.6\nleave = 0.5\n[phases]\nminimum_s = 0.2",
    "mean": '[smoothing]\nkind = "mean"\nseconds = 0.1\n[phases]\nminimum_s = 0.2',
    "median": '[smoothing]\nkind = "median"\nseconds = 0.1\n[phases]\nminimum_s = 0.2',
    "vote": '[smoothing]\nkind = "vote"\nseconds = 0.1\n[phases]\nminimum_s = 0.2',
}


@pytest.mark.parametrize("way", WAYS)
def test_phases_begin_and_end_when_they_do(way: str) -> None:
    """Clear scores give their phases to the sample, by every way of deciding."""
    rows = scores(("rest", 1.0), ("down", 0.5), ("up", 0.7), ("rest", 1.0))
    found = decoded(decoder(WAYS[way]), rows)
    begins = [(event.name, round(event.time, 2)) for event in of_kind(PHASE_BEGINS, found)]
    assert begins == [("rest", 0.0), ("down", 1.0), ("up", 1.5), ("rest", 2.2)]
    ends = [
        (event.name, round(event.data["duration_s"], 2)) for event in of_kind(PHASE_ENDS, found)
    ]
    assert ends == [("rest", 1.0), ("down", 0.5), ("up", 0.7), ("rest", 0.99)]
    assert found.numbers.tolist() == list(range(len(rows)))


@pytest.mark.parametrize("way", WAYS)
def test_flicker_is_no_phase(way: str) -> None:
    """A class that is told for less than the shortest duration is not."""
    rows = scores(("rest", 1.0), ("up", 0.07), ("rest", 1.0))
    assert [event.name for event in of_kind(PHASE_BEGINS, decoded(decoder(WAYS[way]), rows))] == [
        "rest"
    ]


def test_an_order_is_kept_where_scores_say_otherwise() -> None:
    """Half a second of a phase that cannot follow belongs to those that can."""
    text = '[phases]\nminimum_s = 0.2\norder = ["rest", "down", "up"]'
    rows = scores(("rest", 1.0), ("up", 0.25), ("down", 0.6), ("up", 0.6), ("rest", 1.0), sure=0.5)
    names = [event.name for event in of_kind(PHASE_BEGINS, decoded(decoder(text), rows))]
    assert names == ["rest", "down", "up", "rest"]


def test_the_time_of_a_begin_can_be_corrected() -> None:
    """A class that a model tells late begins as much earlier as it is said."""
    text = "[phases]\nminimum_s = 0.2\noffset_s = {down = -0.15}"
    found = decoded(decoder(text), scores(("rest", 1.0), ("down", 1.0)))
    assert of_kind(PHASE_BEGINS, found)[1].time == pytest.approx(0.85)
    assert of_kind(PHASE_ENDS, found)[0].data["duration_s"] == pytest.approx(0.85)


def test_repetitions_are_counted() -> None:
    """Two squats, and a down that no up followed."""
    text = '[phases]\nminimum_s = 0.1\n[[repetitions]]\nname = "squat"\ncycle = ["down", "up"]'
    squat = [("down", 0.5), ("up", 0.5), ("rest", 0.3)]
    stage = decoder(text)
    found = of_kind(
        REPETITION, decoded(stage, scores(*squat, ("down", 0.4), ("rest", 0.4), *squat))
    )
    assert [event.data["count"] for event in found] == [1, 2]
    assert found[0].data["duration_s"] == pytest.approx(1.0)
    assert stage.counts == {"squat": 2}


def test_a_repetition_is_scored_by_a_column_while_its_last_label_lasts() -> None:
    """The mean over UP of what was said; rows that say nothing do not count."""
    text = (
        'output = "phase"\n[phases]\nminimum_s = 0.1\n'
        '[[repetitions]]\nname = "squat"\ncycle = ["down", "up"]\nscore = "quality"'
    )
    rows = scores(("rest", 0.3), ("down", 0.5), ("up", 0.5), ("rest", 0.3))
    quality = np.linspace(0.0, 1.0, len(rows))
    valid = np.ones(len(rows), np.bool_)
    begin, end = round(0.8 * RATE_HZ), round(1.3 * RATE_HZ)
    valid[begin + 3] = False
    stage = Decoder(recipe(text), {"phase": LABELS, "quality": ("quality",)}, RATE_HZ)
    found = of_kind(REPETITION, decoded(stage, np.column_stack([rows, quality]), valid=valid))
    told = quality[begin : end + 1][valid[begin : end + 1]]
    assert found[0].data["score"] == pytest.approx(told.mean())
    assert found[0].text.endswith(f"score {told.mean():.3f}")


def test_a_span_measures_an_exercise_with_its_phases() -> None:
    """From the first to the last, however often the first came before."""
    text = '[phases]\nminimum_s = 0.1\n[[spans]]\nname = "squat"\nfirst = "down"\nlast = "up"'
    rows = scores(
        ("down", 0.5), ("rest", 0.2), ("down", 0.4), ("rest", 0.2), ("up", 0.6), ("rest", 1)
    )
    (span,) = of_kind(SPAN, decoded(decoder(text), rows))
    assert span.data["duration_s"] == pytest.approx(1.2)
    assert [name for name, _, _ in span.data["phases"]] == ["down", "rest", "up"]


ALARMS = """
[[alarms]]
name = "low"
column = "up"
above = 0.8
clear = 0.3
for_s = 0.2
acknowledge = true
"""


def test_an_alarm_is_raised_after_its_time_and_stays_until_it_is_clear_and_seen() -> None:
    """A limit passed for less is none; between the limit and clear it stays."""
    values = np.repeat([0.0, 0.9, 0.0, 0.9, 0.5, 0.1], [50, 10, 50, 50, 50, 50])
    rows = np.stack([1 - values, 0 * values, values], axis=1)
    stage = decoder(ALARMS)
    found = decoded(stage, rows)
    assert [(event.kind, round(event.time, 2)) for event in found.events] == [
        (ALARM, 1.3),
        (ALARM_ENDS, 2.1),
    ]
    assert stage.alarms["low"].is_shown
    (seen,) = stage.acknowledge("low", 5.0, "nurse")
    assert seen.kind == ALARM_ACKNOWLEDGED
    assert seen.data["by"] == "nurse"
    assert not stage.alarms["low"].is_shown
    assert stage.acknowledge("low", 6.0) == ()


def test_what_is_not_valid_says_nothing() -> None:
    """Rows of a silent sensor end no phase and no alarm, whatever they hold."""
    rows = np.concatenate(
        [scores(("rest", 1.0), ("down", 1.0)), scores(("up", 0.1)), scores(("down", 1))]
    )
    valid = np.ones(len(rows), np.bool_)
    valid[200:210] = False
    for way in WAYS.values():
        found = decoded(decoder(way), rows, valid=valid)
        if "order" not in way:
            assert [event.name for event in of_kind(PHASE_BEGINS, found)] == ["rest", "down"]


def test_exponential_smoothing_follows_without_looking_ahead() -> None:
    """After one time constant a step has come by 63 %."""
    stage = decoder(
        '[smoothing]\nkind = "exponential"\nseconds = 0.5\n' + ALARMS.replace("0.8", "0.6")
    )
    assert stage.delay_s == 0
    values = np.repeat([0.0, 1.0], [10, 200])
    found = decoded(stage, np.stack([1 - values, 0 * values, values], axis=1))
    assert found.events[0].data["since"] == pytest.approx(0.1 + 0.46, abs=0.02)


@given(st.integers(0, 99), st.integers(1, 120), st.sampled_from(sorted(WAYS)))
def test_decoding_does_not_depend_on_blocks(seed: int, size: int, way: str) -> None:
    """Noisy scores with rows that say nothing: the same labels and events in any blocks."""
    rng = np.random.default_rng(seed)
    text = (
        WAYS[way] + '\n[[repetitions]]\nname = "r"\ncycle = ["down", "up"]\nscore = "up"' + ALARMS
    )
    labels = [(LABELS[k], 0.1 + float(rng.random())) for k in rng.integers(0, 3, 4)]
    rows = np.abs(scores(*labels, sure=0.6) + rng.normal(0, 0.2, 3))
    rows /= rows.sum(axis=1, keepdims=True)
    valid = rng.random(len(rows)) > 0.1
    whole = decoded(decoder(text), rows, len(rows), valid=valid)
    parts = decoded(decoder(text), rows, size, valid=valid)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    assert parts.numbers.tolist() == list(range(len(rows)))
    assert sorted(map(repr, whole.events)) == sorted(map(repr, parts.events))


@pytest.mark.parametrize(
    ("text", "outputs", "message"),
    [
        ("[phases]\nminimum_s = {walk = 1}", {"phase": LABELS}, "phases.minimum_s names 'walk'"),
        ('output = "y"\n[phases]', {"phase": LABELS}, "names output 'y'"),
        ("[phases]", {"a": ("x",), "b": ("y", "z")}, "give output ="),
        ("[phases]", {"a": ("x",)}, "at least two"),
        ('labels = ["a"]\n[phases]', {"phase": LABELS}, "1 labels for output 'phase'"),
        (
            '[[repetitions]]\nname = "n"\ncycle = ["up"]\nscore = "q"',
            {"phase": LABELS},
            "scored by 'q'",
        ),
        ('[[alarms]]\nname = "n"\ncolumn = "q"\nabove = 1', {"phase": LABELS}, "looks at 'q'"),
    ],
)
def test_a_recipe_that_does_not_fit_the_model_is_refused(
    text: str, outputs: Any, message: str
) -> None:
    """What is named must be there."""
    with pytest.raises(RecordingError, match=message):
        Decoder(recipe(text), outputs, RATE_HZ)
