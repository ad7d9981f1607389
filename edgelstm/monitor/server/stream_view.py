"""What a page knows about one stream: its last samples, its phase, its counts, its lights."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

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

MOST_CHANNELS = 32
KEPT_S = 120.0
"""How much of a stream a page that opens can see."""

_KEPT_ROWS = 240_000
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
    pending: list[Rows] = field(default_factory=list)
    label: str = ""
    phase: tuple[str, float] = ("", 0.0)
    is_decoded: bool = False
    repetitions: dict[str, int] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    lights: list[Light] = field(default_factory=list)
    trial: dict[str, Any] | None = None
    _kept: deque[Rows] = field(default_factory=deque)
    _flags: deque[NDArray[np.bool_]] = field(default_factory=deque)
    _rows: int = 0
    _arrival: float = math.nan
    _latency_s: float = 0.0
    _quality: float = math.nan

    def add(self, predictions: Predictions) -> None:
        """Take rows."""
        n = len(predictions)
        inputs = [
            np.asarray(values).reshape(n, -1).astype(np.float32)
            for values in predictions.inputs.values()
        ]
        outputs = [
            np.asarray(values).reshape(n, -1).astype(np.float32)
            for values in predictions.outputs.values()
        ]
        empty = np.zeros((n, 0), np.float32)
        rows = Rows(
            predictions.time,
            np.concatenate([*inputs, empty], axis=1)[:, : len(self.channels)],
            np.concatenate([*outputs, empty], axis=1)[:, :MOST_CHANNELS],
            predictions.quality,
        )
        if rows.channels.shape[1] < len(self.channels):
            missing = np.full((n, len(self.channels) - rows.channels.shape[1]), np.nan, np.float32)
            rows = Rows(
                rows.times, np.concatenate([rows.channels, missing], 1), rows.scores, rows.quality
            )
        self.pending.append(rows)
        self._kept.append(rows)
        self._flags.append((predictions.flags & _NOT_MEASURED) == 0)
        self._rows += n
        while self._rows > _KEPT_ROWS or (
            len(self._kept) > 1 and rows.times[-1] - self._kept[0].times[-1] > KEPT_S
        ):
            self._rows -= len(self._kept.popleft())
            self._flags.popleft()
        self._arrival = float(predictions.arrival[-1])
        self._latency_s = max(time.monotonic() - self._arrival, self._latency_s)
        self._quality = float(predictions.quality[-1])
        for labels in predictions.labels.values():
            if labels[-1] != self.label:
                self.label = labels[-1]
                if not self.is_decoded:
                    self.phase = (self.label, float(predictions.time[-1]))

    def now(self) -> float:
        """The time of the stream, seconds since 1970: that of a recording is its own."""
        if not self._kept:
            return time.time()
        return float(self._kept[-1].times[-1]) + time.monotonic() - self._arrival

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
        return thinned(joined(list(self._kept)), most) if self._kept else None

    def kept(self) -> Rows | None:
        """Every row that is kept; None where there is none."""
        return joined(list(self._kept)) if self._kept else None

    def take_pending(self, most: int) -> Rows | None:
        """What came since the last time; None where nothing did."""
        if not self.pending:
            return None
        parts, self.pending = self.pending, []
        return thinned(joined(parts), most)

    def state(self, counters: Counters | None) -> dict[str, Any]:
        """What changes slowly, for the page."""
        silent = 0.0 if math.isnan(self._arrival) else time.monotonic() - self._arrival
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
            "scores": list(scores_of(self.model)),
        }

    def _look(self, silent: float) -> None:
        if not self._kept:
            return
        end = self._kept[-1].times[-1]
        count = 0
        for rows in reversed(self._kept):
            count += 1
            if end - rows.times[0] >= WINDOW_S:
                break
        parts = list(self._kept)[-count:]
        channels = np.concatenate([rows.channels for rows in parts])
        times = np.concatenate([rows.times for rows in parts])
        flags = np.concatenate(list(self._flags)[-count:])
        recent = times > end - WINDOW_S
        limits = [(channel.low, channel.high) for channel in self.channels]
        self.lights = lights_of(channels[recent], flags[recent], limits, silent)
