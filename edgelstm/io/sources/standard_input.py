"""`stdin:`: what another program writes, as it comes."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing

from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.predictions import Event
from edgelstm.io.sources.reading import Format, Sensor
from edgelstm.io.sources.threads import ThreadReader

_CHUNK = 65536
_LOOK_S = 0.2
"""A reader that waits looks so often whether anybody still reads."""


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

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes, until the writer closes."""
        self._reader.wire.begin(is_cut=False)

        async with aclosing(ThreadReader(self._read(), "standard input").items()) as items:
            async for data, now in items:
                yield self._reader.feed(data, now)
        # The last line needs no end.
        yield self._reader.feed(b"\n", time.monotonic())
        yield self._reader.end()

    def _read(self) -> Generator[tuple[bytes, float] | None, None, None]:
        while True:
            # What comes behind the end of the run is for whoever reads next; Windows cannot ask.
            if os.name == "posix" and not select.select([self._descriptor], [], [], _LOOK_S)[0]:
                yield None
                continue
            data = os.read(self._descriptor, _CHUNK)
            if not data:
                return
            yield data, time.monotonic()
