"""The sink that browsers look at: streams, alarms, and a bounded queue for each client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgelstm.io.decoding.events import ALARM, ALARM_ACKNOWLEDGED, ALARM_ENDS
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import NO_PREDICTION, PREDICTION_AGAIN, Event, Predictions
from edgelstm.monitor.server.stream_view import StreamView, channels_of
from edgelstm.monitor.server.wire_frames import BACKLOG, SAMPLES, pack

FLUSH_S = 0.008
"""Between two messages with samples of a stream; what comes after a pause is sent at once, which
each sample of a sensor of 100 Hz does."""

MESSAGES_HZ = 2500.0
"""To all clients together: where they are many, their messages are longer and fewer."""

STATE_S = 0.2
MOST_FRAMES = 200
"""Messages with samples that a client may have waiting; of more the oldest go, counted."""

_MOST_MESSAGES = 2000
_FLUSH_ROWS = 400
_BACKLOG_ROWS = 6000
_RECENT_EVENTS = 200

WRITTEN = ("note", "marker", ALARM, ALARM_ACKNOWLEDGED)
"""Events that others, which are many, do not push out of the page's list."""


@dataclass(eq=False, slots=True)
class Client:
    """A browser that looks on.

    Args:
        role: `view` or `annotate`.
    """

    role: str
    dropped: int = 0
    is_lost: bool = False
    _queue: deque[bytes | str] = field(default_factory=deque)
    _frames: int = 0
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, message: bytes | str) -> None:
        """Queue a message; one that is too slow for events is given up."""
        if isinstance(message, bytes):
            if self._frames >= MOST_FRAMES:
                oldest = next(i for i, each in enumerate(self._queue) if isinstance(each, bytes))
                del self._queue[oldest]
                self._frames -= 1
                self.dropped += 1
            self._frames += 1
        elif len(self._queue) >= _MOST_MESSAGES:
            self.is_lost = True
        self._queue.append(message)
        self._ready.set()

    async def get(self) -> bytes | str | None:
        """The next message; None when there will be no more."""
        while not self._queue:
            if self.is_lost:
                return None
            self._ready.clear()
            await self._ready.wait()
        if self.is_lost:
            return None
        message = self._queue.popleft()
        if isinstance(message, bytes):
            self._frames -= 1
        return message

    def give_up(self) -> None:
        """There is nothing more to come."""
        self.is_lost = True
        self._ready.set()


