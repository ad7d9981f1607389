"""`mqtt://host/topic`: messages with one or several samples; a topic with `+` or `#` is many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.mqtt_client import Arrivals, MqttBroker
from edgelstm.io.predictions import Event
from edgelstm.io.sources.echo import echo_period
from edgelstm.io.sources.reading import (
    Backoff,
    Format,
    Reader,
    Sensor,
    connected,
    disconnected,
    source_name,
)
from edgelstm.io.wire.base import MAX_MESSAGE_BYTES, TOO_LONG

_MOST_STREAMS = 1024
_TOO_MANY = "too many streams"


def open_source(address: Address, context: SourceContext) -> MqttSource:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
        TargetUnavailableError: aiomqtt is not installed.
    """
    return MqttSource(address, context)


class MqttSource(Sensor):
    """Samples in messages; each topic is a stream of its own.

    Args:
        address: `mqtt://host:port/topic`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SourceContext) -> None:
        options = Options(address)
        self._address = address
        self.name = source_name(options, address)
        self._broker = MqttBroker(address, options, "MQTT sources")
        echo_s = echo_period(address, options, context, has_messages=True)
        self.has_echo = echo_s is not None
        self._format = Format(options, context, "json", echo_s)
        self._most_bytes = options.integer("max_message", MAX_MESSAGE_BYTES, low=1)
        self._most_streams = options.integer("max_streams", _MOST_STREAMS, low=1)
        self._has_retained = options.flag("retained")
        options.finish()
        self.is_many = "+" in self._broker.topic or "#" in self._broker.topic
        self._readers: dict[str, Reader] = {}
        if not self.is_many:
            self._readers[self._broker.topic] = self._format.reader()

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes; a connection that breaks is made anew."""
        backoff, times, is_said = Backoff(), 0, False
        broker = self._broker
        while True:
            reason = "the broker closed the connection"
            try:
                arrivals = Arrivals()
                async with broker.client(arrivals) as client, arrivals.from_client(client):
                    await client.subscribe(broker.topic, qos=broker.qos)
                    times, is_said = times + 1, False
                    backoff.reset()
                    if times > 1:
                        for reader in self._readers.values():
                            reader.numbering.break_here()
                    yield connected(self.name, self._address, times)
                    async with self._asking(client):
                        while True:
                            delivery = self._take(*await arrivals.next())
                            if delivery is not None:
                                yield delivery
            except (broker.aiomqtt.MqttError, OSError) as exc:
                reason = str(exc)
            if not is_said:
                yield disconnected(self.name, self._address, reason)
            is_said = True
            await asyncio.sleep(backoff.next())

    @asynccontextmanager
    async def _asking(self, client: Any) -> AsyncGenerator[None, None]:
        """While a connection stands, the sensor behind the topic is asked echo questions."""
        topic = self._broker.topic
        reader = self._readers.get(topic)
        if not self.has_echo or reader is None:
            yield
            return
        # A message that is sent twice shows no time: quality 0.
        await client.subscribe(f"{topic}/echo/answer", qos=0)

        async def write(question: bytes) -> None:
            try:
                await client.publish(f"{topic}/echo/question", question.strip(), qos=0)
            except self._broker.aiomqtt.MqttError as exc:
                raise OSError(str(exc)) from exc

        async with reader.echo.asking(write):
            yield

    def _take(self, message: object, now: float) -> Delivery | None:
        """One message; None of one that was said before this program listened."""
        topic = str(message.topic)  # type: ignore[attr-defined]
        payload = message.payload  # type: ignore[attr-defined]
        if message.retain and not self._has_retained:  # type: ignore[attr-defined]
            return None
        if self.has_echo and topic == f"{self._broker.topic}/echo/answer":
            topic = self._broker.topic
        stream = topic if self.is_many else ""
        reader = self._readers.get(topic)
        if reader is None:
            if len(self._readers) >= self._most_streams:
                return Delivery("", None, refused={_TOO_MANY: 1})
            reader = self._readers[topic] = self._format.reader(stream)
        if not isinstance(payload, (bytes, bytearray)):
            payload = b"" if payload is None else str(payload).encode()
        if len(payload) > self._most_bytes:
            return Delivery(stream, None, refused={TOO_LONG: 1})
        return reader.message(bytes(payload), now)
