"""How much of what a prediction rests on was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import SampleFlag

QUALITY_SAMPLES = 64
"""Quality is the share of measured samples among so many."""

_MADE = np.uint8(
    SampleFlag.INVALID | SampleFlag.HELD | SampleFlag.INTERPOLATED | SampleFlag.OUT_OF_RANGE
)


class Quality:
    """Remembers which of the last samples of a stream were measured."""

    def __init__(self) -> None:
        self._recent = np.ones(0, np.bool_)
        self._is_good = True

    @property
    def recent(self) -> str:
        """The last samples, 1 for a measured one: what is kept with the state of a stream."""
        return "".join("1" if good else "0" for good in self._recent.tolist())

    def restore(self, recent: str) -> None:
        """Go on behind the samples of an earlier run."""
        self._recent = np.array([sign == "1" for sign in recent[-QUALITY_SAMPLES:]], np.bool_)
        self._is_good = bool(self._recent.all())

    def of(self, flags: NDArray[np.uint8], was_bad: NDArray[np.bool_]) -> NDArray[np.float32]:
        """For every sample the share of measured ones among the last ones."""
        if self._is_good and not flags.any() and not was_bad.any():
            return self._all_good(len(flags))
        is_made = ((flags & _MADE) != 0) | was_bad
        good = np.concatenate([self._recent, ~is_made])
        sums = np.concatenate([[0], np.cumsum(good)])
        ends = np.arange(len(self._recent) + 1, len(good) + 1)
        starts = np.maximum(ends - QUALITY_SAMPLES, 0)
        self._recent = good[-QUALITY_SAMPLES:]
        self._is_good = bool(self._recent.all())
        shares: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
        return shares.astype(np.float32)

    def _all_good(self, more: int) -> NDArray[np.float32]:
        """Further samples, all measured, behind such that all were."""
        n = min(len(self._recent) + more, QUALITY_SAMPLES)
        if n != len(self._recent):
            self._recent = np.ones(n, np.bool_)
        return np.ones(more, np.float32)
