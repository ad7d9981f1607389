"""The last stage in front of the model: every sample once, in order, none that is done already."""

from __future__ import annotations

import numpy as np

from edgelstm.io.block import Block
from edgelstm.io.counters import Counters

LATE = "repeated or late"
DONE_BEFORE = "done by an earlier run"


class Ordering:
    """Lets samples through whose number is higher than all before.

    A sample that was made has the number -1, and goes with the one that follows it in its block.

    Args:
        counters: of the stream.
        last: number of the last sample that an earlier run has dealt with; -1 for none.
    """

    def __init__(self, counters: Counters, last: int = -1) -> None:
        self._counters = counters
        self._last = last
        self._done = last

    @property
    def last(self) -> int:
        """Number of the last sample that came through."""
        return self._last

    def feed(self, block: Block) -> list[Block]:
        """What is new."""
        sequence = block.sequence
        n = len(sequence)
        if not n:
            return []
        if sequence[0] > self._last and (n == 1 or bool((np.diff(sequence) > 0).all())):
            self._last = int(sequence[-1])
            return [block]
        real = np.flatnonzero(sequence >= 0)
        numbers = sequence[real]
        before = np.concatenate([[self._last], np.maximum.accumulate(numbers)])[:-1]
        is_new = np.ones(n, np.bool_)
        is_new[real] = numbers > np.maximum(before, self._last)
        follower = np.searchsorted(real, np.arange(n))
        has_follower = follower < len(real)
        is_new[has_follower] = is_new[real[follower[has_follower]]]
        behind = (
            np.where(has_follower, numbers[np.minimum(follower, len(real) - 1)], -1)
            if (len(real))
            else np.full(n, -1)
        )
        done = int((~is_new & (behind <= self._done)).sum())
        self._counters.drop(DONE_BEFORE, done)
        self._counters.drop(LATE, n - int(is_new.sum()) - done)
        if not is_new.any():
            return []
        self._last = int(max(sequence[is_new].max(), self._last))
        return [block.at(is_new)]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []
