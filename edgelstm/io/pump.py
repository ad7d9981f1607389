"""The pipeline: sources, their queues, streams through the model, sinks; all in one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace

from edgelstm.errors import OutputError
from edgelstm.io.checkpoint import Checkpoint
from edgelstm.io.counters import Counters
from edgelstm.io.inlet import Inlet, Ready
from edgelstm.io.lane import Lane
from edgelstm.io.live import Delivery, LiveSink, LiveSource
from edgelstm.io.predictions import (
    NO_PREDICTION,
    OUTPUT_AGAIN,
    OUTPUT_STUCK,
    PREDICTION_AGAIN,
    Event,
    Predictions,
)
from edgelstm.io.settings import QUEUE_SAMPLES, QueuePolicy
from edgelstm.io.sinks.store.sink import StoreSink
from edgelstm.pace import Pace
from edgelstm.watchdog import Watchdog

SINK_ROWS = 100_000
"""Rows that a sink may have waiting before the pipeline waits for it."""

_TURN_S = 0.005
"""Time after which others in the event loop have their turn."""

_FEW = 64
"""Samples that are fed at once, where nothing waits."""

_PAUSE_S = 0.001
"""A source that gave nothing for so long has let others have their turn."""

_POLL_S = 0.05
_LAST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """How the pipeline runs.

    Args:
        queue_samples: that each source may have waiting.
        queue_policy: for more; None: senders wait if they can, others lose their oldest.
        silence_s: without a sample for so long, there is no prediction; 0: never said.
    """

    queue_samples: int = QUEUE_SAMPLES
    queue_policy: QueuePolicy | None = None
    silence_s: float = 2.0


@dataclass(slots=True)
class Pump:
    """One run.

    Args:
        sources: with the name of the stream each one feeds.
        sinks: each gets everything.
        make_lane: for a stream that is new: its name, whether it is a replay, its counters.
        options: how.
        said: called with each event.
        fused: the stream of each source that feeds it together with others.
        watchdog: told that the run is alive while its loop goes round.
    """

    sources: Sequence[LiveSource]
    sinks: Sequence[LiveSink]
    make_lane: Callable[[str, bool, Counters], Lane]
    options: PumpOptions = field(default_factory=PumpOptions)
    said: Callable[[Event], None] = lambda event: None
    watchdog: Watchdog = field(default_factory=Watchdog)
    fused: Mapping[str, str] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    is_interrupted: bool = False
    """Whether the run was ended before its recordings were."""
    _ready: Ready = field(init=False)
    _silent: set[str] = field(default_factory=set)
    _stuck: set[str] = field(default_factory=set)
    _begun_at: dict[str, float] = field(default_factory=dict)
    _counters: dict[str, Counters] = field(default_factory=dict)
    _stop: asyncio.Event = field(init=False)
    _pace: Pace = field(default_factory=Pace)
    _at_once_since: float = 0.0
    _at_once_until: float = 0.0
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def store(self) -> StoreSink | None:
        """The sink that streams are resumed from."""
        return next((sink for sink in self.sinks if isinstance(sink, StoreSink)), None)

    def stop(self) -> None:
        """End gracefully: what has come is predicted and delivered, nothing more is read."""
        self._stop.set()

    async def run(self) -> None:
        """Run until all sources end, or `stop` is called.

        Raises:
            EdgeLSTMError: a source or sink cannot be used; what was predicted is delivered.
        """
        self._ready, self._stop = Ready(), asyncio.Event()
        opened: list[LiveSink] = []
        try:
            for sink in self.sinks:
                await sink.open()
                opened.append(sink)
            self.watchdog.ready("running")
            await self._run()
        finally:
            self.watchdog.stopping()
            await self._close(opened)

    async def _run(self) -> None:
        for source in self.sources:
            name = self._stream_name(source, "")
            if not source.is_many and name not in self.lanes:
                await self._new_lane(name, source)
        consumer = asyncio.create_task(self._consume())
        clock = asyncio.create_task(self._tick())
        self._readers = [
            asyncio.create_task(self._read(i, source)) for i, source in enumerate(self.sources)
        ]
        stopper = asyncio.create_task(self._stop.wait())
        try:
            reading = set(self._readers)
            while reading:
                done, _ = await asyncio.wait(
                    {*reading, consumer, clock, stopper}, return_when=asyncio.FIRST_COMPLETED
                )
                if stopper in done:
                    self.is_interrupted = any(
                        source.is_replay and not task.done()
                        for source, task in zip(self.sources, self._readers, strict=True)
                    )
                    break
                for task in done:
                    task.result()  # an error of any part ends the run
                reading -= done
        finally:
            await _cancel([*self._readers, stopper])
            self._ready.end()
            try:
                await consumer
            finally:
                await _cancel([clock])

    async def _read(self, index: int, source: LiveSource) -> None:
        policy = self.options.queue_policy or (
            QueuePolicy.BLOCK if source.can_wait else QueuePolicy.DROP_OLDEST
        )

        def counters(stream: str) -> Counters:
            return self.counters(self._stream_name(source, stream))

        inlet = Inlet(index, self.options.queue_samples, policy, self._ready, counters)
        async with aclosing(source.blocks()) as blocks:
            async for item in blocks:
                if isinstance(item, Event):
                    self.tell(item)
                    if item.kind == "connected again":
                        counters("").noted["reconnects"] += 1
                elif not self._take_at_once(source, inlet, item):
                    await inlet.put(item)

    def _take_at_once(self, source: LiveSource, inlet: Inlet, delivery: Delivery) -> bool:
        """Feed a few samples while nothing waits in any queue; false where they have to queue.

        That is how samples of a sensor usually come, and it spares a change of tasks. Nothing is
        awaited here: a delivery that is begun is done.
        """
        n = 0 if delivery.block is None else len(delivery.block)
        lane = self.lanes.get(self._stream_name(source, delivery.stream))
        if not self._ready.is_idle or lane is None or not 0 < n <= min(_FEW, self._pace.steps):
            return False
        now = time.monotonic()
        if now - self._at_once_until > _PAUSE_S:
            self._at_once_since = now
        if now - self._at_once_since > _TURN_S:
            return False  # a burst: others in the event loop have their turn
        if any(sink.waiting > SINK_ROWS for sink in self.sinks):
            return False
        inlet.count(delivery)
        for _ in self._pace.stretches(n):
            self._feed(lane, delivery, source)
        self._at_once_until = time.monotonic()
        return True

    def _feed(self, lane: Lane, delivery: Delivery, source: LiveSource) -> None:
        """Samples through the model to the sinks.

        Raises:
            StreamError: one of them cannot be used, and the policy is to stop there.
        """
        self._deliver(lane.take(delivery, source.name))
        self._tell_of(lane)
        if lane.error is not None:
            raise lane.error
        if lane.name in self._silent:
            self._silent.discard(lane.name)
            self.tell(self._event(lane, PREDICTION_AGAIN, "samples come again"))

    async def _consume(self) -> None:
        pace = self._pace
        turn_ends = time.monotonic() + _TURN_S
        while (inlet := await self._ready.get()) is not None:
            delivery = inlet.get()
            if delivery is None:
                continue
            source = self.sources[inlet.source]
            name = self._stream_name(source, delivery.stream)
            lane = self.lanes.get(name) or await self._new_lane(name, source)
            if delivery.block is None:
                self._deliver(lane.take(delivery, source.name))
                self._tell_of(lane)
                continue
            n = len(delivery.block)
            lane.counters.waiting += n
            lane.counters.queued += n
            for part in pace.stretches(n):
                size = part.stop - part.start
                if any(sink.waiting > SINK_ROWS for sink in self.sinks):
                    await self._wait_for_sinks()
                lane.counters.waiting -= size
                lane.counters.queued -= size
                self._feed(lane, _part(delivery, part, n), source)
                if time.monotonic() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = time.monotonic() + _TURN_S
        for lane in self.lanes.values():
            # A stream that a store keeps goes on with the next run; a recording ends once.
            is_over = self.store is None or (lane.is_replay and not self.is_interrupted)
            self._deliver(lane.finish(is_over=is_over))
            self._tell_of(lane)

    async def _new_lane(self, name: str, source: LiveSource) -> Lane:
        lane = self.make_lane(name, source.is_replay, self.counters(name))
        self._begun_at[name] = time.monotonic()
        store = self.store
        with ExitStack() as unless_it_goes:
            unless_it_goes.callback(lane.close)
            checkpoint = None if store is None else await store.resume(name)
            if checkpoint is not None:
                text = lane.resume(checkpoint)
                self.tell(self._event(lane, "resumed", text))
            unless_it_goes.pop_all()
        self.lanes[name] = lane
        return lane

    def counters(self, name: str) -> Counters:
        """Those of a stream, from its first line on."""
        found = self._counters.get(name)
        if found is None:
            found = self._counters[name] = Counters()
        return found

    @property
    def tables(self) -> Mapping[str, Counters]:
        """The counters of all streams."""
        return self._counters

    def _deliver(self, results: Sequence[Predictions]) -> None:
        for predictions in results:
            for sink in self.sinks:
                sink.write(predictions)

    def tell(self, event: Event) -> None:
        """Tell all sinks, and whoever listens."""
        for sink in self.sinks:
            sink.tell(event)
        self.said(event)

    def _stream_name(self, source: LiveSource, stream: str) -> str:
        return self.fused.get(source.name) or stream or source.name

    def _tell_of(self, lane: Lane) -> None:
        if lane.events:
            events, lane.events = lane.events, []
            for event in events:
                self.tell(event)

    def _event(self, lane: Lane, kind: str, text: str) -> Event:
        last = lane.last_sample if kind == NO_PREDICTION and lane.last_sample >= 0 else None
        data = {} if last is None else {"last_sample": last}
        return Event(
            lane.name,
            time.time(),
            kind,
            text,
            data=data,
            model=lane.model.name,
            model_id=lane.model.model_id,
        )

    async def _wait_for_sinks(self) -> None:
        ends: float | None = None
        while slow := [sink for sink in self.sinks if sink.waiting > SINK_ROWS]:
            if self._stop.is_set():
                ends = ends or time.monotonic() + _LAST_WAIT_S
                if time.monotonic() > ends:
                    names = ", ".join(sink.name for sink in slow)
                    raise OutputError(f"{names}: takes nothing more; samples behind are not fed")
            for sink in self.sinks:
                sink.poll()
            await asyncio.sleep(_POLL_S / 10)

    async def _tick(self) -> None:
        """What happens by the clock: transactions, silences, retries."""
        store = self.store
        next_commit = time.monotonic()
        while True:
            await asyncio.sleep(_POLL_S)
            now = time.monotonic()
            self.watchdog.beat(now)
            for sink in self.sinks:
                sink.poll()
            self._watch_outputs()
            self._watch_silence(now)
            if store is not None and now >= next_commit and store.is_ready:
                store.commit(self._checkpoints(), self._counter_texts())
                next_commit = now + store.every_s

    def _watch_outputs(self) -> None:
        """Say it once when nothing leaves a sink any more, and when it goes on."""
        for sink in self.sinks:
            trouble = sink.trouble
            if bool(trouble) is (sink.name in self._stuck):
                continue
            if trouble:
                self._stuck.add(sink.name)
                kind, text = OUTPUT_STUCK, f"{sink.name}: {trouble}; trying again"
            else:
                self._stuck.discard(sink.name)
                kind, text = OUTPUT_AGAIN, f"{sink.name}: goes on"
            self.tell(Event("", time.time(), kind, text))

    def _watch_silence(self, now: float) -> None:
        limit = self.options.silence_s
        if not limit:
            return
        for name, lane in self.lanes.items():
            if lane.is_replay or name in self._silent:
                continue
            # A run that falls behind has samples that wait: nobody is silent.
            begun = self._begun_at.get(name, now)
            if min(self.counters(name).silent_s(now), now - begun) < limit:
                continue
            self._silent.add(name)
            self.counters(name).noted["silences"] += 1
            self.tell(self._event(lane, NO_PREDICTION, f"no sample for {limit:g} s"))

    def _checkpoints(self, is_clean: bool = False) -> list[Checkpoint]:
        found = (lane.checkpoint(is_clean) for lane in self.lanes.values())
        return [checkpoint for checkpoint in found if checkpoint is not None]

    def _counter_texts(self) -> dict[str, str]:
        return {name: json.dumps(lane.counters.to_json()) for name, lane in self.lanes.items()}

    async def _close(self, sinks: Sequence[LiveSink]) -> None:
        """Close what was opened, all of it, whatever happens."""
        errors: list[BaseException] = []
        for sink in sinks:
            try:
                if isinstance(sink, StoreSink):
                    await sink.settle()
                    sink.commit(self._checkpoints(is_clean=True), self._counter_texts())
                await sink.close()
            except Exception as exc:
                errors.append(exc)
        for lane in self.lanes.values():
            lane.close()
        if errors:
            raise errors[0]


def _part(delivery: Delivery, part: slice, n: int) -> Delivery:
    if part.stop - part.start == n or delivery.block is None:
        return delivery
    block = delivery.block.part(part)
    if part.start == 0:
        return replace(delivery, block=block)
    return replace(delivery, block=block, faults={}, echoes=())


async def _cancel(tasks: Sequence[asyncio.Task[object]] | Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
