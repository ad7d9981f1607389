"""What happened to every stream in a while, in one record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from edgelstm.io.predictions import Predictions
from edgelstm.io.sinks.records import records


@dataclass(slots=True)
class _Stream:
    count: int = 0
    valid: int = 0
    quality: float = 0.0
    first: int = 0
    last: Predictions | None = None
    labels: dict[str, int] = field(default_factory=dict)


class Summaries:
    """Collects predictions, and gives a record for each stream with some, every so often.

    Args:
        every_s: how often.
    """

    def __init__(self, every_s: float) -> None:
        self._every = every_s
        self._streams: dict[str, _Stream] = {}
        self._due = time.monotonic() + every_s

    def add(self, predictions: Predictions) -> None:
        """Take note of rows."""
        stream = self._streams.setdefault(predictions.stream, _Stream())
        if not stream.count:
            stream.first = int(predictions.sequence[0])
        stream.count += len(predictions)
        stream.valid += int(predictions.valid.sum())
        stream.quality += float(predictions.quality.sum())
        stream.last = predictions
        for names in predictions.labels.values():
            for name in names:
                stream.labels[name] = stream.labels.get(name, 0) + 1

    def due(self, is_end: bool = False) -> list[dict[str, Any]]:
        """The records, if it is time."""
        now = time.monotonic()
        if now < self._due and not is_end:
            return []
        self._due = max(self._due + self._every, now)
        found = [_record(stream) for stream in self._streams.values() if stream.count]
        self._streams.clear()
        return found


def _record(stream: _Stream) -> dict[str, Any]:
    last = stream.last
    assert last is not None
    n = len(last)
    newest = next(records(_row(last, n - 1)))
    return {
        **newest,
        "first_sample": stream.first,
        "samples": stream.count,
        "valid_share": round(stream.valid / stream.count, 4),
        "mean_quality": round(stream.quality / stream.count, 4),
        **({"labels": stream.labels} if stream.labels else {}),
    }


def _row(predictions: Predictions, i: int) -> Predictions:
    part = slice(i, i + 1)
    return Predictions(
        predictions.stream,
        predictions.model,
        predictions.sequence[part],
        predictions.time[part],
        predictions.stamps[part],
        predictions.arrival[part],
        predictions.flags[part],
        predictions.valid[part],
        predictions.quality[part],
        {name: values[part] for name, values in predictions.outputs.items()},
        {name: names[part] for name, names in predictions.labels.items()},
    )
