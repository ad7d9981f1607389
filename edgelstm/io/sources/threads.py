"""Readers that block, in a thread of their own: what they get arrives in the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

AHEAD = 64
"""Items that a thread may be ahead of the loop."""


class ThreadReader(Generic[Item]):
    """Calls a function that blocks, again and again.

    Args:
        read: gives the next item, or None at the end; called in the thread.
        name: of the thread.
    """

    def __init__(self, read: Callable[[], Item | None], name: str) -> None:
        self._read = read
        self._name = name
        self._room = threading.Semaphore(AHEAD)
        self._is_stopped = threading.Event()

    async def items(self) -> AsyncIterator[Item]:
        """All items in order; what `read` raises is raised here."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[Item | None, BaseException | None]] = asyncio.Queue()

        def hand_on(item: Item | None, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(queue.put_nowait, (item, error))
            except RuntimeError:
                self._is_stopped.set()  # the loop has ended

        def work() -> None:
            while not self._is_stopped.is_set():
                if not self._room.acquire(timeout=0.5):
                    continue
                try:
                    item = self._read()
                except BaseException as exc:
                    hand_on(None, exc)
                    return
                hand_on(item, None)
                if item is None:
                    return

        # A thread that waits for a byte that never comes must not keep the program from ending.
        threading.Thread(target=work, name=self._name, daemon=True).start()
        try:
            while True:
                item, error = await queue.get()
                self._room.release()
                if error is not None:
                    raise error
                if item is None:
                    return
                yield item
        finally:
            self._is_stopped.set()
            self._room.release()
