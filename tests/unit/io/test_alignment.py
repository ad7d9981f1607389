"""Sensors at rates of their own give one stream at the model's ticks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.io.alignment import Alignment
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.low_pass import LowPass, design_low_pass
from tests.unit.io.simulated_sensors import make_block


def ramp(rate_hz: float, seconds: float, start: float, **names: float) -> Block:
    """Samples whose value is their time, times a factor by input."""
    stamps = start + np.arange(int(seconds * rate_hz)) / rate_hz
    frames = {name: (factor * stamps)[:, None].astype(np.float64) for name, factor in names.items()}
    return make_block(stamps, **frames)


def fed(stage: Alignment, size: int, **blocks: Block) -> Block:
    """All sensors' samples, in the order of their stamps up to a block of that many."""
    out: list[Block] = []
    places = [
        (block.stamps[min(start + size, len(block)) - 1], name, start)
        for name, block in blocks.items()
        for start in range(0, len(block), size)
    ]
    for _, name, start in sorted(places):
        out += stage.feed(name, blocks[name].part(slice(start, start + size)))
        assert stage.tally.is_balanced
    out += stage.finish()
    assert stage.tally.is_balanced
    return join_blocks(out)


def test_sensors_at_other_rates_meet_at_the_ticks() -> None:
    """Two ramps, sampled at 104 and 73 Hz, are ramps at 100 Hz, tick by tick."""
    stage = Alignment(100.0, {"phone": 104.0, "watch": 73.0})
    out = fed(stage, 9, phone=ramp(104.0, 5, 10.0031, a=1), watch=ramp(73.0, 5, 10.0, b=-2))
    np.testing.assert_allclose(out.stamps, out.sequence / 100)
    assert (np.diff(out.sequence) == 1).all()
    assert out.stamps[0] == pytest.approx(10.01)
    valid = (out.flags & SampleFlag.INVALID) == 0
    assert valid.sum() >= 497
    np.testing.assert_allclose(out.frames["a"][valid, 0], out.stamps[valid])
    np.testing.assert_allclose(out.frames["b"][valid, 0], -2 * out.stamps[valid])


def test_a_sensor_that_has_the_ticks_already_is_unchanged() -> None:
    """Samples at the ticks pass as they are, with ticks for numbers."""
    block = ramp(100.0, 3, 2.0, a=1)
    out = fed(Alignment(100.0, {"phone": 100.0}), 7, phone=block)
    np.testing.assert_array_equal(out.frames["a"], block.frames["a"])
    assert out.sequence.tolist() == list(range(200, 500))
    assert not out.flags.any()


def test_a_silent_sensor_is_invalid_and_not_stale() -> None:
    """While the watch says nothing its input is NaN; the phone goes on, the watch comes back."""
    watch = ramp(100.0, 10, 0.0, b=1)
    watch = watch.at(np.r_[0:300, 600:1000])
    stage = Alignment(100.0, {"phone": 100.0, "watch": 100.0})
    out = fed(stage, 5, phone=ramp(100.0, 10, 0.0, a=1), watch=watch)
    silent = (out.flags & SampleFlag.INVALID) > 0
    assert out.sequence[silent].tolist() == list(range(300, 600))
    assert np.isnan(out.frames["b"][silent]).all()
    assert np.isfinite(out.frames["a"]).all()
    assert stage.tally.noted["silent: watch"] == 300


def test_a_silent_sensor_holds_the_others_up_for_half_a_second_at_most() -> None:
    """Ticks come when the sensor is given up, or when time is said to go on."""
    stage = Alignment(100.0, {"phone": None, "watch": None})
    stage.feed("watch", ramp(100.0, 1, 0.0, b=1))
    out = stage.feed("phone", ramp(100.0, 2, 0.0, a=1))
    assert out[-1].stamps[-1] == pytest.approx(1.49)
    out = stage.advance(2.2)
    assert out[-1].stamps[-1] == pytest.approx(1.70)
    assert (out[-1].flags & SampleFlag.INVALID).all()


