"""The course of one column, so that what ended a while ago can still be scored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LONGEST_S = 120.0
"""Of what lasted longer, the last two minutes are scored."""

_KEPT_S = LONGEST_S + 80.0
"""Decisions come at most a minute late, and beginnings are corrected by ten seconds at most."""


class ScoreCourse:
    """A column while a label lasts.

    Args:
        column: number of it among those of all outputs.
        label: that is scored.
        margin_s: how much earlier than decided it may begin.
    """

    STATE = ("_times", "_values")

    def __init__(self, column: int, label: str, margin_s: float) -> None:
        self.label = label
        self._column = column
        self._margin = margin_s
        self._times: Array = np.empty(0)
        self._values: Array = np.empty(0)

    def feed(self, times: Array, rows: Array) -> None:
        """Rows of all columns; NaN says nothing."""
        self._times = np.concatenate([self._times, times])
        self._values = np.concatenate([self._values, rows[:, self._column]])
        if len(times):
            self._keep_from(times[-1] - _KEPT_S)

    def forget(self, until: float) -> None:
        """Nothing that begins before is scored any more."""
        if math.isfinite(until):
            self._keep_from(until - self._margin)

    def mean(self, start: float, end: float) -> float:
        """The mean from one time to another; NaN where nothing was said."""
        start = max(start, end - LONGEST_S)
        low, high = np.searchsorted(self._times, (start, end), side="left")
        values = self._values[low : high + 1]
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else math.nan

    def _keep_from(self, time: float) -> None:
        first = int(np.searchsorted(self._times, time))
        if first:
            self._times, self._values = self._times[first:], self._values[first:]
