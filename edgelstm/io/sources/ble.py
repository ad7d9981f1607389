"""`ble:ADDRESS?characteristic=UUID&format=struct:<6h`: notifications of a Bluetooth device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from edgelstm.errors import RecordingError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.inlet import QUEUE_FULL
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.sources.reading import (
    Backoff,
    Format,
    Sensor,
    connected,
    disconnected,
    source_name,
)

_CONNECT_S = 20.0
_AHEAD = 4096

Notify = Callable[[bytes], None]


class Link(Protocol):
    """A connection to a device."""

    async def notify(self, characteristic: str, take: Notify) -> None:
        """Have every notification handed to `take`."""
        ...

    async def wait_closed(self) -> None:
        """Until the device is gone."""
        ...

    async def close(self) -> None:
        """End."""
        ...


class Radio(Protocol):
    """Makes connections; tests have one without Bluetooth."""

    async def connect(self, device: str, timeout_s: float) -> Link:
        """A connection to a device, by its address or name.

        Raises:
            OSError: it is not there, or does not answer.
        """
        ...


class BleakRadio:
    """The radio of this machine, by bleak."""

    def __init__(self) -> None:
        self._bleak = load_extra("bleak", "ble", "Bluetooth devices")

    async def connect(self, device: str, timeout_s: float) -> Link:
        """A connection to a device, by its address or name."""
        bleak = self._bleak
        gone = asyncio.Event()
        try:
            found: Any = device
            if ":" not in device and len(device) != 36:
                found = await bleak.BleakScanner.find_device_by_name(device, timeout_s)
                if found is None:
                    raise OSError(f"no device is named {device!r}")
            client = bleak.BleakClient(found, disconnected_callback=lambda client: gone.set())
            await client.connect(timeout=timeout_s)
        except (bleak.exc.BleakError, TimeoutError) as exc:
            raise OSError(str(exc) or "the device does not answer") from exc
        return _BleakLink(client, gone, bleak.exc.BleakError)


class _BleakLink:
    """A connection by bleak."""

    def __init__(self, client: Any, gone: asyncio.Event, error: type[Exception]) -> None:
        self._client = client
        self._gone = gone
        self._error = error

    async def notify(self, characteristic: str, take: Notify) -> None:
        try:
            await self._client.start_notify(characteristic, lambda sender, data: take(bytes(data)))
        except self._error as exc:
            raise OSError(str(exc)) from exc

    async def wait_closed(self) -> None:
        await self._gone.wait()

    async def close(self) -> None:
        try:
            await self._client.disconnect()
        except self._error:
            return  # what is gone cannot be closed


make_radio: Callable[[], Radio] = BleakRadio
"""What sources get their radio from."""


def open_source(address: Address, context: SourceContext) -> BleSource:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
        TargetUnavailableError: bleak is not installed.
    """
    return BleSource(address, context, make_radio())


class BleSource(Sensor):
    """Samples in notifications.

    Args:
        address: `ble:ADDRESS`, or `ble:NAME` of a device.
        context: of the run.
        radio: makes connections.
    """

    def __init__(self, address: Address, context: SourceContext, radio: Radio) -> None:
        options = Options(address)
        self._address = address
        self._radio = radio
        self.name = source_name(options, address)
        self._characteristic = options.text("characteristic", "")
        self._reader = Format(options, context).reader()
        options.finish()
        if not address.path or not self._characteristic:
            raise RecordingError(
                f"{address.text}: name the device and what it notifies: "
                "ble:AA:BB:CC:DD:EE:FF?characteristic=UUID&format=struct:<6h"
            )

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes; a device that goes out of reach is connected to again."""
        backoff, times, is_said = Backoff(), 0, False
        while True:
            try:
                link = await self._radio.connect(self._address.path, _CONNECT_S)
            except OSError as exc:
                if not is_said:
                    yield disconnected(self.name, self._address, str(exc))
                is_said = True
                await asyncio.sleep(backoff.next())
                continue
            times, is_said = times + 1, True
            reason = "the device is gone"
            try:
                yield connected(self.name, self._address, times)
                async with aclosing(self._notifications(link)) as notifications:
                    async for item in notifications:
                        backoff.reset()
                        yield item
            except OSError as exc:
                reason = str(exc)
            finally:
                await link.close()
            yield self._reader.end()
            yield disconnected(self.name, self._address, reason)
            await asyncio.sleep(backoff.next())

    async def _notifications(self, link: Link) -> AsyncGenerator[Delivery, None]:
        queue: asyncio.Queue[tuple[bytes, float] | None] = asyncio.Queue()
        lost = 0

        def take(data: bytes) -> None:
            nonlocal lost
            if queue.qsize() >= _AHEAD:
                lost += 1
                return
            queue.put_nowait((data, time.monotonic()))

        async def watch() -> None:
            await link.wait_closed()
            queue.put_nowait(None)

        await link.notify(self._characteristic, take)
        watcher = asyncio.create_task(watch())
        try:
            while (item := await queue.get()) is not None:
                if lost:
                    yield Delivery("", None, refused={QUEUE_FULL: lost})
                    lost = 0
                yield self._reader.message(*item)
        finally:
            watcher.cancel()
