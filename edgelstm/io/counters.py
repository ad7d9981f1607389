"""What became of the samples of a stream: one table, in which nothing is lost unseen."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts of one stream; at any moment `seen + filled == fed + dropped + waiting`.

    Args:
        seen: samples, and lines or messages that gave none, as they came in.
        fed: samples that went into the model, those that a stage or a policy made among them.
        filled: of these, how many were made: held, interpolated, resampled.
        waiting: samples in queues and stages.
        queued: those of them that came and that no stage has seen yet.
        arrived: monotonic clock when the last sample came; minus infinity before the first.
        dropped: samples that ended in front of the model, by reason.
        noted: what is worth knowing and changed nothing: reconnects, gaps, clock jumps.
        predictions: rows that sinks were given.
    """

    seen: int = 0
    fed: int = 0
    filled: int = 0
    waiting: int = 0
    queued: int = 0
    arrived: float = -math.inf
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    predictions: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether every sample is accounted for."""
        return self.seen + self.filled == self.fed + self.dropped.total() + self.waiting

    def silent_s(self, now: float) -> float:
        """How long nothing has come; 0 while samples wait, however old they are.

        Args:
            now: monotonic clock.
        """
        return 0.0 if self.queued else now - self.arrived

    def drop(self, reason: str, count: int = 1) -> None:
        """Samples that were seen and end here."""
        if count:
            self.dropped[reason] += count

    def note(self, what: str, count: int = 1) -> None:
        """Something that changed nothing."""
        if count:
            self.noted[what] += count

    def refuse(self, reason: str, count: int = 1) -> None:
        """Something that came in and is no sample: seen, and dropped at once."""
        self.seen += count
        self.drop(reason, count)

    def to_json(self) -> dict[str, Any]:
        """For summaries."""
        return {
            "in": self.seen,
            "fed": self.fed - self.filled,
            "filled": self.filled,
            "dropped": dict(self.dropped),
            "waiting": self.waiting,
            "predictions": self.predictions,
            "noted": dict(self.noted),
        }
