"""Readers in threads let go of what they hold when nobody listens any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

from edgelstm.io.sources.threads import ThreadReader

PATIENCE_S = 20.0


def test_a_reader_that_is_left_early_closes_what_it_reads() -> None:
    """In its own thread: a generator that runs cannot be closed from elsewhere."""
    closed = threading.Event()
    by: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(1 << 30)
        finally:
            by.append(threading.current_thread().name)
            closed.set()

    async def take_one() -> int:
        found = numbers()
        reader = ThreadReader(found, "counting")
        async with aclosing(reader.items()) as items:
            async for number in items:
                return number
        raise AssertionError

    assert asyncio.run(take_one()) == 0
    assert closed.wait(PATIENCE_S)
    assert by == ["counting"]
