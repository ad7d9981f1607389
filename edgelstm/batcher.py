"""Frames of many streams, gathered for a moment and fed to the model in one native step (asyncio).

```python
streams = artifact.session(streams=1000, threads=2)
async with Batcher(streams, wait_ms=2) as batcher:
    result = await batcher.step(17, frame)          # one frame of stream 17, and what came of it
    batcher.feed(18, frame)                         # or: results of all streams, batch by batch
    async for batch in batcher.batches():
        print(batch.streams, batch.outputs, batch.refused)
```
Frames come in any order. A native step takes at most one frame of each stream; further ones wait in
its queue. It begins when every active stream has a frame, or `wait_ms` after the first one came.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import OverrunError, RefusedStreamsError, StreamError
from edgelstm.gathered_frames import Gathered, Waiting, converted
from edgelstm.latency import LatencyHistogram
from edgelstm.samples import Frame, Result
from edgelstm.sessions.clocks import News
from edgelstm.snapshot import Snapshot
from edgelstm.stream_set import StreamSet

Array = NDArray[Any]
Overload = Literal["refuse", "drop-oldest", "wait"]
"""What happens to a frame whose stream's queue is full: it is refused; the oldest one in the queue
is given up for it; or its `step` waits for room (and `feed` refuses)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one native step gave.

    Args:
        streams: whose frames were fed, in order.
        outputs: what the model said, `(len(streams), *output)`, one array or a dict by name.
        news: which rows of each output are new, see `StreamSet.news`; empty: all.
        refused: the streams whose frames were refused, and why; their outputs are zeros.
        latencies_s: from `feed` to now, of each stream.
    """

    streams: NDArray[np.intp]
    outputs: Result
    refused: Mapping[int, StreamError]
    latencies_s: NDArray[np.float64]
    news: News


@dataclass(frozen=True, slots=True)
class BatcherCounts:
    """What a batcher has done so far.

    Args:
        frames: taken in.
        results: frames that went through the model.
        refused: frames that the model did not take.
        overrun: frames refused or given up because their stream's queue was full.
        left: frames given up because their stream left.
        batches: native steps.
        fill: mean share of the active streams that had a frame in a step.
        p50_s, p99_s, largest_s: latencies from frame to result.
    """

    frames: int
    results: int
    refused: int
    overrun: int
    left: int
    batches: int
    fill: float
    p50_s: float
    p99_s: float
    largest_s: float


class Batcher:
    """Gathers frames of the streams of a set; belongs to one event loop.

    Args:
        streams: the set; it must not be used otherwise meanwhile.
        wait_ms: how long the first frame of a step waits for others at most.
        queue: frames of a stream that may wait behind the one that is fed next.
        overload: what happens to more.

    Raises:
        ValueError: a negative wait, a negative queue or an unknown policy.
    """

    def __init__(
        self,
        streams: StreamSet,
        *,
        wait_ms: float = 2.0,
        queue: int = 4,
        overload: Overload = "refuse",
    ) -> None:
        if wait_ms < 0 or queue < 0 or overload not in ("refuse", "drop-oldest", "wait"):
            raise ValueError(f"wait_ms={wait_ms}, queue={queue}, overload={overload!r}")
        self._set = streams
        self._specs = streams.signature.inputs
        self._wait_s, self._most, self._overload = wait_ms / 1000, queue, overload
        count = len(streams)
        self._queues: list[deque[Waiting]] = [deque() for _ in range(count)]
        self._next, self._fed = (Gathered(self._specs, count) for _ in range(2))
        self._is_active: list[bool] = streams.active.tolist()
        self._active = sum(self._is_active)
        self._clock = time.monotonic
        self._alarm: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._readers: list[asyncio.Queue[Batch | None]] = []
        self._pool = ThreadPoolExecutor(1, "edgelstm-batcher")
        self._failure: BaseException | None = None
        self._closed = False
        self._latencies = LatencyHistogram()
        self._counts = dict.fromkeys(("frames", "results", "refused", "overrun", "left"), 0)
        self._batches, self._fill = 0, 0.0

    @property
    def counts(self) -> BatcherCounts:
        """What was done so far."""
        quantile = self._latencies.quantile_s
        return BatcherCounts(
            **self._counts,
            batches=self._batches,
            fill=self._fill / self._batches if self._batches else 0.0,
            p50_s=quantile(0.5),
            p99_s=quantile(0.99),
            largest_s=self._latencies.largest_s,
        )

    async def step(self, stream: int, frame: Frame) -> Result:
        """Feed one frame of a stream, and wait for what the model says after it.

        Returns:
            As `Session.step`: None in place of an output that has nothing new.

        Raises:
            OverrunError: the stream's queue is full, or the frame was given up for a newer one.
            StreamError: the model does not take the frame; the state of the stream is as before.
        """
        loop = asyncio.get_running_loop()
        if self._overload == "wait":
            async with self._changed:
                await self._changed.wait_for(lambda: self._has_room(stream) or self._closed)
        future: asyncio.Future[Result] = loop.create_future()
        self._take(stream, frame, future)
        return await future

    def feed(self, stream: int, frame: Frame) -> None:
        """Feed one frame of a stream; what comes of it stands in one of the `batches`.

        Raises:
            OverrunError: the stream's queue is full.
            StreamError: it is no frame of the model, or the stream is not active.
        """
        self._take(stream, frame, None)

    async def batches(self) -> AsyncIterator[Batch]:
        """The results of all streams from now on, step by step, until the batcher is closed."""
        reader: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._readers.append(reader)
        try:
            while (batch := await reader.get()) is not None:
                yield batch
        finally:
            self._readers.remove(reader)

    async def join(self) -> int:
        """Take a free place; see `StreamSet.join`."""
        async with self._turn:
            place = self._set.join()
            self._is_active[place] = True
            self._active += 1
            return place

    async def leave(self, stream: int) -> None:
        """Give a place back; frames of the stream that are still waiting are given up."""
        async with self._turn:
            self._set.leave(stream)
            self._active -= self._is_active[stream]
            self._is_active[stream] = False
            given_up = [waiting.future for waiting in self._queues[stream]]
            self._queues[stream].clear()
            if stream in self._next.futures:
                given_up.insert(0, self._next.futures.pop(stream))
            for future in given_up:
                self._counts["left"] += 1
                _fail(future, StreamError(f"stream {stream} left before its frame was fed"))
            self._ring_if_full()
        await self._tell()

    async def finish(self, stream: int) -> Result:
        """What still comes of a stream that is over; see `StreamSet.finish`."""
        return await self._quiet(stream, lambda: self._set.finish(stream))

    async def reset(self, stream: int, layers: Iterable[str] | None = None) -> None:
        """Begin a new stream at a place, once its frames that came before are through.

        Args:
            stream: which.
            layers: only the states of these layers, see `Session.reset`.
        """
        await self._quiet(stream, lambda: self._set.reset(stream, layers))

    async def snapshot(self, stream: int) -> Snapshot:
        """The state of a stream, once its frames that came before are through."""
        snapshot: Snapshot = await self._quiet(stream, lambda: self._set.snapshot(stream))
        return snapshot

    async def restore(self, stream: int, snapshot: Snapshot | bytes) -> None:
        """Let a stream continue elsewhere, once its frames that came before are through."""
        await self._quiet(stream, lambda: self._set.restore(stream, snapshot))

    async def drain(self) -> None:
        """Wait until no frame is waiting."""
        is_through = False
        while not is_through and self._failure is None:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: not self._next.futures or self._failure is not None
                )
            async with self._turn:  # behind a native step that is on its way
                is_through = not self._next.futures
        if self._failure is not None:
            raise self._failure

    async def aclose(self) -> None:
        """Feed what is waiting, then end; the set stays open."""
        if self._closed:
            return
        try:
            await self.drain()
        finally:
            self._closed = True
            if self._task is not None:
                self._due.set()
                await self._task
            if self._alarm is not None:
                self._alarm.cancel()
            for reader in self._readers:
                reader.put_nowait(None)
            self._pool.shutdown(wait=True)
            await self._tell()

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _take(self, stream: int, frame: Frame, future: asyncio.Future[Result] | None) -> None:
        if self._closed or self._failure is not None:
            raise StreamError("the batcher is closed") from self._failure
        if not (0 <= stream < len(self._is_active) and self._is_active[stream]):
            raise StreamError(f"stream {stream} is not active: join() gives the number of one")
        gathered = self._next
        if stream not in gathered.futures:
            gathered.take(stream, frame, self._clock(), future)
            self._counts["frames"] += 1
            count = len(gathered.futures)
            if count == 1:
                self._start(gathered.since_s[stream])
            if count >= self._active:
                self._due.set()
            return
        queue = self._queues[stream]
        arrays = [array.copy() for array in converted(frame, self._specs)]
        if len(queue) >= self._most:
            self._counts["overrun"] += 1
            full = OverrunError(
                f"stream {stream} has {len(queue)} frames waiting behind the one that is fed next: "
                "frames come faster than they are fed"
            )
            if self._overload != "drop-oldest" or not queue:
                raise full
            _fail(queue.popleft().future, full)
        self._counts["frames"] += 1
        queue.append(Waiting(arrays, self._clock(), future))

    def _has_room(self, stream: int) -> bool:
        return stream not in self._next.futures or len(self._queues[stream]) < self._most

    def _start(self, since_s: float) -> None:
        """The first frame of a step came then."""
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._work())
        if self._alarm is not None:
            self._alarm.cancel()
        left_s = since_s + self._wait_s - self._clock()
        self._alarm = loop.call_later(max(0.0, left_s), self._due.set)

    def _ring_if_full(self) -> None:
        if self._next.futures and len(self._next.futures) >= self._active:
            self._due.set()

    async def _work(self) -> None:
        """Native steps, one after another, whenever one is due."""
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                if self._next.futures:
                    async with self._turn:
                        await self._feed_next()
                    await self._tell()
                elif self._closed:
                    return
        except BaseException as exc:
            self._failure = exc
            waiting = [each.future for queue in self._queues for each in queue]
            for future in (*self._fed.futures.values(), *self._next.futures.values(), *waiting):
                _fail(future, StreamError(f"the batcher failed: {exc}"))
            await self._tell()
            if not isinstance(exc, Exception):
                raise

    async def _feed_next(self) -> None:
        if not self._next.futures:
            return
        self._fed, self._next = self._next, self._fed
        fed, following = self._fed, self._next
        following.futures.clear()
        # Frames that wait in queues are the next ones; those that come meanwhile follow them.
        for stream in fed.futures:
            if self._queues[stream]:
                waiting = self._queues[stream].popleft()
                frame = {s.name: a for s, a in zip(self._specs, waiting.frame, strict=True)}
                following.take(stream, frame, waiting.since_s, waiting.future)
        if following.futures:
            self._start(min(following.since_s[stream] for stream in following.futures))
            self._ring_if_full()
        places = np.fromiter(fed.futures, np.intp, len(fed.futures))
        chosen = np.zeros(len(self._is_active), np.bool_)
        chosen[places] = True
        loop = asyncio.get_running_loop()
        result, refused = await loop.run_in_executor(self._pool, self._run, fed.rooms, chosen)
        latencies_s = self._clock() - np.array(fed.since_s)[places]
        self._batches += 1
        self._fill += len(places) / max(1, self._active)
        self._counts["refused"] += len(refused)
        self._counts["results"] += len(places) - len(refused)
        self._latencies.add(latencies_s)
        self._deliver(fed.futures, places, result, refused, latencies_s)
        fed.futures.clear()

    def _run(
        self, rooms: list[Array], chosen: NDArray[np.bool_]
    ) -> tuple[Result, Mapping[int, StreamError]]:
        """The native step, in the thread of the batcher."""
        frames = {spec.name: room for spec, room in zip(self._specs, rooms, strict=True)}
        try:
            return self._set.step(frames if len(rooms) > 1 else rooms[0], only=chosen), {}
        except RefusedStreamsError as exc:
            return exc.outputs, exc.refused

    def _deliver(
        self,
        futures: Mapping[int, asyncio.Future[Result] | None],
        places: NDArray[np.intp],
        result: Result,
        refused: Mapping[int, StreamError],
        latencies_s: NDArray[np.float64],
    ) -> None:
        news = self._set.news

        def rows(which: Any) -> Any:
            if isinstance(result, dict):
                return {name: array[which] for name, array in result.items()}
            return result[which]

        def new_rows(stream: int) -> Result:
            found = rows(stream)
            if not isinstance(found, dict):
                return None if not all(new[stream] for new in news.values()) else found
            return {
                name: None if name in news and not news[name][stream] else row
                for name, row in found.items()
            }

        for stream, future in futures.items():
            if future is None or future.done():
                continue
            if stream in refused:
                future.set_exception(refused[stream])
            else:
                future.set_result(new_rows(stream))
        if self._readers:
            news_of = {name: new[places] for name, new in news.items()}
            batch = Batch(places, rows(places), refused, latencies_s, news_of)
            for reader in self._readers:
                reader.put_nowait(batch)

    async def _quiet(self, stream: int, act: Callable[[], Any]) -> Any:
        """Do something with a stream that has no frame waiting."""
        while True:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: stream not in self._next.futures or self._closed
                )
            async with self._turn:
                if stream not in self._next.futures or self._closed:
                    return act()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _fail(future: asyncio.Future[Result] | None, error: StreamError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
