"""The arena: what is needed at the same time never shares memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.lowering.memory import Life, align, plan_arena

LIVES = st.lists(
    st.builds(
        lambda nbytes, first, length: Life(nbytes, first, first + length),
        st.integers(1, 1000),
        st.integers(0, 10),
        st.integers(0, 5),
    ),
    max_size=20,
)


@given(LIVES)
def test_pieces_that_live_together_do_not_overlap(lives: list[Life]) -> None:
    """A piece lives from its first to its last call, both included."""
    offsets, size = plan_arena(lives)
    for i, a in enumerate(lives):
        assert offsets[i] % 64 == 0
        assert offsets[i] >= 0
        assert offsets[i] + a.nbytes <= size
        for j, b in enumerate(lives[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.nbytes <= offsets[j] or offsets[j] + b.nbytes <= offsets[i]


@given(LIVES)
def test_the_arena_is_between_its_bounds(lives: list[Life]) -> None:
    """Not more than all pieces beside each other, not less than those of one moment."""
    _, size = plan_arena(lives)
    assert size <= sum(align(life.nbytes) for life in lives)
    moments = range(20)
    most = max(
        sum(align(life.nbytes) for life in lives if life.first <= at <= life.last) for at in moments
    )
    assert size >= most


@given(LIVES)
def test_the_plan_is_the_same_every_time(lives: list[Life]) -> None:
    """Artifacts are byte-identical."""
    assert plan_arena(lives) == plan_arena(list(lives))


def test_pieces_that_follow_each_other_share_a_place() -> None:
    """A chain needs two at a time."""
    _, size = plan_arena([Life(64, at, at + 1) for at in range(10)])
    assert size == 128


def test_an_empty_plan_needs_nothing() -> None:
    """A program may have no scratch at all."""
    assert plan_arena([]) == ([], 0)


@pytest.mark.parametrize(("offset", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_align_rounds_up(offset: int, expected: int) -> None:
    """To 64 bytes unless told otherwise."""
    assert align(offset) == expected
    assert align(offset, 1) == offset
