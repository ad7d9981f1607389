"""Bluetooth without a radio: the adapter is replaced by one that a test speaks through."""

from __future__ import annotations

import asyncio
import struct

import numpy as np
import pytest

from edgelstm.io.sources import ble
from tests.live.harness import Live, samples, wait_until
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytestmark = needs_cc

ADDRESS = "ble:AA:BB:CC:DD:EE:FF?characteristic=2a37&format=struct:<2f"


class FakeLink:
    """A connection that a test notifies through, from its own thread."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._take: ble.Notify | None = None
        self.characteristic = ""
        self.is_closed = False

    async def notify(self, characteristic: str, take: ble.Notify) -> None:
        """Keep it."""
        self.characteristic = characteristic
        self._take = take

    async def wait_closed(self) -> None:
        """Until the test says so."""
        await self._gone.wait()

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True

    @property
    def is_ready(self) -> bool:
        """Whether notifications are asked for."""
        return self._take is not None

    def say(self, data: bytes) -> None:
        """A notification."""
        assert self._take is not None
        self._loop.call_soon_threadsafe(self._take, data)

    def leave(self) -> None:
        """Out of reach."""
        self._loop.call_soon_threadsafe(self._gone.set)


class FakeRadio:
    """Gives links, except where the test has the device away."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.asked: list[str] = []
        self.is_away = True

    async def connect(self, device: str, timeout_s: float) -> FakeLink:
        """A link."""
        del timeout_s
        self.asked.append(device)
        if self.is_away:
            raise OSError("the device does not answer")
        self.links.append(FakeLink())
        return self.links[-1]


def test_notifications_are_samples_also_after_the_device_was_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One and several a notification, one of a wrong length, and a gap."""
    radio, values = FakeRadio(), samples(10)
    records = [struct.pack("<2f", *map(float, x)) for x in values]
    monkeypatch.setattr(ble, "make_radio", lambda: radio)
    with Live(leaky_native(), [ADDRESS]) as live:
        live.wait_for_event("disconnected")
        radio.is_away = False
        wait_until(lambda: bool(radio.links) and radio.links[0].is_ready)
        radio.links[0].say(records[0])
        radio.links[0].say(b"".join(records[1:5]))
        radio.links[0].say(b"123")
        live.wait_for(5)
        radio.links[0].leave()
        wait_until(lambda: len(radio.links) == 2 and radio.links[1].is_ready)
        for record in records[5:]:
            radio.links[1].say(record)
        live.wait_for(11)
    held = np.insert(values, 5, values[4], axis=0)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(held))
    assert radio.asked[0] == "AA:BB:CC:DD:EE:FF"
    assert radio.links[0].characteristic == "2a37"
    assert radio.links[0].is_closed
    assert dict(live.counters().dropped) == {"wrong length": 1}
    assert live.column("flags")[6] == 8


def test_the_real_radio_says_that_there_is_none() -> None:
    """Without Bluetooth the source waits and says why; it does not end."""
    pytest.importorskip("bleak", reason="needs bleak: pip install -e '.[ble]'")
    with Live(leaky_native(), [ADDRESS]) as live:
        live.wait_for_event("disconnected")
    assert "ble:AA:BB:CC:DD:EE:FF" in live.events[0].text
