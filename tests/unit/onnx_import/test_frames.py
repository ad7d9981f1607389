"""Lines over the number of frames: what they say holds at every number of frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.onnx_import.frames import (
    TO_THE_END,
    Count,
    describe_counts,
    larger,
    product,
    sliced,
    smaller,
)

NUMBERS = st.integers(-40, 40)
COUNTS = st.builds(Count, NUMBERS, st.integers(-2, 3))
FRAMES = range(1, 121)


@given(COUNTS, COUNTS)
def test_the_smaller_is_the_smaller_at_every_number(a: Count, b: Count) -> None:
    """Where one of them always is, it is found."""
    found, other = smaller(a, b), larger(a, b)
    is_decided = all(a.at(t) <= b.at(t) for t in FRAMES) or all(b.at(t) <= a.at(t) for t in FRAMES)
    assert (found is not None) == (other is not None) == is_decided
    if found is not None and other is not None:
        assert all(found.at(t) == min(a.at(t), b.at(t)) for t in FRAMES)
        assert all(other.at(t) == max(a.at(t), b.at(t)) for t in FRAMES)


@given(COUNTS, COUNTS)
def test_a_quotient_is_exact_at_every_number(a: Count, b: Count) -> None:
    """Nothing is rounded."""
    found = a.over(b)
    if found is not None:
        assert all(found.at(t) * b.at(t) == a.at(t) for t in FRAMES)


@given(st.lists(COUNTS, max_size=3))
def test_a_product_is_a_line_or_nothing(counts: list[Count]) -> None:
    """Of two factors that grow it is none."""
    found = product(counts)
    for t in FRAMES if found is not None else ():
        expected = 1
        for count in counts:
            expected *= count.at(t)
        assert found is not None
        assert found.at(t) == expected


@given(COUNTS, COUNTS)
def test_a_slice_takes_what_python_takes(start: Count, end: Count) -> None:
    """Of an axis of T, at every number of frames; else it is undecided."""
    found = sliced(start, end, Count(1, 1))
    if found is None:
        return
    for t in FRAMES:
        taken = range(t)[start.at(t) : end.at(t)]
        assert list(range(found[0].at(t), found[1].at(t))) == list(taken)


@pytest.mark.parametrize("end", [TO_THE_END, 1 << 31, (1 << 63) - 1])
def test_bounds_that_mean_to_the_end(end: int) -> None:
    """Whatever exporters write for it."""
    assert sliced(Count(-1), Count(end), Count(1, 1)) == (Count(0, 1), Count(1, 1))
    assert sliced(Count(-end), Count(end), Count(1, 1)) == (Count(0), Count(1, 1))


def test_counts_in_messages() -> None:
    """The number of frames is T; nothing that was tried is shown."""
    counts = [Count(1, 1), Count(0, 1), Count(4, 2), Count(3), Count(4, -1), None]
    assert describe_counts(counts) == "(T, T-1, 2*T+2, 3, -T+5, ?)"
    assert describe_counts([Count(1, 1)]) == "(T,)"
