"""`lsl:name=IMU`: a stream of the lab streaming layer, by pylsl, on this machine's clock."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.live import Channels, Delivery, SourceContext
from edgelstm.io.numbering import GROUP
from edgelstm.io.predictions import Event
from edgelstm.io.sources.reading import Sensor, connected, disconnected
from edgelstm.io.sources.threads import ThreadReader

_LOOK_S = 1.0
_WAIT_S = 0.2
_ANSWER_S = 10.0
_MOST_SAMPLES = 1024
_KEYS = ("name", "type", "source_id", "hostname", "uid")


def open_source(address: Address, context: SourceContext) -> LslSource:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong.
        TargetUnavailableError: pylsl, or the library behind it, is not installed.
    """
    return LslSource(address, context)


class LslSource(Sensor):
    """Samples of one LSL stream: stamps are brought to this machine's clock by the library.

    Args:
        address: `lsl:name=NAME`, `lsl:type=EMG&source_id=ID`.
        context: of the run.
    """

    is_on_our_clock = True

    def __init__(self, address: Address, context: SourceContext) -> None:
        del context
        self._address = address
        wanted = dict(parse_qsl(address.path, keep_blank_values=True))
        unknown = [key for key in wanted if key not in _KEYS]
        if not wanted or unknown:
            raise RecordingError(
                f"{address.text}: say which stream, by {', '.join(_KEYS)}: lsl:name=IMU"
            )
        options = Options(address)
        self.name = options.text("name", next(iter(wanted.values())))
        self._columns = options.names("columns")
        self._has_backlog = options.flag("backlog")
        self._is_dejittered = options.flag("dejitter", True)
        options.finish()
        self._wanted = wanted
        self._pylsl = load_extra("pylsl", "lsl", "LSL streams")
        self._channels = Channels(())
        self._next = 0
        self._is_gap = False
        self._shift = 0.0

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes; a stream that goes away is looked for again."""
        reader: ThreadReader[Delivery | Event] = ThreadReader(self._read(), f"lsl {self.name}")
        async with aclosing(reader.items()) as items:
            async for item in items:
                yield item

    def _read(self) -> Generator[Delivery | Event | None, None, None]:
        """What comes, in the reader's thread; None while nothing does."""
        times, is_said = 0, False
        while True:
            inlet = self._connect()
            if inlet is None:
                missing = disconnected(self.name, self._address, "there is no such stream yet")
                yield None if is_said else missing
                is_said = True
                continue
            times, is_said = times + 1, True
            try:
                yield connected(self.name, self._address, times)
                while True:
                    yield self._pull(inlet)
            except self._pylsl.util.LostError as exc:
                self._is_gap = True
                yield disconnected(self.name, self._address, str(exc) or "the stream is gone")
            finally:
                inlet.close_stream()

    def _connect(self) -> Any | None:
        """The stream as it begins to come; None while there is none."""
        lsl = self._pylsl
        predicate = " and ".join(f"{key}={_quoted(value)}" for key, value in self._wanted.items())
        found = lsl.resolve_bypred(predicate, 1, _LOOK_S)
        if not found:
            return None
        info = found[0]
        if info.channel_format() == lsl.cf_string:
            raise RecordingError(f"{self._address.shown}: the stream holds text, not numbers")
        flags = lsl.proc_clocksync | lsl.proc_monotonize
        if self._is_dejittered:
            flags |= lsl.proc_dejitter
        inlet = lsl.StreamInlet(info, max_buflen=60, recover=False, processing_flags=flags)
        try:
            inlet.open_stream(_ANSWER_S)
            full = inlet.info(_ANSWER_S)
        except (lsl.util.TimeoutError, lsl.util.LostError):
            return None  # it went away while it was found
        names = self._columns or _labels(full)
        has_names = len(names) == full.channel_count()
        if self._columns and not has_names:
            raise RecordingError(
                f"{self._address.shown}: the stream has {full.channel_count()} channels, and "
                f"columns= names {len(self._columns)}"
            )
        count = full.channel_count()
        self._channels = Channels(names if has_names else tuple(map(str, range(count))), has_names)
        if not self._has_backlog:
            inlet.flush()
        # Stamps are by the library's clock, which is the monotonic one with another zero.
        self._shift = time.monotonic() - lsl.local_clock()
        return inlet

    def _pull(self, inlet: Any) -> Delivery | None:
        first, stamp = inlet.pull_sample(_WAIT_S)
        if first is None:
            return None
        rest, stamps = inlet.pull_chunk(0.0, _MOST_SAMPLES)
        values = np.array([first, *rest], np.float64)
        n = len(values)
        now = time.monotonic()
        flags = np.zeros(n, np.uint8)
        if self._is_gap:
            flags[0] = SampleFlag.AFTER_GAP
            self._is_gap = False
        block = Block(
            {GROUP: values},
            np.array([stamp, *stamps]) + self._shift,
            np.full(n, now),
            np.arange(self._next, self._next + n),
            flags,
        )
        self._next += n
        return Delivery("", block, self._channels)


def _labels(info: Any) -> tuple[str, ...]:
    """Names of the channels, as the sender describes them; () where it does not."""
    names = []
    channel = info.desc().child("channels").child("channel")
    while not channel.empty():
        names.append(channel.child_value("label") or channel.child_value("name"))
        channel = channel.next_sibling("channel")
    return tuple(names) if all(names) else ()


def _quoted(value: str) -> str:
    """A text in XPath, which has no escapes."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise RecordingError(f"lsl: {value!r} holds both kinds of quotes")
