"""`mqtt://host/topic`: events as they come, and a summary of every stream once a second."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.io.address import Address, Options
from edgelstm.io.live import SinkContext
from edgelstm.io.mqtt_client import MqttBroker
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.records import event_record, records, to_json
from edgelstm.io.sinks.summaries import Summaries
from edgelstm.io.sources.reading import Backoff

_MOST_WAITING = 10_000
_LAST_WAIT_S = 3.0
_TOO_MANY = "messages while the broker was away"


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: str


def open_sink(address: Address, context: SinkContext) -> MqttSink:
    """The sink of an address.

    Raises:
        RecordingError: an option is wrong.
        TargetUnavailableError: aiomqtt is not installed.
    """
    return MqttSink(address, context)


class MqttSink:
    """Publishes `TOPIC/events`, `TOPIC/summary` and, if asked for, `TOPIC/predictions`.

    A message may come twice after a crash: stream, sample and model are its key.

    Args:
        address: `mqtt://host:port/topic`.
        context: of the run.
    """

    waiting = 0
    """Nobody waits for a broker: what it misses is counted."""

    def __init__(self, address: Address, context: SinkContext) -> None:
        del context
        options = Options(address)
        self.name = address.shown
        self._broker = MqttBroker(address, options, "MQTT sinks")
        self._has_predictions = options.flag("predictions")
        self._is_retained = options.flag("retain")
        self._summaries = Summaries(options.seconds("every", 1.0))
        options.finish()
        self._topic = self._broker.topic.rstrip("/")
        self._queue: deque[_Message] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_ending = False
        self._lost: Counter[str] = Counter()

    @property
    def lost(self) -> Mapping[str, int]:
        """Messages that the broker did not get."""
        return self._lost

    async def open(self) -> None:
        """Begin to connect; a broker that is not there yet is waited for."""
        self._task = asyncio.create_task(self._publish())

    def write(self, predictions: Predictions) -> int:
        """Take rows."""
        if self._has_predictions:
            rows = list(records(predictions))
            self._put("predictions", rows[0] if len(rows) == 1 else rows)
        self._summaries.add(predictions)
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        self._put("events", event_record(event))

    def poll(self) -> None:
        """Summaries that are due."""
        for summary in self._summaries.due():
            self._put("summary", summary)

    async def close(self) -> None:
        """Publish what waits, as far as the broker is there."""
        task = self._task
        if task is None:
            return
        for summary in self._summaries.due(is_end=True):
            self._put("summary", summary)
        self._is_ending = True
        self._news.set()
        try:
            await asyncio.wait_for(asyncio.shield(task), _LAST_WAIT_S)
        except TimeoutError:
            self._lost[_TOO_MANY] += len(self._queue)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _put(self, kind: str, content: Any) -> None:
        if len(self._queue) >= _MOST_WAITING:
            self._queue.popleft()
            self._lost[_TOO_MANY] += 1
        self._queue.append(_Message(f"{self._topic}/{kind}", to_json(content)))
        self._news.set()

    async def _publish(self) -> None:
        backoff = Backoff()
        broker = self._broker
        while not (self._is_ending and not self._queue):
            try:
                async with broker.client() as client:
                    backoff.reset()
                    await self._publish_with(client)
            except (broker.aiomqtt.MqttError, OSError):
                await asyncio.sleep(backoff.next())

    async def _publish_with(self, client: Any) -> None:
        while True:
            while self._queue:
                message = self._queue[0]
                await client.publish(
                    message.topic, message.payload, qos=self._broker.qos, retain=self._is_retained
                )
                # Only now the broker has it; a connection that breaks before repeats it.
                if self._queue and self._queue[0] is message:
                    self._queue.popleft()
            if self._is_ending:
                return
            self._news.clear()
            # A connection that breaks while nothing is published is noticed by the next message.
            await self._news.wait()
