"""`file:walk.csv`: a recording as if it came from its sensor, at its pace or as fast as it goes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import ExitStack, aclosing

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError
from edgelstm.io.address import Address, Options
from edgelstm.io.base import Batch, Recording
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.files import FORMATS
from edgelstm.io.files import open_source as open_recording
from edgelstm.io.live import Channels, Delivery, SourceContext
from edgelstm.io.numbering import GROUP, likely_scale
from edgelstm.io.predictions import Event
from edgelstm.io.sources.tables import TABLES, open_table
from edgelstm.io.sources.threads import ThreadReader
from edgelstm.io.watch import time_unit
from edgelstm.signature import Signature, TensorSpec

_TICK_S = 0.005
"""Samples of a replay in real time come together when they are due within so long."""

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def open_source(address: Address, context: SourceContext) -> ReplayFile:
    """The source of an address.

    Raises:
        RecordingError: an option is wrong, or there is no such file.
        TargetUnavailableError: the package that reads the format is not installed.
    """
    return ReplayFile(address, context)


class ReplayFile:
    """Samples of a recording.

    Args:
        address: `file:PATH`.
        context: of the run.
    """

    is_replay = True
    can_wait = True
    is_many = False
    is_on_our_clock = False
    has_echo = False

    def __init__(self, address: Address, context: SourceContext) -> None:
        options = Options(address)
        self._path = address.path
        self._context = context
        self.name = options.text("name", os.path.basename(address.path))
        self._is_realtime = options.flag("realtime", context.is_realtime)
        self._speed = options.number("speed", context.speed)
        self._format = options.choice("format", (*FORMATS, *TABLES, ""), "")
        self._columns = options.names("columns")
        self._has_header = options.flag("header", True)
        self._repeat = options.integer("repeat", 1, low=1, high=1 << 30)
        options.finish()
        if not self._speed:
            raise RecordingError(f"{address.text}: speed is 0, and nothing would ever come")
        if not os.path.exists(self._path):
            raise RecordingError(f"cannot read {self._path}: there is no such file")
        if not context.is_alone and not self._columns:
            raise RecordingError(
                f"{self._path}: several sources feed the model, so say which columns this one "
                "gives: file:...?columns=A,B,..."
            )
        self._source: Recording | None = None
        self._done = 0.0
        self._scale: float | None = None

    @property
    def progress(self) -> float | None:
        """How much of the file has been read."""
        if self._source is None or not self._source.total:
            return None
        return min(self._done / self._source.total, 1.0)

    async def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """All samples, once or as often as asked for."""
        pace = _Pace(self._speed, self._context.rate_hz) if self._is_realtime else None
        reader = ThreadReader(self._deliveries(), f"replay {self.name}")
        async with aclosing(reader.items()) as items:
            async for delivery, done in items:
                block = delivery.block
                if pace is None or block is None:
                    self._done = done
                    now = time.monotonic()
                    yield delivery if block is None else _arrived(delivery, block, now)
                    continue
                before, played = self._done, 0
                async for part in pace.parts(block):
                    played += len(part)
                    self._done = before + (done - before) * played / len(block)
                    yield dataclasses.replace(delivery, block=part)

    def _deliveries(self) -> Generator[tuple[Delivery, int], None, None]:
        first, shift = 0, 0.0
        for _ in range(self._repeat):
            end = shift
            for delivery, done in self._once():
                block = delivery.block
                if block is not None:
                    if first or shift:
                        block = dataclasses.replace(
                            block, sequence=block.sequence + first, stamps=block.stamps + shift
                        )
                        faults = {number + first: why for number, why in delivery.faults.items()}
                        delivery = dataclasses.replace(delivery, block=block, faults=faults)
                    last = int(block.sequence[-1])
                    end = float(block.stamps[-1])
                yield delivery, done
            first, shift = last + 1, end + 1 / (self._context.rate_hz or 1.0)

    def _once(self) -> Iterator[tuple[Delivery, int]]:
        """The file from beginning to end; it is closed in between."""
        with ExitStack() as stack:
            yield from self._opened(stack)

    def _opened(self, stack: ExitStack) -> Iterator[tuple[Delivery, int]]:
        kind = self._format or os.path.splitext(self._path)[1].lower().lstrip(".")
        if kind in TABLES:
            for delivery in open_table(kind, self._path, self._columns, self._context):
                yield delivery, 0
            return
        context = self._context
        signature, described = context.signature, context.description.names(context.signature)
        columns = self._columns or context.columns
        if not context.is_alone:
            signature, described = _one_group(signature, len(columns)), ()
        source = stack.enter_context(
            open_recording(
                self._path,
                signature,
                self._format or None,  # type: ignore[arg-type]
                columns,
                has_header=self._has_header,
                described=described,
            )
        )
        self._source = source
        first = 0
        for batch in source.batches():
            if len(batch):
                yield self._delivery(batch, first, source), source.done
                first += len(batch)

    def _delivery(self, batch: Batch, first: int, source: Recording) -> Delivery:
        n = len(batch)
        flags = np.zeros(n, np.uint8)
        flags[list(batch.faults)] = SampleFlag.INVALID
        block = Block(
            batch.frames,
            self._stamps(batch, source.time_name),
            np.zeros(n),
            np.arange(first, first + n),
            flags,
        )
        faults = {first + i: fault.reason for i, fault in batch.faults.items()}
        if not self._context.is_alone:
            names = tuple(source.mapping[GROUP])
            channels = Channels(names, is_stamped=source.time_name is not None)
            return Delivery("", block, channels, faults)
        return Delivery("", block, None, faults, mapping=source.mapping)

    def _stamps(self, batch: Batch, name: str | None) -> NDArray[np.float64]:
        if batch.times is None:
            return np.full(len(batch), np.nan)
        times = np.asarray(batch.times, np.float64)
        if self._scale is None:
            unit = time_unit(name or "")
            self._scale = _UNITS[unit] if unit else likely_scale(times, self._context.rate_hz)
        return times * (self._scale or 1.0)


class _Pace:
    """Lets the samples of a recording go at the distances that they were recorded at.

    Args:
        speed: that many times faster.
        rate_hz: where there are no stamps.
    """

    def __init__(self, speed: float, rate_hz: float | None) -> None:
        self._speed = speed
        self._rate = rate_hz
        self._start: float | None = None
        self._first = 0.0

    async def parts(self, block: Block) -> AsyncIterator[Block]:
        """The block in the pieces in which it comes."""
        stamps = block.stamps
        if not np.isfinite(stamps).all():
            if self._rate is None:
                raise RecordingError(
                    "the recording has no time stamps, and nobody says its rate: --rate HZ"
                )
            stamps = block.sequence / self._rate
        if self._start is None:
            self._start, self._first = time.monotonic(), float(stamps[0])
        due = self._start + (np.maximum.accumulate(stamps) - self._first) / self._speed
        at = 0
        while at < len(block):
            now = time.monotonic()
            if due[at] > now:
                await asyncio.sleep(due[at] - now)
                now = max(time.monotonic(), float(due[at]))
            end = int(np.searchsorted(due, now + _TICK_S / 10, side="right"))
            end = max(end, at + 1)
            part = block.part(slice(at, end))
            yield dataclasses.replace(part, arrival=np.full(end - at, now))
            at = end


def _arrived(delivery: Delivery, block: Block, now: float) -> Delivery:
    return dataclasses.replace(
        delivery, block=dataclasses.replace(block, arrival=np.full(len(block), now))
    )


def _one_group(signature: Signature, columns: int) -> Signature:
    """A signature whose only input is a group of columns."""
    spec = TensorSpec(GROUP, DType.F64, (columns,), 0, (1, columns), time_axis=0)
    return dataclasses.replace(
        signature, inputs=(spec,), input_bytes=8 * columns, rate_hz=signature.rate_hz
    )
