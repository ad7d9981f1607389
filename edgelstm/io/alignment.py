"""Several sensors, or one at another rate, brought to the ticks at which a model takes samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import is_floating
from edgelstm.io.block import Array, Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.low_pass import WORTH, LowPass, design_low_pass
from edgelstm.io.tally import Tally

SILENT_S = 0.5
"""Seconds without a sample behind which a sensor is silent."""

_EXACT = 1e-6
"""Of a tick: a sample that is that near to it is the one."""


class Alignment:
    """A stage that takes blocks of named sensors and gives blocks at `k / rate_hz`.

    All stamps are by one clock and do not go back (`SensorClock`, `GapFilter`). Values are on the
    line between the samples around a tick; integers are those of the sample before it. A sensor
    that is silent, or whose sample there means nothing, makes its inputs NaN (integers 0) and the
    tick `INVALID`: it never repeats an old value, and never holds the others up longer than
    `silent_s`.

    The number of a sample is its tick, so the same recording gives the same numbers.

    Args:
        rate_hz: of the ticks.
        sensors: nominal rate of each sensor; None where it is not known. One that is faster than
            the ticks passes a low-pass first.
        silent_s: a longer time between two samples is silence.
        blank: by sensor, its frames of no sample, `(0, *frame)`: what stands for a sensor that was
            never heard.
        patience_s: how long the others wait for a sensor; `silent_s` if None. Recordings that are
            read one after the other need infinity.

    Raises:
        TargetUnavailableError: a low-pass is needed and SciPy is not installed.
    """

    def __init__(
        self,
        rate_hz: float,
        sensors: Mapping[str, float | None],
        silent_s: float = SILENT_S,
        blank: Mapping[str, Mapping[str, Array]] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.rate_hz = rate_hz
        self.tally = Tally()
        self._silent = silent_s
        self._blank = blank or {}
        self._patience = silent_s if patience_s is None else patience_s
        self._tracks = {
            name: _Track(_low_pass(rate, rate_hz, silent_s), silent_s)
            for name, rate in sensors.items()
        }
        self._next: int | None = None
        self._now = -math.inf

    @property
    def delay_s(self) -> float:
        """How much later than the samples around them ticks come out, by the low-pass."""
        return max(track.delay_s for track in self._tracks.values())

    def feed(self, name: str, block: Block) -> list[Block]:
        """Samples of one sensor; the ticks that are known by now."""
        self.tally.seen += len(block)
        late = self._tracks[name].feed(block)
        if late:
            self.tally.dropped["late"] += late
        return self._ticks()

    def advance(self, now: float) -> list[Block]:
        """Time went on, by the clock of the stamps, with or without samples."""
        self._now = max(self._now, now)
        return self._ticks()

    def finish(self) -> list[Block]:
        """The ticks up to the last sample of any sensor."""
        for track in self._tracks.values():
            late = track.finish()
            if late:
                self.tally.dropped["late"] += late
        newest = max(track.newest for track in self._tracks.values())
        done = self._ticks(newest)
        self.tally.fed += self.tally.waiting
        self.tally.waiting = 0
        return done

    def _ticks(self, end: float | None = None) -> list[Block]:
        tracks = self._tracks.values()
        newest = max(self._now, max(track.newest for track in tracks))
        patience = newest - self._patience
        # A low-pass holds samples back: what it holds is not silence.
        known = [max(track.newest, patience - track.delay_s) for track in tracks]
        horizon = min(known) if end is None else end
        if self._next is None:
            started = [track.first for track in tracks if track.first < math.inf]
            is_waiting = len(started) < len(tracks) and horizon < min(started, default=math.inf)
            if not started or (is_waiting and end is None):
                self._count()
                return []
            near = [first for first in started if first <= min(started) + self._silent]
            self._next = math.ceil(max(near) * self.rate_hz - _EXACT)
        last = math.floor(horizon * self.rate_hz + _EXACT)
        if last < self._next:
            self._count()
            return []
        numbers = np.arange(self._next, last + 1, dtype=np.int64)
        self._next = last + 1
        return [self._sample(numbers)]

    def _count(self, used: int = 0) -> None:
        self.tally.fed += used
        self.tally.waiting = sum(track.waiting for track in self._tracks.values())

    def _sample(self, numbers: NDArray[np.int64]) -> Block:
        times = numbers / self.rate_hz
        slack = _EXACT / self.rate_hz
        frames: dict[str, Array] = {}
        flags = np.zeros(len(numbers), np.uint8)
        arrival = np.full(len(numbers), -np.inf)
        used = 0
        for name, track in self._tracks.items():
            found = track.at(times, slack)
            if found is None:
                flags |= np.uint8(SampleFlag.INVALID)
                self.tally.noted[f"silent: {name}"] += len(numbers)
                for key, blank in self._blank.get(name, {}).items():
                    frames[key] = _nothing(blank, len(numbers))
                continue
            values, own, came = found
            frames.update(values)
            flags |= own
            arrival = np.maximum(arrival, came)
            silent = int(np.count_nonzero(own & SampleFlag.INVALID))
            if silent:
                self.tally.noted[f"silent: {name}"] += silent
            used += track.forget(float(times[-1]) + slack)
        self.tally.noted["ticks"] += len(numbers)
        self._count(used)
        arrival[np.isinf(arrival)] = np.nan
        return Block(frames, times, arrival, numbers, flags)


def _low_pass(rate: float | None, ticks_hz: float, gap_s: float) -> LowPass | None:
    if rate is None or rate < WORTH * ticks_hz:
        return None
    return LowPass(design_low_pass(rate, ticks_hz), rate, gap_s)


def _nothing(like: Array, count: int) -> Array:
    fill = np.nan if is_floating(like.dtype) else 0
    return np.full((count, *like.shape[1:]), fill, like.dtype)


class _Track:
    """The samples of one sensor around the next tick."""

    def __init__(self, low_pass: LowPass | None, silent_s: float) -> None:
        self._low_pass = low_pass
        self._silent = silent_s
        self._block: Block | None = None
        self._used = 0
        self.first = math.inf
        self.newest = -math.inf
        self.delay_s = 0.0 if low_pass is None else low_pass.delay_s

    @property
    def waiting(self) -> int:
        """Samples that no tick was behind yet."""
        held = 0 if self._low_pass is None else self._low_pass.waiting
        return held + (0 if self._block is None else len(self._block) - self._used)

    def feed(self, block: Block) -> int:
        """Take samples; how many went back in time."""
        return self._take([block] if self._low_pass is None else self._low_pass.feed(block))

    def finish(self) -> int:
        return 0 if self._low_pass is None else self._take(self._low_pass.finish())

    def _take(self, blocks: list[Block]) -> int:
        late = 0
        for block in blocks:
            newest = np.fmax.accumulate(np.concatenate([[self.newest], block.stamps]))[:-1]
            kept = block.stamps >= newest
            late += int((~kept).sum())
            block = block.at(kept)
            if not len(block):
                continue
            self.first = min(self.first, float(block.stamps[0]))
            self.newest = float(block.stamps[-1])
            self._block = block if self._block is None else join_blocks([self._block, block])
        return late

    def at(
        self, times: NDArray[np.float64], slack: float
    ) -> tuple[dict[str, Array], NDArray[np.uint8], NDArray[np.float64]] | None:
        """Values, flags and arrivals at times; None where nothing was ever heard."""
        block = self._block
        if block is None:
            return None
        n = len(block)
        before = np.searchsorted(block.stamps, times + slack, "right") - 1
        low = np.clip(before, 0, n - 1)
        high = np.clip(before + 1, 0, n - 1)
        is_exact = (before >= 0) & (np.abs(times - block.stamps[low]) <= slack)
        high = np.where(is_exact, low, high)
        width = block.stamps[high] - block.stamps[low]
        valid = is_exact | ((before >= 0) & (before + 1 < n) & (width <= self._silent))
        flags = block.flags[low] | block.flags[high]
        valid &= (flags & SampleFlag.INVALID) == 0
        share = np.where(width > 0, (times - block.stamps[low]) / np.where(width > 0, width, 1), 0)
        frames = {}
        for name, values in block.frames.items():
            if is_floating(values.dtype):
                part = share.reshape(-1, *[1] * (values.ndim - 1))
                one, other = values[low].astype(np.float64), values[high].astype(np.float64)
                found = (one + part * (other - one)).astype(values.dtype)
                found[~valid] = np.nan
            else:
                found = values[low].copy()
                found[~valid] = 0
            frames[name] = found
        # What happened in front of a sample is told once, by the first tick at or behind it.
        once = np.uint8(SampleFlag.AFTER_GAP | SampleFlag.CLOCK_JUMP | SampleFlag.RESET)
        marks = np.zeros(len(times), np.uint8)
        marked = np.flatnonzero(block.flags[self._used :] & once) + self._used
        at = np.searchsorted(times + slack, block.stamps[marked])
        inside = at < len(times)
        np.bitwise_or.at(marks, at[inside], block.flags[marked[inside]] & once)
        flags = (flags & ~once) | marks
        flags = np.where(valid, flags, flags | np.uint8(SampleFlag.INVALID)).astype(np.uint8)
        return frames, flags, block.arrival[high]

    def forget(self, time: float) -> int:
        """Keep of what is up to a time the last sample alone; how many were used the first time."""
        block = self._block
        if block is None:
            return 0
        passed = int(np.searchsorted(block.stamps, time, "right"))
        used = max(passed - self._used, 0)
        start = max(passed - 1, 0)
        self._block = block.part(slice(start, len(block)))
        self._used = passed - start
        return used
