"""`make soak` in small: a few thousand steps of made-up walks, in the reference engine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.soak.streams import Soak, soak


@pytest.fixture(scope="module")
def done() -> Soak:
    rng = np.random.default_rng(3)
    walks = [np.cumsum(rng.standard_normal((n, 3)) * 0.1, 0).astype(np.float32) for n in (300, 190)]
    return soak(6_000, walks, target="reference", long=1_500)


def test_nothing_is_lost_and_nothing_drifts(done: Soak) -> None:
    """Ends, snapshots, refused samples and gaps, each of them several times."""
    assert done.steps == 6_000
    assert done.did["stretches"] >= 4
    assert done.did["snapshots"] > 3
    assert done.did["refused samples"] > 3


def test_a_sample_that_counts_twice_is_noticed(done: Soak) -> None:
    """The comparison is one that can fail."""
    twice = Soak(done.artifact, done.oracle, np.random.default_rng(0))
    frames = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    twice.feed(frames)
    twice.session.step(frames[-1])
    with pytest.raises(AssertionError, match=r"lost or said twice|behind 40 samples"):
        twice.end()
    twice.session.close()
