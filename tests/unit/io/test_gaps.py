"""Duplicates, disorder and gaps by policy; every sample is accounted for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.gaps import ON_GAP, GapFilter, GapPolicy
from edgelstm.io.rate import RateCheck
from tests.unit.io.simulated_sensors import make_block


def clean(n: int, rate_hz: float = 100.0) -> Block:
    """Evenly sampled ramp: the value of a sample is its time."""
    stamps = np.arange(n) / rate_hz
    return make_block(stamps, x=stamps[:, None].astype(np.float32))


def fed(stage: GapFilter, block: Block, size: int = 7) -> Block:
    out: list[Block] = []
    for start in range(0, len(block), size):
        out += stage.feed(block.part(slice(start, start + size)))
        assert stage.tally.is_balanced
    return join_blocks([*out, *stage.finish(), block.part(slice(0, 0))])


def same(one: Block, other: Block) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "stamps")
        for name in ("stamps", "arrival", "sequence", "flags")
    ) and all(np.array_equal(v, other.frames[k], equal_nan=True) for k, v in one.frames.items())


def policy(on_gap: Any, **options: Any) -> GapPolicy:
    return GapPolicy(100.0, on_gap, **options)


@pytest.mark.parametrize("on_gap", ON_GAP)
def test_a_clean_stream_passes_as_it_is(on_gap: str) -> None:
    """No policy touches samples that are all there."""
    stage = GapFilter(policy(on_gap))
    assert same(fed(stage, clean(100)), clean(100))
    assert stage.tally.rows() == [("in", 100), ("fed", 100)]


def test_hold_repeats_the_last_sample() -> None:
    """Three missing samples become three flagged copies, evenly in between, without a number."""
    block = clean(20).at(np.r_[0:8, 11:20])
    stage = GapFilter(policy("hold"))
    out = fed(stage, block)
    assert out.sequence.tolist() == [*range(8), -1, -1, -1, *range(11, 20)]
    np.testing.assert_allclose(out.stamps, np.arange(20) / 100)
    assert out.frames["x"][8:11, 0].tolist() == [block.frames["x"][7, 0]] * 3
    assert out.flags[8:11].tolist() == [int(SampleFlag.HELD)] * 3
    assert stage.tally.filled == 3
    assert stage.tally.noted["gaps"] == 1


def test_interpolate_draws_a_line() -> None:
    """The ramp is whole again."""
    block = clean(20).at(np.r_[0:8, 11:20])
    out = fed(GapFilter(policy("interpolate")), block)
    np.testing.assert_allclose(out.frames["x"], clean(20).frames["x"], atol=1e-7)
    assert out.flags[8:11].tolist() == [int(SampleFlag.INTERPOLATED)] * 3


def test_nothing_is_interpolated_from_an_invalid_sample() -> None:
    """What stands beside the gap and means nothing is not used: the last valid one is held."""
    block = clean(20).at(np.r_[0:8, 11:20])
    flags = block.flags.copy()
    flags[7] = SampleFlag.INVALID
    for size in (4, 8, 20):
        out = fed(GapFilter(policy("interpolate")), replace(block, flags=flags), size)
        assert out.frames["x"][8:11, 0].tolist() == [block.frames["x"][6, 0]] * 3
        assert out.flags[8:11].tolist() == [int(SampleFlag.HELD)] * 3


@pytest.mark.parametrize("on_gap", ["hold", "interpolate", "reset"])
def test_behind_a_long_gap_the_model_starts_afresh(on_gap: str) -> None:
    """Longer than the limit: nothing is made, and the first sample behind it says reset."""
    block = clean(400).at(np.r_[0:100, 300:400])
    stage = GapFilter(policy(on_gap, limit_s=1.0))
    out = fed(stage, block)
    assert len(out) == 200
    assert out.flags[100] == SampleFlag.AFTER_GAP | SampleFlag.RESET
    assert stage.tally.noted["resets"] == 1
    assert stage.tally.noted["missing samples"] == 200


def test_feed_changes_nothing_and_counts_all() -> None:
    """Gaps, disorder and jitter are counted; samples pass in their order."""
    order = np.r_[0:10, 12:20, 11, 20:30]
    block = clean(30).at(order)
    stage = GapFilter(policy("feed"))
    out = fed(stage, block)
    assert out.sequence.tolist() == order.tolist()
    assert not (out.flags & SampleFlag.RESET).any()
    assert stage.tally.noted["out of order"] == 1


def test_a_number_that_comes_again_is_a_duplicate() -> None:
    """A message that is delivered twice is fed once, whatever the policy."""
    block = clean(30).at(np.r_[0:20, 10:20, 20:30])
    for on_gap in ON_GAP:
        stage = GapFilter(policy(on_gap))
        assert fed(stage, block).sequence.tolist() == list(range(30))
        assert stage.tally.dropped == {"duplicate": 10}


def test_bursts_with_equal_stamps_are_no_duplicates() -> None:
    """Samples with the same stamp and other values are kept; with the same values dropped."""
    stamps = np.array([0.0, 0.01, 0.01, 0.01, 0.02])
    block = make_block(stamps, x=np.array([[1.0], [2.0], [3.0], [3.0], [4.0]], np.float32))
    stage = GapFilter(policy("hold"))
    assert fed(stage, block, 2).frames["x"][:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert stage.tally.dropped == {"duplicate": 1}
    assert stage.tally.noted["equal stamps"] == 1


def test_disorder_is_sorted_within_its_time_and_dropped_beyond() -> None:
    """50 ms of waiting bring samples in order that came 30 ms late; later ones are dropped."""
    order = np.r_[0:10, 13, 10, 11, 12, 14:40, 5, 40:60]
    block = clean(60).at(order)
    block = replace(block, sequence=np.arange(len(order)))
    stage = GapFilter(policy("hold", reorder_s=0.05))
    out = fed(stage, block)
    np.testing.assert_allclose(out.stamps, np.arange(60) / 100)
    assert stage.tally.dropped == {"late": 1}
    stage = GapFilter(policy("reset"))
    fed(stage, block)
    assert stage.tally.dropped == {"late": 4}


def test_missing_numbers_are_gaps_where_there_are_no_stamps() -> None:
    """The sensor's own numbering tells what is missing."""
    block = clean(20).at(np.r_[0:8, 11:20])
    block = replace(block, stamps=np.full(len(block), np.nan))
    stage = GapFilter(policy("hold"))
    assert len(fed(stage, block)) == 20
    assert stage.tally.filled == 3


