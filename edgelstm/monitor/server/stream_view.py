"""What a page knows about one stream: its last samples, its phase, its counts, its lights."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelstm.description import Description
from edgelstm.io.block import SampleFlag
from edgelstm.io.counters import Counters
from edgelstm.io.decoding.events import PHASE_BEGINS, PHASE_ENDS, REPETITION, SPAN
from edgelstm.io.predictions import Event, Field, ModelIdentity, Predictions
from edgelstm.monitor.server.lights import WINDOW_S, Light, lights_of
from edgelstm.monitor.server.wire_frames import Rows, joined, thinned
from edgelstm.monitor.trend import finite

Item = TypeVar("Item")

MOST_CHANNELS = 32
KEPT_S = 120.0
"""How much of a stream a page that opens can see."""

_KEPT_ROWS = 240_000
_MOST_FRESH = 64
"""Predictions, each of one row or more, that are laid in columns together."""

_LIGHTS_S = 0.5
_NOT_MEASURED = np.uint8(SampleFlag.INVALID | SampleFlag.HELD)


@dataclass(frozen=True, slots=True)
class Channel:
    """A signal that the model is fed."""

    name: str
    unit: str
    low: float | None = None
    high: float | None = None


def channels_of(model: ModelIdentity, description: Description) -> tuple[Channel, ...]:
    """The elements of all inputs, as far as a page shows them."""
    found: list[Channel] = []
    for name, shape, _ in model.inputs:
        columns = description.inputs.get(name)
        if columns:
            found += [Channel(x.name, x.unit, x.low, x.high) for x in columns]
        else:
            found += [Channel(each, "") for each in _elements((name, shape, ""))]
    return tuple(found[:MOST_CHANNELS])


def scores_of(model: ModelIdentity) -> tuple[str, ...]:
    """The elements of all outputs that are numbers, as far as a page shows them."""
    return tuple(x for each in model.outputs for x in _elements(each))[:MOST_CHANNELS]


def _elements(field_: Field) -> list[str]:
    name, shape, _ = field_
    size = math.prod(shape)
    return [name] if size == 1 else [f"{name}[{k}]" for k in range(size)]


@dataclass(slots=True)
class StreamView:
    """One stream; all calls come from the event loop.

    Args:
        name: of the stream.
        number: in messages.
        model: whose outputs are shown.
        channels: from `channels_of`.
        patient: pseudonym; "" for none.
    """

    name: str
    number: int
    model: ModelIdentity
    channels: tuple[Channel, ...]
    patient: str = ""
    label: str = ""
    phase: tuple[str, float] = ("", 0.0)
    is_decoded: bool = False
    repetitions: dict[str, int] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    lights: list[Light] = field(default_factory=list)
    trial: dict[str, Any] | None = None
    _score_names: tuple[str, ...] = field(init=False)
    _fresh: list[Predictions] = field(default_factory=list)
    _unsent: int = 0
    """How many of the kept parts, the last ones, are still to be sent."""
    _kept: deque[Rows] = field(default_factory=deque)
    _flags: deque[NDArray[np.bool_]] = field(default_factory=deque)
    _rows: int = 0
    _arrival: float = math.nan
    _last_time: float = math.nan
    _looked_at: float = -math.inf
    _latency_s: float = 0.0
    _quality: float = math.nan

    def __post_init__(self) -> None:
        self._score_names = scores_of(self.model)

    def add(self, predictions: Predictions) -> None:
        """Take rows."""
        self._fresh.append(predictions)
        if len(self._fresh) >= _MOST_FRESH:
            self._keep_fresh()
        self._arrival = float(predictions.arrival[-1])
        self._latency_s = max(time.monotonic() - self._arrival, self._latency_s)
        self._last_time = float(predictions.time[-1])
        self._quality = float(predictions.quality[-1])
        for labels in predictions.labels.values():
            if labels[-1] != self.label:
                self.label = labels[-1]
                if not self.is_decoded:
                    self.phase = (self.label, self._last_time)

    def _keep_fresh(self) -> None:
        """Lay what came in columns, and let go of what is too old."""
        if not self._fresh:
            return
        fresh, self._fresh = self._fresh, []
        rows = Rows(
            np.concatenate([each.time for each in fresh]),
            _columns([(each.inputs.values(), len(each)) for each in fresh], len(self.channels)),
            _columns(
                [(each.outputs.values(), len(each)) for each in fresh], len(self._score_names)
            ),
            np.concatenate([each.quality for each in fresh]),
        )
        self._kept.append(rows)
        self._unsent += 1
        flags = np.concatenate([each.flags for each in fresh])
        self._flags.append((flags & _NOT_MEASURED) == 0)
        self._rows += len(rows)
        while self._rows > _KEPT_ROWS or (
            len(self._kept) > 1 and rows.times[-1] - self._kept[0].times[-1] > KEPT_S
        ):
            self._rows -= len(self._kept.popleft())
            self._flags.popleft()

    def now(self) -> float:
        """The time of the stream, seconds since 1970: that of a recording is its own."""
        if math.isnan(self._last_time):
            return time.time()
        return self._last_time + time.monotonic() - self._arrival

    def see(self, event: Event) -> None:
        """Take an event of this stream."""
        name = str(event.data.get("name", ""))
        if event.kind == PHASE_BEGINS:
            self.is_decoded, self.phase = True, (name, event.time)
        elif event.kind == PHASE_ENDS and self.phase[0] == name:
            self.phase = ("", event.time)
        elif event.kind == REPETITION:
            self.repetitions[name] = int(event.data.get("count", 0))
            if "score" in event.data:
                self.scores[name] = float(event.data["score"])
        elif event.kind == SPAN:
            self.spans[name] = float(event.data.get("duration_s", math.nan))

    def backlog(self, most: int) -> Rows | None:
        """What a page that opens begins with; None where there is nothing."""
        kept = self.kept()
        return None if kept is None else thinned(kept, most)

    def kept(self) -> Rows | None:
        """Every row that is kept; None where there is none."""
        self._keep_fresh()
        return joined(list(self._kept)) if self._kept else None

    def take_unsent(self, most: int) -> Rows | None:
        """What came since the last time, as far as it is kept; None where nothing did."""
        self._keep_fresh()
        count, self._unsent = min(self._unsent, len(self._kept)), 0
        if not count:
            return None
        return thinned(joined(_newest(self._kept, count)), most)

    def state(self, counters: Counters | None) -> dict[str, Any]:
        """What changes slowly, for the page."""
        is_known = counters is not None and not math.isnan(self._arrival)
        silent = counters.silent_s(time.monotonic()) if counters and is_known else 0.0
        self._look(silent)
        latency, self._latency_s = self._latency_s, 0.0
        return {
            "phase": self.phase[0],
            "since": self.phase[1],
            "label": self.label,
            "repetitions": self.repetitions,
            "scores": {name: finite(value) for name, value in self.scores.items()},
            "spans": {name: finite(value) for name, value in self.spans.items()},
            "quality": finite(self._quality),
            "lights": [[x.level, x.reason, finite(x.value)] for x in self.lights],
            "latency_ms": round(1000 * latency, 2),
            "silent_s": round(silent, 2),
            "samples": 0 if counters is None else counters.seen,
            "dropped": {} if counters is None else dict(counters.dropped),
            "trial": self.trial,
        }

    def describe(self) -> dict[str, Any]:
        """What stays, for the page."""
        return {
            "name": self.name,
            "number": self.number,
            "patient": self.patient,
            "channels": [{"name": x.name, "unit": x.unit} for x in self.channels],
            "scores": list(self._score_names),
        }

    def _look(self, silent: float) -> None:
        """Set the lights, a few times a second at most."""
        now = time.monotonic()
        if now - self._looked_at < _LIGHTS_S:
            return
        self._keep_fresh()
        if not self._kept:
            return
        self._looked_at = now
        end = self._kept[-1].times[-1]
        count = 0
        for rows in reversed(self._kept):
            count += 1
            if end - rows.times[0] >= WINDOW_S:
                break
        last = _newest(self._kept, count)
        channels = np.concatenate([rows.channels for rows in last])
        times = np.concatenate([rows.times for rows in last])
        flags = np.concatenate(_newest(self._flags, count))
        recent = times > end - WINDOW_S
        limits = [(channel.low, channel.high) for channel in self.channels]
        self.lights = lights_of(channels[recent], flags[recent], limits, silent)


def _newest(items: deque[Item], count: int) -> list[Item]:
    """So many of the last ones, in their order; a queue is not walked from its beginning."""
    return list(islice(reversed(items), count))[::-1]


def _columns(
    parts: Sequence[tuple[Collection[NDArray[Any]], int]], width: int
) -> NDArray[np.float32]:
    """Values of several predictions under one another, flat; NaN where there are too few.

    Args:
        parts: the arrays of each, `(n, ...)`, and n.
        width: how many columns are wanted.
    """
    tables = []
    for values, n in parts:
        flat = [np.asarray(each).reshape(n, -1) for each in values]
        table = flat[0] if len(flat) == 1 else np.concatenate([*flat, np.zeros((n, 0))], axis=1)
        if table.shape[1] < width:
            table = np.concatenate([table, np.full((n, width - table.shape[1]), np.nan)], axis=1)
        tables.append(table[:, :width])
    return np.concatenate(tables).astype(np.float32)
