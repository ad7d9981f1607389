"""Points of a clock line: which moments tell most about how two clocks stand to each other.

Of the samples of two seconds it is the one with the smallest delay, since delays only add up; of
round trips it is the shortest one, since its way there and its way back differ least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BIN_S = 2.0
"""Seconds of which one point is taken."""


@dataclass(frozen=True, slots=True)
class Point:
    """One comparison of the clocks.

    Units:
        x: seconds of the sensor's clock; correction, weight: seconds.

    Args:
        x: when, by the sensor's clock.
        correction: this machine's time minus the sensor's.
        weight: what is to be small: the delay of a sample, or the time of a round trip.
    """

    x: float
    correction: float
    weight: float


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A question to a sensor and its answer, as in NTP.

    Units:
        seconds; sent and returned by this machine's monotonic clock, the others by the sensor's.

    Args:
        sent: when the question left.
        received: when the sensor had it.
        replied: when the sensor answered.
        returned: when the answer was here.
    """

    sent: float
    received: float
    replied: float
    returned: float

    def point(self) -> Point | None:
        """What it tells; None where its times contradict each other."""
        there = self.replied - self.received
        length = (self.returned - self.sent) - there
        numbers = (self.sent, self.received, self.replied, self.returned)
        if not all(map(math.isfinite, numbers)) or there < 0 or length < 0:
            return None
        x = (self.received + self.replied) / 2
        return Point(x, (self.sent + self.returned) / 2 - x, length)


class BinnedPoints:
    """The best point of every two seconds of this machine's clock."""

    def __init__(self) -> None:
        self.end: float | None = None
        self._best: Point | None = None

    def take(self) -> Point | None:
        """The point of the bin as it is now; the next one begins when something is seen."""
        best, self._best, self.end = self._best, None, None
        return best

    def see(self, arrival: float, point: Point) -> None:
        """A point of the bin that this moment is in."""
        if self.end is None:
            self.end = arrival + BIN_S
        if self._best is None or point.weight < self._best.weight:
            self._best = point


def best_of_samples(stamps: NDArray[np.float64], arrivals: NDArray[np.float64]) -> Point:
    """The sample with the smallest delay."""
    delays = arrivals - stamps
    k = int(np.argmin(delays))
    return Point(float(stamps[k]), float(delays[k]), float(delays[k]))