def test_a_sensor_that_never_began_makes_its_ticks_invalid() -> None:
    """The others are not waited for for ever."""
    blank = {"watch": {"b": np.empty((0, 3), np.float32)}}
    stage = Alignment(100.0, {"phone": None, "watch": None}, blank=blank)
    out = fed(stage, 10, phone=ramp(100.0, 2, 0.0, a=1))
    assert len(out) == 200
    assert (out.flags & SampleFlag.INVALID).all()
    assert np.isfinite(out.frames["a"]).all()
    assert np.isnan(out.frames["b"]).all()
    assert out.frames["b"].shape == (200, 3)


def test_integers_are_those_of_the_sample_before() -> None:
    """Nothing is mixed that has no middle."""
    stamps = np.arange(10) / 10
    block = make_block(stamps, n=np.arange(10)[:, None])
    out = fed(Alignment(20.0, {"button": None}), 3, button=block)
    assert out.frames["n"][:, 0].tolist() == [k // 2 for k in range(19)]


def test_what_happened_in_front_of_a_sample_is_told_once() -> None:
    """A reset comes through at the first tick behind it."""
    block = ramp(50.0, 2, 0.0, a=1)
    flags = block.flags.copy()
    flags[31] = SampleFlag.RESET | SampleFlag.AFTER_GAP
    for size in (1, 8, 100):
        out = fed(Alignment(100.0, {"p": None}), size, p=replace(block, flags=flags))
        assert np.flatnonzero(out.flags).tolist() == [62]


def test_a_fast_sensor_passes_a_low_pass() -> None:
    """What 50 Hz cannot hold does not fold into it; what it can hold stays, in its place."""
    pytest.importorskip("scipy")
    stamps = np.arange(4000) / 400
    wanted, folding = np.sin(2 * np.pi * 5 * stamps), np.sin(2 * np.pi * 45 * stamps)
    block = make_block(stamps, a=(wanted + folding)[:, None])
    stage = Alignment(50.0, {"emg": 400.0})
    out = fed(stage, 13, emg=block)
    middle = slice(50, 450)
    error = out.frames["a"][middle, 0] - np.sin(2 * np.pi * 5 * out.stamps[middle])
    assert np.abs(error).max() < 0.02
    assert stage.delay_s == pytest.approx(0.16)


@given(st.integers(1, 50), st.lists(st.integers(0, 199), max_size=4), st.booleans())
def test_a_low_pass_does_not_depend_on_blocks(size: int, cuts: list[int], has_nan: bool) -> None:
    """Bit for bit, with gaps and samples that mean nothing; every sample comes out once."""
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    kept = np.setdiff1d(
        np.arange(200), np.concatenate([np.arange(c, c + 20) for c in cuts] or [[]])
    )
    values = rng.standard_normal((200, 2)).astype(np.float32)
    if has_nan:
        values[120] = np.nan
    block = make_block(np.arange(200) / 100, x=values).at(kept)
    if not len(block):
        return
    taps = design_low_pass(100.0, 40.0)
    outs = []
    for width in (size, len(block)):
        stage, out = LowPass(taps, 100.0, 0.1), []
        for start in range(0, len(block), width):
            out += stage.feed(block.part(slice(start, start + width)))
        outs.append(join_blocks([*out, *stage.finish()]))
    np.testing.assert_array_equal(outs[0].frames["x"], outs[1].frames["x"])
    np.testing.assert_array_equal(outs[0].sequence, block.sequence)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3))
def test_ticks_do_not_depend_on_blocks(one: int, other: int, seed: int) -> None:
    """Uneven samples of two sensors, in any blocks: the same ticks, bit for bit."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, rate in (("phone", 90.0), ("watch", 60.0)):
        stamps = np.cumsum(rng.exponential(1 / rate, 150))
        blocks[name] = make_block(stamps, **{name: rng.standard_normal((150, 1))})
    first = fed(Alignment(50.0, dict.fromkeys(blocks)), one, **blocks)
    second = fed(Alignment(50.0, dict.fromkeys(blocks)), other, **blocks)
    np.testing.assert_array_equal(first.sequence, second.sequence)
    np.testing.assert_array_equal(first.flags, second.flags)
    for name in blocks:
        np.testing.assert_array_equal(first.frames[name], second.frames[name])
