"""How many steps one uninterrupted stretch of work may have, from how long steps take."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns

STRETCH_NS = 50_000_000
"""How long a stretch may take: a signal is answered only behind it."""

_FIRST = 1
_GROWTH = 8


class Pace:
    """Cuts many steps into stretches that take about the same time.

    Steps are timed as they are done, so that the first stretches are short and the later ones as
    long as they may be.
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps = _FIRST

    @property
    def steps(self) -> int:
        """Length of the next stretch."""
        return self._steps

    def stretches(self, n_steps: int) -> Iterator[slice]:
        """All steps in order; each stretch is to be done before the next one is asked for."""
        done = 0
        while done < n_steps:
            end = min(done + self._steps, n_steps)
            start = perf_counter_ns()
            yield slice(done, end)
            self._learn(end - done, perf_counter_ns() - start)
            done = end

    def _learn(self, steps: int, taken_ns: int) -> None:
        fitting = steps * STRETCH_NS // max(taken_ns, 1)
        # A short stretch says little about long ones; a slow one is to be believed at once.
        self._steps = max(1, min(fitting, max(self._steps, steps * _GROWTH)))
