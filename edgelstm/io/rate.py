"""The rate that time stamps show, against the one that was said."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Block

ALONE = "give --rate {found:.4g}, or let --resample bring it to the model's rate"

SLACK = 0.05
"""Share by which a rate may be off: recurrent networks do not mind that much."""

_STRIDE = 50
"""Steps that are measured together: bursts and stamps in whole milliseconds even out."""

_ENOUGH = 20
"""Strides before anything is said."""

_KEPT = 200
_NEAR = 0.2


class RateCheck:
    """Compares stamps with a rate, and says so once where they contradict it.

    Args:
        rate_hz: that was said.
        name: of the source, for messages.
        advice: what to do; knows the rate as `found`.
    """

    def __init__(self, rate_hz: float, name: str, advice: str = ALONE) -> None:
        self.rate_hz = rate_hz
        self._name = name
        self._advice = advice
        self._strides: deque[float] = deque(maxlen=_KEPT)
        self._tail: NDArray[np.float64] = np.empty(0)
        self._has_spoken = False

    @property
    def found_hz(self) -> float | None:
        """The rate that the newest stamps show; None where there are too few."""
        if len(self._strides) < _ENOUGH:
            return None
        strides = np.array(self._strides)
        middle = np.median(strides)
        # Bursts shift time from one stride to the next, so the mean counts; gaps stay out of it.
        stride = float(np.mean(strides[np.abs(strides - middle) <= _NEAR * np.abs(middle)]))
        return _STRIDE / stride if stride > 0 else float("inf")

    def see(self, block: Block) -> list[str]:
        """What there is to say, after these samples."""
        is_known = np.isfinite(block.stamps)
        if not is_known.any():
            return []
        stamps = np.concatenate([self._tail, block.stamps[is_known]])
        whole = (len(stamps) - 1) // _STRIDE
        marks = stamps[: whole * _STRIDE + 1 : _STRIDE]
        self._strides.extend(np.diff(marks).tolist())
        self._tail = stamps[whole * _STRIDE :]
        found = self.found_hz
        if self._has_spoken or found is None or abs(found / self.rate_hz - 1) <= SLACK:
            return []
        self._has_spoken = True
        if not np.isfinite(found):
            return [f"the time stamps of {self._name} do not advance"]
        return [
            f"the time stamps of {self._name} show {found:.4g} Hz, the model is fed as if it were "
            f"{self.rate_hz:g} Hz: {self._advice.format(found=found)}"
        ]
