"""What sources of bytes share: a wire format, numbers for samples, pauses before retries."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.numbering import Numbering, StreamNumbering
from edgelstm.io.predictions import Event
from edgelstm.io.sources.echo import Echo
from edgelstm.io.wire.base import Wire
from edgelstm.io.wire.open_wire import wire_maker

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Sensor:
    """What sources say of themselves, unless they say otherwise; see `Source`."""

    is_replay = False
    can_wait = False
    is_many = False
    is_on_our_clock = False
    has_echo = False
    progress: float | None = None


class Format:
    """How the bytes of an address are read; takes the options that say so.

    Args:
        options: of the address.
        context: of the run.
        default: the format where none is asked for.
        echo_s: seconds between two echo questions; None: none are asked.
    """

    def __init__(
        self,
        options: Options,
        context: SourceContext,
        default: str = "csv",
        echo_s: float | None = None,
    ) -> None:
        self._echo_s = echo_s
        self.make_wire: Callable[[], Wire] = wire_maker(options, context.wanted, default)
        self._numbering = Numbering(options, context.rate_hz)

    def reader(self, stream: str = "") -> Reader:
        """For one stream of the source."""
        return self.reader_of(self._numbering.stream(stream))

    def reader_of(self, numbering: StreamNumbering) -> Reader:
        """For one of several connections whose samples are numbered together."""
        return Reader(self.make_wire(), numbering, Echo(self._echo_s))


class Reader:
    """Bytes to deliveries.

    Args:
        wire: the format.
        numbering: the numbers.
        echo: tells answers from samples.
    """

    def __init__(self, wire: Wire, numbering: StreamNumbering, echo: Echo) -> None:
        self.wire = wire
        self.numbering = numbering
        self.echo = echo

    def feed(self, data: bytes, now: float) -> Delivery:
        """Bytes of a stream."""
        rows = self.wire.feed(self.echo.without_answers(data, now), now)
        return self._answered(
            self.numbering.delivery(rows, self.wire.names, self.wire.has_names, now)
        )

    def message(self, data: bytes, now: float) -> Delivery:
        """One message."""
        if self.echo.answer(data, now):
            return self._answered(Delivery(self.numbering.name, None))
        rows = self.wire.message(data)
        return self.numbering.delivery(rows, self.wire.names, self.wire.has_names, now)

    def _answered(self, delivery: Delivery) -> Delivery:
        """A delivery with the answers that came up to it."""
        if not self.echo.is_on:
            return delivery
        trips, refused = self.echo.trips(self.numbering.scale), self.echo.refused()
        return replace(delivery, echoes=trips, refused=refused + Counter(delivery.refused))

    def end(self) -> Delivery:
        """A connection ended."""
        self.numbering.break_here()
        return Delivery(self.numbering.name, None, refused=self.wire.end())


class Backoff:
    """Pauses between attempts: longer and longer, never all senders at once."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_S

    def next(self) -> float:
        """How long to wait, in seconds."""
        pause = self._pause * random.uniform(0.8, 1.2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return pause

    def reset(self) -> None:
        """An attempt went well."""
        self._pause = FIRST_PAUSE_S


def connected(name: str, address: Address, times: int) -> Event:
    """A source is there, or there again."""
    kind = "connected" if times <= 1 else "connected again"
    return Event(name, time.time(), kind, f"{address.shown}: {kind}")


def disconnected(name: str, address: Address, reason: str) -> Event:
    """A source is gone."""
    text = f"{address.shown}: {reason}; trying again"
    return Event(name, time.time(), "disconnected", text)


def source_name(options: Options, address: Address) -> str:
    """The name that is part of the key of every sample: given, or the address."""
    return options.text("name", address.shown)
