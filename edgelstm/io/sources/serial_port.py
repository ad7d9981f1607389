"""`serial:/dev/ttyUSB0?baud=115200`: a serial port, which may be pulled and plugged in again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from edgelstm.errors import RecordingError
from edgelstm.extras import load_extra
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

CLEAN_START_S = 0.005
"""A port that is silent for so long when it is opened was opened between two lines."""

_CHUNK = 65536
_AHEAD = 64
"""Chunks that are read ahead of whoever takes them."""


def open_source(address: Address, context: SourceContext) -> SerialSource:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
        TargetUnavailableError: pyserial is not installed.
    """
    return SerialSource(address, context)


class SerialSource(Sensor):
    """Samples of a serial port.

    Args:
        address: `serial:PORT`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SourceContext) -> None:
        options = Options(address)
        self._address = address
        self._serial = load_extra("serial", "serial", "serial ports")
        self.name = source_name(options, address)
        self._settings = {
            "baudrate": options.integer("baud", 115200, low=1),
            "bytesize": options.integer("bits", 8, low=5, high=8),
            "parity": options.choice("parity", ("N", "E", "O", "M", "S"), "N"),
            "stopbits": options.number("stop", 1.0, low=1.0),
            "rtscts": options.flag("rtscts"),
            "xonxoff": options.flag("xonxoff"),
        }
        self._is_trusted = options.choice("start", ("auto", "keep"), "auto") == "keep"
        echo_s = echo_period(address, options, context, has_messages=False)
        self.has_echo = echo_s is not None
        self._reader = Format(options, context, echo_s=echo_s).reader()
        options.finish()
        if not address.path:
            raise RecordingError(f"{address.text}: name the port, as in serial:/dev/ttyUSB0")

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes; a port that goes away is opened again when it is back."""
        loop = asyncio.get_running_loop()
        backoff, times, is_said = Backoff(), 0, False
        while True:
            try:
                port = self._open()
            except (OSError, ValueError) as exc:
                if _is_no_port(exc):
                    raise RecordingError(
                        f"{self._address.shown}: is there, and is no serial port"
                    ) from exc
                if isinstance(exc, ValueError):
                    raise RecordingError(f"{self._address.shown}: {exc}") from exc
                if not is_said:
                    yield disconnected(self.name, self._address, _reason(exc))
                is_said = True
                await asyncio.sleep(backoff.next())
                continue
            times, is_said = times + 1, True
            backoff.reset()
            reason = ""
            incoming = _Incoming(port.fileno(), loop)
            try:
                yield connected(self.name, self._address, times)
                await self._begin(incoming)
                async with self._reader.echo.asking(partial(_write, port.fileno())):
                    while True:
                        data, now = await incoming.get()
                        if not data:
                            reason = "the port is gone"
                            break
                        yield self._reader.feed(data, now)
            except OSError as exc:
                reason = _reason(exc)
            finally:
                incoming.close()
                _close(port)
            yield self._reader.end()
            yield disconnected(self.name, self._address, reason)
            await asyncio.sleep(backoff.next())

    def _open(self) -> Any:
        """The open port, with what has arrived since the driver has it."""
        serial: Any = self._serial

        class Port(serial.Serial):  # type: ignore[misc]
            def _reset_input_buffer(self) -> None:
                """Open() would throw away what has arrived already."""

        port = Port(timeout=0, exclusive=True, **self._settings)
        port.port = self._address.path
        port.open()
        os.set_blocking(port.fileno(), False)
        return port

    async def _begin(self, incoming: _Incoming) -> None:
        """See whether the port was opened within a line."""
        is_cut = not self._is_trusted and await incoming.is_there(CLEAN_START_S)
        self._reader.wire.begin(is_cut)


class _Incoming:
    """What arrives at a descriptor, read as it comes.

    Args:
        descriptor: that does not block.
        loop: that waits for it.
    """

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor = descriptor
        self._loop = loop
        self._chunks: deque[tuple[bytes, float]] = deque()
        self._error: OSError | None = None
        self._news = asyncio.Event()
        loop.add_reader(descriptor, self._read)
        self._is_reading = True

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            self._error, data = exc, b""
        self._chunks.append((data, time.monotonic()))
        self._news.set()
        if not data or len(self._chunks) >= _AHEAD:
            self.close()

    async def get(self) -> tuple[bytes, float]:
        """The next bytes and when they came; no bytes at the end.

        Raises:
            OSError: the descriptor cannot be read any more.
        """
        while not self._chunks:
            self._news.clear()
            await self._news.wait()
        data, now = self._chunks.popleft()
        if self._error is not None and not self._chunks:
            raise self._error
        if data and not self._is_reading and not self._chunks:
            self._loop.add_reader(self._descriptor, self._read)
            self._is_reading = True
        return data, now

    async def is_there(self, within_s: float) -> bool:
        """Whether something has come, or comes within a time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), within_s)
        return bool(self._chunks)

    def close(self) -> None:
        """Read no more for now."""
        if self._is_reading:
            self._loop.remove_reader(self._descriptor)
            self._is_reading = False


async def _write(descriptor: int, data: bytes) -> None:
    """Send a question; none where the port still has others to send."""
    with contextlib.suppress(BlockingIOError):
        os.write(descriptor, data)


def _close(port: Any) -> None:
    try:
        port.close()
    except OSError:
        return  # what is gone cannot be closed


def _is_no_port(error: Exception) -> bool:
    """Whether what was opened takes no settings of a line; pyserial says it only in words."""
    cause = error.__context__
    return cause is not None and cause.args[:1] == (errno.ENOTTY,)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
