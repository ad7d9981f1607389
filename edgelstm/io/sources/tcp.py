"""`tcp://host:port`: a stream of bytes, from a server or, with `listen=yes`, from who connects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial

from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.sources.echo import echo_period
from edgelstm.io.sources.reading import (
    Backoff,
    Format,
    Sensor,
    connected,
    disconnected,
    source_name,
)

_CHUNK = 65536
_CONNECT_S = 10.0
_AHEAD = 64


def open_source(address: Address, context: SourceContext) -> TcpClient | TcpServer:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
    """
    options = Options(address)
    kind = TcpServer if options.flag("listen") else TcpClient
    return kind(address, options, context)


class TcpClient(Sensor):
    """Samples that a server sends; a connection that breaks is made anew.

    Args:
        address: `tcp://host:port`.
        options: of the address.
        context: of the run.
    """

    can_wait = True

    def __init__(self, address: Address, options: Options, context: SourceContext) -> None:
        self._address = address
        self.name = source_name(options, address)
        self._ends = options.choice("end", ("reconnect", "finish"), "reconnect") == "finish"
        echo_s = echo_period(address, options, context, has_messages=False)
        self.has_echo = echo_s is not None
        self._reader = Format(options, context, echo_s=echo_s).reader()
        options.finish()
        if not address.host or address.port is None:
            raise RecordingError(f"{address.text}: name the server, as in tcp://192.168.1.7:9000")

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes."""
        backoff, times, is_said = Backoff(), 0, False
        while True:
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection(self._address.host, self._address.port, limit=_CHUNK),
                    _CONNECT_S,
                )
            except (OSError, TimeoutError) as exc:
                if not is_said:
                    yield disconnected(self.name, self._address, str(exc) or "no answer")
                is_said = True
                await asyncio.sleep(backoff.next())
                continue
            times, is_said = times + 1, True
            self._reader.wire.begin(is_cut=False)
            reason = "the server closed the connection"
            try:
                yield connected(self.name, self._address, times)
                async with self._reader.echo.asking(partial(_write, writer)):
                    while data := await reader.read(_CHUNK):
                        backoff.reset()
                        yield self._reader.feed(data, time.monotonic())
            except OSError as exc:
                reason = str(exc)
            finally:
                writer.close()
            yield self._reader.end()
            if self._ends:
                return
            yield disconnected(self.name, self._address, reason)
            await asyncio.sleep(backoff.next())


class TcpServer(Sensor):
    """Samples of those who connect, each with lines of its own, numbered in their order.

    Args:
        address: `tcp://host:port?listen=yes`; without a host, on all interfaces.
        options: of the address.
        context: of the run.
    """

    can_wait = True

    def __init__(self, address: Address, options: Options, context: SourceContext) -> None:
        self._address = address
        self.name = source_name(options, address)
        self._most = options.integer("clients", 16, low=1, high=4096)
        echo_s = echo_period(address, options, context, has_messages=False)
        self.has_echo = echo_s is not None
        self._format = Format(options, context, echo_s=echo_s)
        self._numbering = self._format.reader().numbering
        options.finish()
        self._queue: asyncio.Queue[Delivery | Event] = asyncio.Queue(_AHEAD)
        self._served: set[asyncio.Task[None]] = set()
        if address.port is None:
            raise RecordingError(f"{address.text}: name the port, as in tcp://:9000?listen=yes")

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes."""
        try:
            server = await asyncio.start_server(
                self._accept, self._address.host or None, self._address.port, limit=_CHUNK
            )
        except OSError as exc:
            raise RecordingError(f"cannot listen at {self._address.shown}: {exc}") from exc
        async with server:
            try:
                while True:
                    yield await self._queue.get()
            finally:
                # Since Python 3.12 a server ends only when its connections have.
                server.close()
                for task in self._served:
                    task.cancel()
                await asyncio.gather(*self._served, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._served) >= self._most:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._served.add(task)
        task.add_done_callback(self._served.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str(writer.get_extra_info("peername", ("?",))[0])
        mine = self._format.reader_of(self._numbering)
        mine.wire.begin(is_cut=False)
        await self._queue.put(Event(self.name, time.time(), "connected", f"{peer} connected"))
        reason = "closed the connection"
        try:
            async with mine.echo.asking(partial(_write, writer)):
                while data := await reader.read(_CHUNK):
                    await self._queue.put(mine.feed(data, time.monotonic()))
        except OSError as exc:
            reason = str(exc)
        await self._queue.put(mine.end())
        await self._queue.put(Event(self.name, time.time(), "disconnected", f"{peer}: {reason}"))


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send a question; none where what was sent before has not left yet."""
    if not writer.transport.get_write_buffer_size():
        writer.write(data)
