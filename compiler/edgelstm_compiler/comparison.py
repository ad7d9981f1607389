"""How far two tensors are apart, and what rounding in float32 alone explains of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType, is_floating
from edgelstm_compiler.ir.types import Array

TOLERANCE = 1e-5
"""Largest error, relative to the largest expected value where that exceeds 1."""

_SMALLEST_NORMAL = {
    DType.F64: 2.0**-1022,
    DType.F32: 2.0**-126,
    DType.F16: 2.0**-14,
    DType.BF16: 2.0**-126,
}

OURS = 4.0
"""How many noise floors an engine may be from float64."""

PEERS = 64.0
"""Beyond so many noise floors a peer does not compute the same function."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of an output with what another engine says of it.

    Args:
        error: against `judge`, see `relative_error`.
        limit: what was allowed.
        by: "peer", or "float64" where the peer differed by more than the tolerance.
        reason: what is wrong, or "".
    """

    error: float
    limit: float
    by: str = "peer"
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the output is what it should be."""
        return not self.reason


def absolute_error(actual: Array, expected: Array) -> Array:
    """|actual - expected| by element: 0 where both are NaN, or infinite with one sign."""
    found, wanted = actual.astype(np.float64), expected.astype(np.float64)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(found - wanted))
    return np.asarray(np.where(np.isnan(difference), np.inf, difference))


def scale_of(expected: Array) -> float:
    """The largest finite magnitude, at least 1: what errors are relative to."""
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    return max(1.0, float(finite.max(initial=0.0)))


def own_error(actual: Array, expected: Array) -> float:
    """Largest absolute difference over the largest magnitude, however small: of one code twice."""
    if expected.size == 0:
        return 0.0
    return float(absolute_error(actual, expected).max()) / own_scale(expected)


def own_scale(expected: Array) -> float:
    """The largest finite magnitude, or the smallest normal float32 where that is less."""
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    return max(float(finite.max(initial=0.0)), float(np.finfo(np.float32).tiny))


def last_places(actual: Array, expected: Array) -> float:
    """Largest difference in units of the last place that the expected number has in our type."""
    smallest = _SMALLEST_NORMAL[DType.from_numpy(actual.dtype)]
    largest = DType.from_numpy(actual.dtype).largest
    near = np.clip(np.abs(expected), smallest, largest).astype(actual.dtype)
    units = np.spacing(near).astype(np.float64)
    return float((absolute_error(actual, expected) / units).max(initial=0.0))


def relative_error(actual: Array, expected: Array) -> float:
    """Largest absolute difference, over the largest expected magnitude where that exceeds 1.

    NaN equals NaN, infinities of one sign are equal; integers are equal, or infinitely far apart.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if not is_floating(expected.dtype):
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    if expected.size == 0:
        return 0.0
    return float(absolute_error(actual, expected).max() / scale_of(expected))


def judge(
    actual: Array,
    peer: Array,
    exact: Callable[[], Array],
    noise: Callable[[], float],
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Whether an output is right, given another float32 engine's.

    Where the two differ by more than the tolerance, both are compared with float64: ours may be as
    far from it as the peer is, or `OURS` noise floors. A peer beyond `PEERS` floors computes
    another function than the float64 evaluation, which then proves nothing.

    Args:
        actual: ours.
        peer: the other engine's.
        exact: gives the float64 value.
        noise: gives the relative error that float32 arithmetic has there.
        tolerance: up to which the peer's word is enough.
    """
    error = relative_error(actual, peer)
    if error <= tolerance:
        return Verdict(error, tolerance)
    wanted, floor = exact(), noise()
    distance = relative_error(peer, wanted)
    if not distance <= max(tolerance, PEERS * floor):
        return Verdict(error, tolerance, reason="differs")
    ours = relative_error(actual, wanted)
    limit = max(tolerance, OURS * floor, distance)
    return Verdict(ours, limit, "float64", "" if ours <= limit else "differs")
