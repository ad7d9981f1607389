"""Bounded queues behind sources: who comes too fast waits, or loses the oldest samples."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from edgelstm.io.counters import Counters
from edgelstm.io.live import Delivery
from edgelstm.io.settings import QueuePolicy

QUEUE_FULL = "queue full"


class Inlet:
    """The queue of one source.

    Args:
        source: index of the source.
        limit: samples it holds at most.
        policy: for more than that.
        ready: wakes the reader; shared by all inlets.
        counters: finds the counters of a stream of the source.
    """

    def __init__(
        self,
        source: int,
        limit: int,
        policy: QueuePolicy,
        ready: Ready,
        counters: Callable[[str], Counters],
    ) -> None:
        self.source = source
        self.policy = policy
        self._limit = limit
        self._ready = ready
        self._counters = counters
        self._queue: deque[Delivery] = deque()
        self._samples = 0
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, delivery: Delivery) -> None:
        """Take what a source delivered; its samples are counted from here on."""
        n = self.count(delivery)
        if not n and not delivery.echoes:
            return
        counters = self._counters(delivery.stream)
        counters.waiting += n
        counters.queued += n
        self._queue.append(delivery)
        self._samples += n
        self._ready.add(self)
        if self._samples <= self._limit:
            return
        if self.policy is QueuePolicy.BLOCK:
            self._room.clear()
            await self._room.wait()
            return
        while self._samples > self._limit and len(self._queue) > 1:
            oldest = self._take()
            self._counters(oldest.stream).drop(QUEUE_FULL, _samples(oldest))

    def count(self, delivery: Delivery) -> int:
        """Count what came; how many samples there are, which wait here or are fed at once."""
        counters = self._counters(delivery.stream)
        for reason, count in delivery.refused.items():
            counters.refuse(reason, count)
        n = _samples(delivery)
        if n:
            counters.seen += n
            counters.arrived = time.monotonic()
        return n

    def get(self) -> Delivery | None:
        """The oldest delivery; None where it was dropped meanwhile."""
        return self._take() if self._queue else None

    def _take(self) -> Delivery:
        delivery = self._queue.popleft()
        n = _samples(delivery)
        self._samples -= n
        counters = self._counters(delivery.stream)
        counters.waiting -= n
        counters.queued -= n
        if self._samples <= self._limit // 2 or not self._queue:
            self._room.set()
        return delivery


def _samples(delivery: Delivery) -> int:
    return 0 if delivery.block is None else len(delivery.block)


class Ready:
    """Inlets with something in them, in the order in which it came."""

    def __init__(self) -> None:
        self._inlets: deque[Inlet] = deque()
        self._event = asyncio.Event()
        self._is_ended = False
        self.is_idle = False
        """Whether the reader waits, and there is nothing in any inlet."""

    def add(self, inlet: Inlet) -> None:
        """An inlet has one delivery more."""
        self._inlets.append(inlet)
        self.is_idle = False
        self._event.set()

    def end(self) -> None:
        """Nothing will be added any more."""
        self._is_ended = True
        self._event.set()

    async def get(self) -> Inlet | None:
        """The next inlet; None at the end."""
        while not self._inlets:
            if self._is_ended:
                return None
            self._event.clear()
            self.is_idle = True
            await self._event.wait()
            self.is_idle = False
        return self._inlets.popleft()