class Hub:
    """A sink of the run; all calls come from the thread of the event loop.

    Args:
        context: of the run.
        is_demo: simulated patients are shown.
    """

    name = "page"
    keeps_inputs = True
    """The page shows signals: predictions carry what was fed."""

    def __init__(self, context: SinkContext, is_demo: bool = False) -> None:
        self.context = context
        self.views: dict[str, StreamView] = {}
        self.alarms: dict[tuple[str, str], dict[str, Any]] = {}
        self.clients: set[Client] = set()
        self.is_demo = is_demo
        self.is_over = False
        self.waiting = 0
        self.lost: Mapping[str, int] = {}
        self.trouble = ""
        self._events: deque[dict[str, Any]] = deque(maxlen=_RECENT_EVENTS)
        self._written: deque[dict[str, Any]] = deque(maxlen=_RECENT_EVENTS)
        self._channels = channels_of(context.model, context.description)
        self._task: asyncio.Task[None] | None = None
        self._flushing: asyncio.Handle | None = None
        self._flushed_at = 0.0
        self._next_event = 1
        for stream in context.patients:  # in the order of the settings, silent ones too
            self.view(stream)

    async def open(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._send_states())

    @property
    def is_open(self) -> bool:
        """Whether the run has opened it, and with it the sinks in front of it: the store."""
        return self._task is not None

    def write(self, predictions: Predictions) -> int:
        """Take rows; they are never delivered for good."""
        self.view(predictions.stream).add(predictions)
        if self.clients and self._flushing is None:
            loop = asyncio.get_running_loop()
            spacing = max(FLUSH_S, len(self.clients) / MESSAGES_HZ)
            self._flushing = loop.call_at(self._flushed_at + spacing, self._flush)
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        if event.stream:
            self.view(event.stream).see(event)
        self._note_alarm(event)
        message = {
            "type": "event",
            "id": self._next_event,
            "stream": event.stream,
            "time": event.time,
            "kind": event.kind,
            "text": event.text,
            "name": str(event.data.get("name", "")),
            "by": str(event.data.get("by", "")),
        }
        self._next_event += 1
        (self._written if event.kind in WRITTEN else self._events).append(message)
        self.broadcast(message)

    def poll(self) -> None:
        """Nothing waits here."""

    async def close(self) -> None:
        """The run ended; pages that are open keep what they have."""
        self.is_over = True
        self._flush()
        self._send_state()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def view(self, stream: str) -> StreamView:
        """What is known of a stream; new ones are told to all."""
        found = self.views.get(stream)
        if found is None:
            found = StreamView(
                stream,
                len(self.views),
                self.context.model,
                self._channels,
                self.context.patients.get(stream, ""),
            )
            self.views[stream] = found
            self.broadcast({"type": "stream", **found.describe()})
        return found

    def join(self, role: str) -> Client:
        """A client, with all that there is to know at its beginning."""
        client = Client(role)
        self._flush()  # to the others: what is in its backlog does not come again
        hello = {
            "type": "hello",
            "role": role,
            "model": self.context.model.name,
            "rate_hz": self.context.rate_hz,
            "demo": self.is_demo,
            "streams": [view.describe() for view in self.views.values()],
            "events": sorted([*self._events, *self._written], key=lambda each: each["id"]),
        }
        client.put(json.dumps(hello))
        for view in self.views.values():
            rows = view.backlog(_BACKLOG_ROWS)
            if rows is not None:
                client.put(pack(BACKLOG, view.number, rows))
        client.put(json.dumps(self._state()))
        self.clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """A client is gone."""
        self.clients.discard(client)
        client.give_up()

    def broadcast(self, message: Mapping[str, Any]) -> None:
        """Send all clients something small."""
        if self.clients:
            text = json.dumps(message)
            for client in self.clients:
                client.put(text)

    def settle_alarm(self, stream: str, name: str) -> bool:
        """Take away an alarm that the decoder does not know; whether there was one."""
        return self.alarms.pop((stream, name), None) is not None

    def _note_alarm(self, event: Event) -> None:
        name = str(event.data.get("name", "")) or event.kind
        key = (event.stream, name)
        if event.kind in (ALARM, NO_PREDICTION):
            self.alarms[key] = {
                "stream": event.stream,
                "name": name,
                "text": event.text,
                "time": event.time,
                "raised": True,
                "acknowledge": bool(event.data.get("acknowledge", event.kind == ALARM)),
            }
        elif event.kind == PREDICTION_AGAIN:
            self.alarms.pop((event.stream, NO_PREDICTION), None)
        elif event.kind == ALARM_ENDS and key in self.alarms:
            self.alarms[key]["raised"] = False
            if not self.alarms[key]["acknowledge"]:
                del self.alarms[key]
        elif event.kind == ALARM_ACKNOWLEDGED and key in self.alarms:
            self.alarms[key]["acknowledge"] = False
            if not self.alarms[key]["raised"]:
                del self.alarms[key]

    async def _send_states(self) -> None:
        while True:
            await asyncio.sleep(STATE_S)
            self._send_state()

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        for view in self.views.values():
            rows = view.take_unsent(_FLUSH_ROWS)
            if rows is not None and self.clients:
                frame = pack(SAMPLES, view.number, rows)
                for client in self.clients:
                    client.put(frame)
        self._flushed_at = asyncio.get_running_loop().time()

    def _send_state(self) -> None:
        if self.clients:
            self.broadcast(self._state())

    def _state(self) -> dict[str, Any]:
        tables = self.context.tables()
        return {
            "type": "state",
            "over": self.is_over,
            "viewers": len(self.clients),
            "streams": {name: view.state(tables.get(name)) for name, view in self.views.items()},
            "alarms": list(self.alarms.values()),
        }
