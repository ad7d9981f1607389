"""What counts as equal, and who decides between two float32 engines."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm_compiler.comparison import judge, relative_error
from edgelstm_compiler.verification import compare_rows

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("found", "wanted", "equal"),
    [
        ([NAN, 1.0], [NAN, 1.0], True),
        ([INF, -INF], [INF, -INF], True),
        ([INF], [-INF], False),
        ([NAN], [1.0], False),
        ([1.0], [NAN], False),
        ([INF], [1.0], False),
        ([1.0], [INF], False),
    ],
)
def test_what_is_not_finite(found: list[float], wanted: list[float], equal: bool) -> None:
    """NaN equals NaN, infinities of one sign are equal, nothing else of them is."""
    a, b = (np.array(x, np.float32) for x in (found, wanted))
    assert (relative_error(a, b) == 0.0) is equal
    assert compare_rows("y", a, b, 1e-5).passed is equal


@pytest.mark.parametrize(
    ("actual", "peer", "noise", "passed"),
    [
        (1.0, 1.000001, 1e-7, True),  # they agree
        (1.00002, 0.99996, 1e-5, True),  # nearer to float64 than the peer is
        (1.00015, 1.0001, 1e-4, True),  # within four floors
        (1.00015, 1.00004, 1e-5, False),  # farther than the peer, and than four floors
        (1.0, 1.1, 1e-7, False),  # the peer computes something else: float64 proves nothing
        (NAN, 1.0, 1e-7, False),
    ],
)
def test_float64_decides(actual: float, peer: float, noise: float, passed: bool) -> None:
    """Ours may be as far from float64 as a sound peer is, or four noise floors."""
    verdict = judge(
        np.array([actual], np.float32),
        np.array([peer], np.float32),
        lambda: np.array([1.0]),
        lambda: noise,
    )
    assert verdict.passed is passed
