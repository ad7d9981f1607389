"""Latencies counted in buckets: quantiles of any number of them in little memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SMALLEST_S = 1e-6
_STEPS = 16
"""Buckets for each factor of two: a quantile is at most 4.5 % above the true one."""
_BUCKETS = 32 * _STEPS


class LatencyHistogram:
    """How often which latency occurred, from a microsecond to more than an hour."""

    __slots__ = ("_counts", "largest_s")

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.largest_s = 0.0

    def add(self, latencies_s: NDArray[np.float64]) -> None:
        """Count some; those below a microsecond count as one."""
        if latencies_s.size == 0:
            return
        places = np.ceil(_STEPS * np.log2(np.maximum(latencies_s, _SMALLEST_S) / _SMALLEST_S))
        places = np.minimum(places.astype(np.int64), _BUCKETS - 1)
        self._counts += np.bincount(places, minlength=_BUCKETS)
        self.largest_s = max(self.largest_s, float(latencies_s.max()))

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self._counts.sum())

    def quantile_s(self, part: float) -> float:
        """The latency that this part of all does not exceed; NaN where there is none."""
        total = self.total
        if total == 0:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(part * total)))
        return float(min(self.largest_s, _SMALLEST_S * 2.0 ** (place / _STEPS)))
