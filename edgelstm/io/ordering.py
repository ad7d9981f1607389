"""The last stage in front of the model: every sample once, in order, none that is done already."""

from __future__ import annotations

import numpy as np

from edgelstm.io.block import Block
from edgelstm.io.counters import Counters

LATE = "repeated or late"
DONE_BEFORE = "done by an earlier run"


class Ordering:
    """Lets samples through whose number is higher than all before.

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
        before = np.concatenate([[self._last], np.maximum.accumulate(sequence)[:-1]])
        is_new = sequence > np.maximum(before, self._last)
        done = int((~is_new & (sequence <= self._done)).sum())
        self._counters.drop(DONE_BEFORE, done)
        self._counters.drop(LATE, n - int(is_new.sum()) - done)
        if not is_new.any():
            return []
        self._last = int(sequence[is_new].max())
        frames = {name: values[is_new] for name, values in block.frames.items()}
        return [
            Block(
                frames,
                block.stamps[is_new],
                block.arrival[is_new],
                sequence[is_new],
                block.flags[is_new],
            )
        ]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []
