"""`stdin:`: what another program writes, as it comes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator

from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.sources.reading import Format, Sensor
from edgelstm.io.sources.threads import ThreadReader

_CHUNK = 65536


def open_source(address: Address, context: SourceContext) -> StandardInput:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong, or standard input is closed.
    """
    return StandardInput(address, context)


class StandardInput(Sensor):
    """Samples that arrive on standard input; its end is the end.

    Args:
        address: `stdin:`.
        context: of the run.
    """

    can_wait = True

    def __init__(self, address: Address, context: SourceContext) -> None:
        options = Options(address)
        self.name = options.text("name", "stdin")
        self._reader = Format(options, context).reader()
        options.finish()
        if sys.stdin is None:
            raise RecordingError("standard input is closed: name another source, --input")
        self._descriptor = sys.stdin.fileno()

    async def blocks(self) -> AsyncIterator[Delivery | Event]:
        """What comes, until the writer closes."""
        self._reader.wire.begin(is_cut=False)

        def read() -> tuple[bytes, float] | None:
            data = os.read(self._descriptor, _CHUNK)
            return (data, time.monotonic()) if data else None

        async for data, now in ThreadReader(read, "standard input").items():
            yield self._reader.feed(data, now)
        # The last line needs no end.
        yield self._reader.feed(b"\n", time.monotonic())
        yield self._reader.end()
