"""A label that stays until another one is sure, and that a short flicker does not change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

UNKNOWN = -1
"""Class index of samples about which nothing is known."""


class Hysteresis:
    """The class of each sample: another takes over from `enter` on, if the old is below `leave`.

    Args:
        enter: score that a class needs to take over.
        leave: score at which the present class still stays.
    """

    STATE = ("_now",)

    def __init__(self, enter: float, leave: float) -> None:
        self._enter = enter
        self._leave = leave
        self._now = UNKNOWN

    def feed(self, scores: Array) -> Array:
        """Class indices of rows `(n, C)`; a row with NaN changes nothing."""
        found = np.empty(len(scores), np.intp)
        known = np.asarray(np.isfinite(scores).all(axis=1))
        best = np.where(known[:, None], scores, 0.0).argmax(axis=1)
        for i, candidate in enumerate(best.tolist()):
            if known[i] and candidate != self._now:
                is_sure = scores[i, candidate] >= self._enter
                is_free = self._now == UNKNOWN or scores[i, self._now] < self._leave
                if is_sure and is_free:
                    self._now = candidate
            found[i] = self._now
        return found


class Debounce:
    """Classes that last; what is shorter belongs to the class in front of it.

    A class that has lasted long enough counts from its first sample: decisions come `delay`
    samples later.

    Args:
        shortest: samples that each class lasts at least.
    """

    STATE = ("_now", "_waiting")

    def __init__(self, shortest: tuple[int, ...]) -> None:
        self._shortest = shortest
        self.delay = max(max(shortest, default=1) - 1, 0)
        self._now = UNKNOWN
        self._waiting: list[int] = []

    def feed(self, labels: Array) -> Array:
        """Class indices as they come; those that are decided now."""
        decided: list[int] = []
        for label in labels.tolist():
            if self._waiting and label != self._waiting[-1]:
                decided += [self._now] * len(self._waiting)
                self._waiting = []
            if label == self._now:
                decided.append(label)
                continue
            self._waiting.append(label)
            needed = self._shortest[label] if label != UNKNOWN else 1
            if len(self._waiting) >= needed or self._now == UNKNOWN:
                self._now = label
                decided += self._waiting
                self._waiting = []
        return np.array(decided, np.intp)

    def finish(self) -> Array:
        """What waited for more of its kind."""
        decided, self._waiting = [self._now] * len(self._waiting), []
        return np.array(decided, np.intp)
