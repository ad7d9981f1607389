"""What waits for a peer that may be away, such as a broker: bounded, and nothing goes uncounted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

MOST_WAITING = 10_000
"""Items that wait at most; the oldest make room, since nobody waits for a peer."""


class Outbox(Generic[Item]):
    """Items in their order, until a task of its own has delivered them.

    Args:
        lost_as: reason under which items are counted that the peer did not get.
        last_wait_s: what is left at the end is delivered for so long.
    """

    def __init__(self, lost_as: str, last_wait_s: float) -> None:
        self._lost_as = lost_as
        self._last_wait_s = last_wait_s
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._next = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_ending = False
        self._lost: Counter[str] = Counter()
        self.trouble = ""
        """See `LiveSink.trouble`; whoever delivers says it."""

    @property
    def lost(self) -> Mapping[str, int]:
        """Items that the peer did not get, or did not take."""
        return self._lost

    @property
    def is_over(self) -> bool:
        """Whether all is delivered, and nothing follows."""
        return self._is_ending and not self._items

    def start(self, deliver: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin to deliver: the call returns when `is_over`."""
        self._task = asyncio.create_task(deliver())

    def put(self, item: Item) -> None:
        """Take an item."""
        if len(self._items) >= MOST_WAITING:
            self._items.popitem(last=False)
            self._lost[self._lost_as] += 1
        self._items[self._next] = item
        self._next += 1
        self._news.set()

    async def oldest(self, most: int) -> Mapping[int, Item]:
        """Wait for items; the first ones by their number, and none where nothing follows."""
        while not self._items and not self._is_ending:
            self._news.clear()
            await self._news.wait()
        return dict(islice(self._items.items(), most))

    def done(self, number: int, lost_as: str = "") -> None:
        """The peer has an item, or refused it for good, which is counted under that reason.

        It may be gone already: there was no room for it.
        """
        if self._items.pop(number, None) is not None and lost_as:
            self._lost[lost_as] += 1

    async def close(self) -> None:
        """Deliver what waits, as far as the peer is there."""
        task, self._task = self._task, None
        if task is None:
            return
        self._is_ending = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), self._last_wait_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._items:
            self._lost[self._lost_as] += len(self._items)
            self._items.clear()
