"""`mqtt://host/topic`: events as they come, and a summary of every stream once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.io.address import Address, Options
from edgelstm.io.live import SinkContext
from edgelstm.io.mqtt_client import MqttBroker
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.outbox import Outbox
from edgelstm.io.sinks.records import event_record, records, to_json
from edgelstm.io.sinks.summaries import Summaries
from edgelstm.io.sources.reading import Backoff

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


class MqttSink(Destination):
    """Publishes `TOPIC/events`, `TOPIC/summary` and, if asked for, `TOPIC/predictions`.

    Nobody waits for a broker: what it misses is counted. A message may come twice after a crash:
    stream, sample and model are its key.

    Args:
        address: `mqtt://host:port/topic`.
        context: of the run.
    """

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
        self._outbox: Outbox[_Message] = Outbox(_TOO_MANY, _LAST_WAIT_S)

    @property
    def lost(self) -> Mapping[str, int]:
        """Messages that the broker did not get."""
        return self._outbox.lost

    @property
    def trouble(self) -> str:
        """Why the broker gets nothing just now."""
        return self._outbox.trouble

    async def open(self) -> None:
        """Begin to connect; a broker that is not there yet is waited for."""
        self._outbox.start(self._publish)

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
        for summary in self._summaries.due(is_end=True):
            self._put("summary", summary)
        await self._outbox.close()

    def _put(self, kind: str, content: Any) -> None:
        self._outbox.put(_Message(f"{self._topic}/{kind}", to_json(content)))

    async def _publish(self) -> None:
        backoff = Backoff()
        broker, outbox = self._broker, self._outbox
        while not outbox.is_over:
            try:
                async with broker.client() as client:
                    backoff.reset()
                    outbox.trouble = ""
                    # A connection that breaks while nothing is published is noticed by the next
                    # message.
                    while waiting := await outbox.oldest(1):
                        for number, message in waiting.items():
                            await client.publish(
                                message.topic,
                                message.payload,
                                qos=broker.qos,
                                retain=self._is_retained,
                            )
                            # Only now the broker has it; a connection that breaks before
                            # repeats it.
                            outbox.done(number)
            except (broker.aiomqtt.MqttError, OSError) as exc:
                outbox.trouble = str(exc) or "no connection"
                await asyncio.sleep(backoff.next())
