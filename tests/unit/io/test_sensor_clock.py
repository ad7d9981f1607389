"""Samples of sensors with clocks of their own come out with this machine's time."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.clocks.line import ClockLine
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.clocks.sensor_clock import SensorClock
from tests.unit.io.simulated_sensors import (
    Simulated,
    feed_with_echo,
    make_block,
    round_trips,
    simulate,
)

SAMPLE_S = 0.01
"""One sample at 100 Hz."""

SECONDS = 86_400.0 if "EDGELSTM_WHOLE_DAY" in os.environ else 5_400.0
"""A simulated day takes a minute; the default goes beyond the span of a line several times."""


def fed(clock: SensorClock, block: Block, size: int = 20) -> Block:
    out: list[Block] = []
    for start in range(0, len(block), size):
        out += clock.feed(block.part(slice(start, start + size)))
    return join_blocks([*out, *clock.finish()])


def stepped(sent: Simulated, at: int, step_s: float) -> Block:
    stamps = sent.block.stamps.copy()
    stamps[at:] += step_s
    return replace(sent.block, stamps=stamps)


@pytest.mark.slow
def test_with_echo_two_clocks_150_ppm_apart_agree_within_a_sample_after_30_s() -> None:
    """And throughout; the transport delay, unlike on both, is not in the times."""
    errors = []
    for ppm, offset, delay, seed in ((75.0, 0.08, 0.012, 1), (-75.0, 0.0, 0.031, 2)):
        sent = simulate(SECONDS, 5, ppm, offset, delay, seed=seed)
        clock = SensorClock("wrist", has_echo=True)
        trips = round_trips(SECONDS, 1.0, ppm, offset, delay)
        out = join_blocks(list(feed_with_echo(clock, sent, trips, 20)))
        assert len(out) == len(sent.block)
        errors.append((out.stamps - sent.taken)[sent.taken > 1030.0])
        assert not clock.events
    assert max(np.abs(error).max() for error in errors) < SAMPLE_S
    assert np.abs(errors[0] - errors[1]).max() < SAMPLE_S


@pytest.mark.slow
def test_without_echo_the_drift_stays_within_a_sample() -> None:
    """Only the constant delay, here 12 ms, stays in the times, and the clock says so."""
    sent = simulate(SECONDS, 5, 150.0, 0.08, 0.012)
    clock = SensorClock("wrist")
    error = fed(clock, sent.block).stamps - sent.taken
    assert np.ptp(error) < SAMPLE_S
    assert np.median(error) == pytest.approx(0.012, abs=0.002)
    assert clock.drift_ppm == pytest.approx(-150, abs=2)
    assert "constant transport delay unknown" in clock.text()


def test_an_offset_takes_a_known_delay_out() -> None:
    """`--offset` is added to every time."""
    sent = simulate(60, 50, 20.0, 5.0, 0.040)
    clock = SensorClock("wrist", offset_s=-0.040)
    error = fed(clock, sent.block).stamps - sent.taken
    assert np.abs(error).max() < 0.003
    assert "-0.04 s" in clock.text()


def test_a_sensor_that_should_answer_and_does_not_is_said() -> None:
    """Its samples come all the same, after six seconds."""
    sent = simulate(20, 50, 20.0, 5.0, 0.040)
    clock = SensorClock("wrist", has_echo=True)
    assert len(fed(clock, sent.block)) == len(sent.block)
    assert [event.kind for event in clock.events] == ["no echo"]


def test_an_answer_that_contradicts_itself_is_no_point() -> None:
    """A round trip that took less than no time, or has no number, counts nothing."""
    assert RoundTrip(1.0, 5.0, 5.5, 1.4).point() is None
    assert RoundTrip(1.0, float("nan"), 5.5, 1.4).point() is None
    assert RoundTrip(1.0, 5.0, 5.1, 1.3).point() is not None


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 0.5, -0.5])
def test_a_clock_that_is_set_is_a_jump_and_the_times_go_on(step_s: float) -> None:
    """Forwards and backwards: one event with the size, one flag, and true times behind it."""
    sent = simulate(60, 100, 0.0, 0.0, 0.005)
    clock = SensorClock("phone")
    out = fed(clock, stepped(sent, 3000, step_s))
    assert [event.kind for event in clock.events] == ["jump"]
    assert clock.events[0].size_s == pytest.approx(-step_s, abs=0.01)
    assert np.count_nonzero(out.flags & SampleFlag.CLOCK_JUMP) == 1
    late = out.sequence >= 4500
    assert np.abs(out.stamps - sent.taken[out.sequence])[late].max() < 0.015
    assert clock.tally.is_balanced


def test_a_single_wrong_stamp_is_dropped_and_no_jump() -> None:
    """A garbled stamp moves no clock."""
    sent = simulate(20, 100, 0.0, 0.0, 0.005)
    stamps = sent.block.stamps.copy()
    stamps[1000] += 500.0
    stamps[1200] -= 500.0
    clock = SensorClock("phone")
    out = fed(clock, replace(sent.block, stamps=stamps))
    assert clock.tally.dropped == {"bad stamp": 2}
    assert not clock.events
    assert set(range(2000)) - set(out.sequence.tolist()) == {1000, 1200}


def test_a_stall_of_the_connection_moves_no_clock() -> None:
    """Three seconds of samples that come in one burst keep the times at which they were taken."""
    sent = simulate(60, 100, 0.0, 0.0, 0.005)
    arrival = sent.block.arrival.copy()
    stalled = (arrival > 1030.0) & (arrival < 1033.0)
    arrival[stalled] = 1033.0
    clock = SensorClock("phone")
    out = fed(clock, replace(sent.block, arrival=arrival))
    assert not clock.events
    assert np.abs(out.stamps - sent.taken - 0.005).max() < 0.003


def test_a_correction_is_slewed_by_at_most_500_ppm() -> None:
    """A delay that grows by 20 ms changes the times slowly, and is no jump."""
    sent = simulate(600, 20, 0.0, 0.0, 0.005, jitter_s=1e-6)
    arrival = sent.block.arrival + np.where(sent.taken > 1200.0, 0.020, 0.0)
    clock = SensorClock("phone")
    out = fed(clock, replace(sent.block, arrival=arrival))
    pace = np.diff(out.stamps) / np.diff(sent.taken) - 1
    assert np.abs(pace).max() < 501e-6
    assert not clock.events


def test_samples_without_stamps_are_counted() -> None:
    """A sensor that runs 2.4 % fast is followed by its number of samples."""
    sent = simulate(120, 102.4, 0.0, 0.0, 0.005, jitter_s=0.010)
    block = replace(sent.block, stamps=np.full(len(sent.block), np.nan))
    clock = SensorClock("serial", rate_hz=100.0)
    out = fed(clock, block)
    error = (out.stamps - sent.taken)[sent.taken > 1030]
    assert len(out) == len(block)
    assert np.abs(error - 0.005).max() < SAMPLE_S
    assert (np.diff(out.stamps) > 0).all()


def test_samples_without_stamps_and_without_a_rate_are_dropped_by_name() -> None:
    """Nothing is made up."""
    block = make_block(np.array([0.0, np.nan, 0.02]), arrival=np.array([1.0, 1.01, 1.02]))
    clock = SensorClock("serial")
    assert len(fed(clock, block)) == 2
    assert clock.tally.dropped == {"no stamp": 1}


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from([0.0, 40.0, -40.0, 0.2]),
)
def test_times_do_not_depend_on_how_samples_come_in_blocks(
    sizes: list[int], seed: int, step_s: float
) -> None:
    """Any chunking gives the same times, bit for bit; counts conserve, and time never goes back."""
    sent = simulate(25, 20, 120.0, 3.0, 0.010, seed=seed)
    block = stepped(sent, 250, step_s)
    whole = SensorClock("phone")
    expected = fed(whole, block, len(block))
    clock, out, start = SensorClock("phone"), [], 0
    while start < len(block):
        size = sizes[start % len(sizes)]
        out += clock.feed(block.part(slice(start, start + size)))
        assert clock.tally.is_balanced
        start += size
    found = join_blocks([*out, *clock.finish()])
    np.testing.assert_array_equal(found.stamps, expected.stamps)
    np.testing.assert_array_equal(found.sequence, expected.sequence)
    assert clock.tally == whole.tally
    assert clock.tally.is_balanced
    assert clock.tally.waiting == 0
    assert (np.diff(found.stamps) > 0).all()


def test_a_line_ignores_points_that_are_off() -> None:
    """One point in four that is late by a second changes nothing."""
    line = ClockLine(600.0, 500e-6)
    for k in range(200):
        line.add(2.0 * k, 5.0 + 100e-6 * 2.0 * k + (1.0 if k % 4 == 3 else 0.0))
    assert line.slope == pytest.approx(100e-6, abs=2e-6)
    assert float(line.at(398.0)) == pytest.approx(5.0398, abs=1e-3)
