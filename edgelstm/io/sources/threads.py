"""Readers that block, in a thread of their own: what they get arrives in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Generic, TypeVar

Item = TypeVar("Item")

AHEAD = 64
"""Items that a thread may be ahead of the loop."""

END_S = 1.0
"""A thread that waits for a byte that never comes ends with the program."""


class ThreadReader(Generic[Item]):
    """Runs a generator that blocks, in a thread that begins and closes it.

    What the generator holds open is closed in that thread, as soon as nobody reads on.

    Args:
        source: gives the items; None where it only looks whether it should go on.
        name: of the thread.
    """

    def __init__(self, source: Generator[Item | None, None, None], name: str) -> None:
        self._source = source
        self._name = name
        self._room = threading.Semaphore(AHEAD)
        self._is_stopped = threading.Event()

    async def items(self) -> AsyncGenerator[Item, None]:
        """All items in order; what the generator raises is raised here."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Item | BaseException | None] = asyncio.Queue()
        is_done = asyncio.Event()

        def work() -> None:
            end: BaseException | None = None
            try:
                with contextlib.closing(self._source):
                    for item in self._source:
                        if item is not None:
                            loop.call_soon_threadsafe(queue.put_nowait, item)
                            self._room.acquire()
                        if self._is_stopped.is_set():
                            break
            except BaseException as exc:
                end = exc
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, end)
                loop.call_soon_threadsafe(is_done.set)
            del end  # its trace holds this frame

        # A thread that waits for a byte that never comes must not keep the program from ending.
        threading.Thread(target=work, name=self._name, daemon=True).start()
        try:
            while True:
                item = await queue.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                self._room.release()
                yield item
        finally:
            self._is_stopped.set()
            self._room.release()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_done.wait(), END_S)
