"""Stages that count for themselves, in the one table of their stream."""

from __future__ import annotations

from collections import Counter

from edgelstm.io.block import Block
from edgelstm.io.counters import Counters
from edgelstm.io.stage import Stage
from edgelstm.io.tally import Tally


class CountedStage:
    """A stage whose tally goes into the counters of its stream.

    Args:
        stage: that counts in `tally`.
        tally: of the stage.
        counters: of the stream; what comes in is no longer waiting there, what goes out is not
            counted here.
        used: reason under which samples end that a stage used up for others; None where it hands
            on what it was fed.
    """

    def __init__(
        self, stage: Stage, tally: Tally, counters: Counters, used: str | None = None
    ) -> None:
        self._stage = stage
        self._tally = tally
        self._counters = counters
        self._used = used
        self._told = Tally()

    def feed(self, block: Block) -> list[Block]:
        """As the stage."""
        done = self._stage.feed(block)
        self.tell(done)
        return done

    def finish(self) -> list[Block]:
        """As the stage."""
        done = self._stage.finish()
        self.tell(done)
        return done

    def tell(self, done: list[Block]) -> None:
        """Bring the counters up to date, after the stage gave these blocks."""
        tally, told, counters = self._tally, self._told, self._counters
        counters.waiting += tally.waiting - told.waiting
        counters.dropped.update(tally.dropped - told.dropped)
        counters.noted.update(tally.noted - told.noted)
        if self._used is None:
            counters.filled += tally.filled - told.filled
        else:
            counters.drop(self._used, tally.fed - told.fed)
            counters.filled += sum(map(len, done))
        self._told = Tally(
            tally.seen,
            tally.fed,
            tally.waiting,
            Counter(tally.dropped),
            tally.filled,
            Counter(tally.noted),
        )
