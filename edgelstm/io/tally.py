"""What became of the samples that a stage was given: counted, so that none is lost unseen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of one stage; at any moment `seen == fed + dropped + waiting`.

    What a stage hands on is `fed + filled`.

    Args:
        seen: samples that came in.
        fed: of these, how many were handed on.
        waiting: of these, how many the stage still holds.
        dropped: of these, how many ended here, by reason.
        filled: samples that the stage made itself.
        noted: what is worth knowing and changed nothing, by name.
    """

    seen: int = 0
    fed: int = 0
    waiting: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    noted: Counter[str] = field(default_factory=Counter)

    @property
    def is_balanced(self) -> bool:
        """Whether every sample is accounted for."""
        return self.seen == self.fed + self.waiting + self.dropped.total()

    def rows(self) -> list[tuple[str, int]]:
        """Name and count of everything that is not 0, for a table."""
        rows = [("in", self.seen), ("fed", self.fed), ("waiting", self.waiting)]
        rows += [(f"dropped: {reason}", count) for reason, count in self.dropped.items()]
        rows += [("filled", self.filled), *self.noted.items()]
        return [(name, count) for name, count in rows if count]
