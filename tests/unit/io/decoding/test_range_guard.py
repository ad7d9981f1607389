"""Samples that are not like those the model was calibrated on are marked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.description import Column
from edgelstm.io.block import SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.decoding.range_guard import RangeGuard
from edgelstm.io.decoding.recipe import RangeRule
from tests.unit.io.simulated_sensors import make_block

COLUMNS = {"x": (Column("acc", "g", -2.0, 2.0), Column("gyro"))}


def marked(
    rule: RangeRule, values: list[list[float]], size: int = 3
) -> tuple[list[int], RangeGuard]:
    guard = RangeGuard(rule, COLUMNS, 100.0)
    block = make_block(np.arange(len(values)) / 100, x=np.array(values))
    parts = [block.part(slice(k, k + size)) for k in range(0, len(block), size)]
    out = join_blocks([each for part in parts for each in guard.feed(part)])
    assert guard.tally.is_balanced
    return np.flatnonzero(out.flags & SampleFlag.OUT_OF_RANGE).tolist(), guard


def test_a_value_beyond_its_range_and_some_slack_is_marked() -> None:
    """5 % of the range beyond it is near enough; a channel of unknown range is never outside."""
    rows = [[0.0, 1e9], [2.1, 0.0], [2.3, 0.0], [-2.3, 0.0], [1.0, -1e9]]
    found, guard = marked(RangeRule(slack=0.05, saturated_s=0), rows)
    assert found == [2, 3]
    assert guard.tally.noted["outside: acc"] == 2


def test_a_channel_at_the_end_of_its_range_is_clipped() -> None:
    """From the tenth sample at exactly the largest value on; rest at a small value is none."""
    rest = [[0.5, 0.0]] * 30
    top = [[1.9, 0.0]] * 15
    found, guard = marked(RangeRule(saturated_s=0.1), [*rest, *top, [0.1, 0.0]])
    assert found == list(range(39, 45))
    assert guard.tally.noted["clipped: acc"] == 6


def test_a_channel_that_never_changes_is_stuck() -> None:
    """Only where it is asked for."""
    rows = [[0.1 * (k % 3), 7.0] for k in range(30)]
    assert marked(RangeRule(saturated_s=0, stuck_s=0.2), rows)[0] == list(range(19, 30))
    assert marked(RangeRule(saturated_s=0), rows)[0] == []


@given(st.lists(st.sampled_from([0.0, 1.9, -1.9, 2.5, np.nan]), min_size=1), st.integers(1, 20))
def test_marks_do_not_depend_on_blocks(values: list[float], size: int) -> None:
    """Runs go on from block to block; NaN is never marked."""
    rows = [[value, 0.0] for value in values]
    rule = RangeRule(saturated_s=0.03, stuck_s=0.06)
    one, other = marked(rule, rows, size), marked(rule, rows, len(rows))
    assert one[0] == other[0]
    assert one[1].tally == other[1].tally
