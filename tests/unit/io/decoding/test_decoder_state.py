"""A decoder that goes on from what another one remembered decodes as if nothing had happened."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edgelstm.io.decoding.decoder import Decoder
from edgelstm.io.decoding.events import ALARM, ALARM_ENDS, REPETITION, SPAN, Decoded
from tests.unit.io.decoding.test_decoder import LABELS, RATE_HZ, WAYS, decoder, recipe

MORE = """
[[repetitions]]
name = "squat"
cycle = ["down", "up"]
score = "up"
[[spans]]
name = "whole"
first = "down"
last = "rest"
[[alarms]]
name = "steep"
column = "up"
above = 0.6
clear = 0.5
for_s = 0.05
acknowledge = true
"""
EVERY = {
    **WAYS,
    "exponential": '[smoothing]\nkind = "exponential"\nseconds = 0.1\n[phases]\nminimum_s = 0.2',
}


def a_walk(seed: int) -> np.ndarray[Any, Any]:
    """Probabilities that wander between the labels, with rows that say nothing."""
    rng = np.random.default_rng(seed)
    wave = 3 * np.cos(np.arange(900)[:, None] / 20 - np.arange(len(LABELS)) * 2.1)
    rows = np.exp(wave + rng.normal(0, 0.4, wave.shape))
    rows /= rows.sum(axis=1, keepdims=True)
    rows[rng.random(900) < 0.02] = np.nan
    return rows


def through(
    text: str, rows: np.ndarray[Any, Any], cuts: list[int], is_handed_on: bool
) -> list[Decoded]:
    """All events; at each cut another decoder takes over, by way of a text."""
    make = partial(decoder, text)
    stage = make()
    events: list[Decoded] = []
    for start, stop in pairwise([0, *cuts, len(rows)]):
        if start and is_handed_on:
            state = json.dumps(stage.state())
            stage = make()
            stage.restore(json.loads(state))
        at = np.arange(start, stop)
        valid = np.isfinite(rows[at]).all(axis=1)
        events += stage.feed(rows[at], at / RATE_HZ, at, valid).events
        if start < 450:
            events += stage.acknowledge("steep", 4.5, "nurse")
    return [*events, *stage.finish().events]


@pytest.mark.parametrize("way", EVERY)
def test_to_the_bit_wherever_it_is_cut(way: str) -> None:
    """Phases, repetitions, spans and alarms: the same events, the same numbers in them."""
    rng = np.random.default_rng(len(way))
    text, rows = EVERY[way] + MORE, a_walk(len(way))
    for _ in range(4):
        cuts = sorted({int(cut) for cut in rng.integers(1, len(rows), 6)})
        expected = through(text, rows, cuts, is_handed_on=False)
        assert {ALARM, ALARM_ENDS, REPETITION, SPAN} <= {event.kind for event in expected}
        assert through(text, rows, cuts, is_handed_on=True) == expected


def test_behind_the_end_of_a_stretch_too() -> None:
    """A run that ended well has said all; the next one goes on with counts and alarms."""
    make = lambda: decoder(EVERY["mean"] + MORE)  # noqa: E731
    rows = a_walk(1)
    stage = make()
    at = np.arange(500)
    stage.feed(rows[at], at / RATE_HZ, at, np.isfinite(rows[at]).all(axis=1))
    stage.finish()
    other = make()
    other.restore(json.loads(json.dumps(stage.state())))
    assert other.counts == stage.counts
    assert other.counts["squat"] > 0
    at = np.arange(500, 900)
    events = other.feed(rows[at], at / RATE_HZ, at, np.isfinite(rows[at]).all(axis=1)).events
    counts = [event.data["count"] for event in events if event.kind == REPETITION]
    assert counts[0] == stage.counts["squat"] + 1


def test_what_a_long_path_remembers_is_small() -> None:
    """It is written twice a second for each stream: a few kilobytes, not the whole table."""
    text = "[phases]\nminimum_s = 1.0\nlag_s = 2"
    stage = Decoder(recipe(text), {"phase": tuple("abcdefgh")}, RATE_HZ, ())
    rows = np.full((1000, 8), 1 / 8)
    stage.feed(rows, np.arange(1000) / RATE_HZ, np.arange(1000), np.ones(1000, np.bool_))
    assert len(json.dumps(stage.state())) < 30_000


@pytest.mark.parametrize(
    "state",
    [{}, {"own": {}, "parts": []}, {"own": {}, "parts": [{"_rows": {"odd": 1}}] * 6}, {"parts": 1}],
)
def test_what_is_no_state_is_refused(state: dict[str, Any]) -> None:
    """The store says it is damaged, see `Lane.resume`."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        decoder(EVERY["mean"] + MORE).restore(state)