def test_numbers_that_go_back_and_forth_leave_no_gap() -> None:
    """Missing is what no number up to there was."""
    block = clean(9).at(np.array([0, 2, 1, 3]))
    block = replace(block, stamps=np.full(len(block), np.nan))
    stage = GapFilter(policy("hold"))
    fed(stage, block, 2)
    assert stage.tally.filled == 1


def test_samples_without_stamps_between_others_make_no_gap() -> None:
    """The stamps around them are as far apart as there are samples."""
    stamps = np.arange(60) / 100
    stamps[10:20] = np.nan
    stage = GapFilter(policy("hold"))
    fed(stage, replace(clean(60), stamps=stamps))
    assert stage.tally.filled == 0


@st.composite
def damaged(draw: st.DrawFn) -> Block:
    """A stream with losses, repetitions, disorder, jitter, and stamps and samples that are bad."""
    n = draw(st.integers(1, 60))
    order = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=80))
    block = clean(n).at(np.sort(order) if draw(st.booleans()) else np.array(order))
    if draw(st.booleans()):
        block = replace(block, sequence=np.arange(len(block)))
    shaken = np.array(draw(st.lists(st.sampled_from([0, 0, 0.004, -0.004, np.nan]), min_size=1)))
    flags = np.array(draw(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=1)), np.uint8)
    return replace(
        block,
        stamps=block.stamps + np.resize(shaken, len(block)),
        flags=np.resize(flags, len(block)),
    )


@given(
    damaged(),
    st.sampled_from(ON_GAP),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.sampled_from([0.0, 0.03]),
    st.integers(1, 80),
)
def test_counts_conserve_and_blocks_do_not_matter(
    block: Block, on_gap: Any, limit_s: float, reorder_s: float, size: int
) -> None:
    """In = fed + dropped, out = fed + filled, and any chunking gives the same samples."""
    rules = policy(on_gap, limit_s=limit_s, reorder_s=reorder_s)
    stage = GapFilter(rules)
    out = fed(stage, block, size)
    tally = stage.tally
    assert tally.waiting == 0
    assert tally.seen == len(block) == tally.fed + tally.dropped.total()
    assert len(out) == tally.fed + tally.filled
    real = out.sequence[(out.flags & (SampleFlag.HELD | SampleFlag.INTERPOLATED)) == 0]
    assert len(set(real.tolist())) == len(real)
    whole = GapFilter(rules)
    assert same(fed(whole, block, len(block)), out)
    assert whole.tally == tally
    if on_gap != "feed":
        known = out.stamps[np.isfinite(out.stamps)]
        assert (np.diff(known) >= 0).all()


@settings(max_examples=20)
@given(damaged(), st.sampled_from(["hold", "interpolate", "reset"]))
def test_what_was_filtered_is_clean(block: Block, on_gap: Any) -> None:
    """A second filter drops nothing more."""
    out = fed(GapFilter(policy(on_gap)), block)
    again = GapFilter(policy(on_gap))
    fed(again, out)
    assert not again.tally.dropped.total()


def test_a_rate_that_the_stamps_contradict_is_said_once() -> None:
    """110.2 Hz in bursts of whole milliseconds is recognized, and 100 Hz is believed."""
    stamps = np.round(np.repeat(np.arange(400) * 4, 4) / 110.2, 3)
    check = RateCheck(100.0, "phone")
    said = [text for k in range(16) for text in check.see(make_block(stamps[k * 100 :][:100]))]
    assert len(said) == 1
    assert re.search(r"show 1[01][0-9]\.\d* Hz", said[0])
    assert RateCheck(108.0, "phone").see(make_block(stamps)) == []


@pytest.mark.parametrize(
    "options", [{"on_gap": "guess"}, {"limit_s": -1.0}, {"limit_s": float("nan")}, {"rate_hz": 0.0}]
)
def test_a_policy_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    """A programmer's mistake is an error at once."""
    with pytest.raises(ValueError, match=r"on_gap|duration|rate"):
        GapPolicy(**{"rate_hz": 100.0, **options})
