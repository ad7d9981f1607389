"""Connections to MQTT brokers, by aiomqtt: what its sources and sinks share."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from edgelstm.errors import RecordingError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options

PORT, TLS_PORT = 1883, 8883
KEEP_ALIVE_S = 10


class MqttBroker:
    """A broker and how to log in to it; takes the options that say so.

    Args:
        address: `mqtt://user:password@host:port/topic`, or `mqtts://...` with TLS.
        options: of the address.
        purpose: who needs aiomqtt, in words, in the plural.
    """

    def __init__(self, address: Address, options: Options, purpose: str) -> None:
        self.aiomqtt = load_extra("aiomqtt", "mqtt", purpose)
        self._address = address
        self._client_id = options.text("client_id", None)
        self._password = options.secret("password")
        self._authority = options.text("ca", None)
        self._certificate = options.text("cert", None)
        self._key = options.text("key", None)
        self.qos = options.integer("qos", 1, high=2)
        self.topic = address.path.removeprefix("/")
        if not address.host:
            raise RecordingError(f"{address.shown}: name the broker, as in mqtt://localhost/imu")
        if not self.topic:
            raise RecordingError(f"{address.shown}: name a topic, as in mqtt://localhost/imu")

    def client(self, arrivals: Arrivals | None = None) -> Any:
        """A connection to be entered; made anew for each attempt.

        Args:
            arrivals: where messages go; None: `client.messages` gives them.
        """
        address = self._address
        is_secure = address.scheme == "mqtts"
        return self.aiomqtt.Client(
            address.host,
            address.port or (TLS_PORT if is_secure else PORT),
            username=address.user or None,
            password=self._password or None,
            identifier=self._client_id,
            clean_session=None if self._client_id is None else False,
            keepalive=KEEP_ALIVE_S,
            timeout=KEEP_ALIVE_S,
            tls_context=self._tls() if is_secure else None,
            queue_type=None if arrivals is None else lambda maxsize=0: arrivals,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._authority)
            if self._certificate is not None:
                context.load_cert_chain(self._certificate, self._key)
        except OSError as exc:
            raise RecordingError(f"{self._address.shown}: certificates: {exc}") from exc
        return context


class Arrivals(asyncio.Queue[Any]):
    """Where a client of aiomqtt puts its messages, with the time at which each one came.

    Whoever takes them by `client.messages` waits for a task of its own a message. Here that
    iterator is asked once, and only tells the end of the connection: nothing arrives in its queue.
    """

    def __init__(self) -> None:
        super().__init__()
        self._messages: deque[tuple[Any, float]] = deque()
        self._news = asyncio.Event()
        self._end: asyncio.Future[Any] | None = None

    def put_nowait(self, item: Any) -> None:
        """Called by the client."""
        self._messages.append((item, time.monotonic()))
        self._news.set()

    @asynccontextmanager
    async def from_client(self, client: Any) -> AsyncGenerator[None, None]:
        """While the client is connected; a connection that ends is told by `next`."""
        self._end = asyncio.ensure_future(anext(client.messages))
        self._end.add_done_callback(lambda _: self._news.set())
        try:
            yield
        finally:
            self._end.cancel()
            # An end that nobody was told of is no error that nobody caught.
            await asyncio.gather(self._end, return_exceptions=True)

    async def next(self) -> tuple[Any, float]:
        """The next message, and the monotonic clock when it came.

        Raises:
            aiomqtt.MqttError: the connection has ended; what came over it was taken before.
        """
        while not self._messages:
            if self._end is not None and self._end.done():
                self._end.result()
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()
