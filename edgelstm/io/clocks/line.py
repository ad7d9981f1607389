"""The straight line from a sensor's clock to this machine's, robust against points that are off.

Source: Theil 1950, Sen 1968: the median of the slopes of pairs of points
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_REFITS = 60
"""A line is fitted again when its span could have moved by one part in this."""


class ClockLine:
    """Correction of a sensor's clock, `this machine's time - the sensor's time`, as a line.

    Args:
        span_s: how far back points count.
        drift: largest slope that is believed, seconds a second.

    Units:
        x: seconds of the sensor's clock; corrections: seconds.
    """

    def __init__(self, span_s: float, drift: float) -> None:
        self._span = span_s
        self._drift = drift
        self._points: deque[tuple[float, float]] = deque()
        self._fitted_at = -np.inf
        self._origin = 0.0
        self._height = 0.0
        self.slope = 0.0

    def __len__(self) -> int:
        return len(self._points)

    def add(self, x: float, correction: float) -> None:
        """Take one more point; x grows from point to point."""
        self._points.append((x, correction))
        while self._points[0][0] < x - self._span:
            self._points.popleft()
        span = x - self._points[0][0]
        if x - self._fitted_at >= span / _REFITS or len(self._points) < 3:
            self._fit(x)

    def clear(self) -> None:
        """Forget all points; the line stays until the next one."""
        self._points.clear()
        self._fitted_at = -np.inf

    def at(self, x: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """The correction at sensor times."""
        return np.asarray(self._height + self.slope * (np.asarray(x) - self._origin))

    def _fit(self, x: float) -> None:
        table = np.array(self._points)
        self._fitted_at = self._origin = x
        times, heights = table[:, 0] - x, table[:, 1]
        if len(table) > 1:
            one, other = _pairs(len(table))
            apart = times[other] - times[one]
            slopes = (heights[other] - heights[one])[apart > 0] / apart[apart > 0]
            slope = float(np.median(slopes)) if len(slopes) else 0.0
            self.slope = float(np.clip(slope, -self._drift, self._drift))
        else:
            self.slope = 0.0
        self._height = float(np.median(heights - self.slope * times))


@lru_cache(maxsize=4)
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the pairs that are at least half of all points apart: the others tell little."""
    one, other = np.triu_indices(count, max(count // 2, 1))
    return one, other
