"""Puts the samples of one sensor on this machine's clock.

Without round trips the smallest delays show how the clocks stand to each other: what of the delay
is constant stays in the times, because nobody can see it from here. With round trips it does not.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.blocks import join_blocks
from edgelstm.io.clocks.line import ClockLine
from edgelstm.io.clocks.points import BIN_S, BinnedPoints, Point, RoundTrip, best_of_samples
from edgelstm.io.tally import Tally

SPAN_S = 600.0
"""How far back a line looks."""

_CONFIRM = 8
"""Samples in a row whose stamps cannot be true that make a jump; fewer are bad stamps."""

_ODD_BINS = 5
"""Bins in a row that are off by more than the slew mends that make a jump."""

_ECHO_PATIENCE_S = 6.0
"""How long the first answer of a sensor that should answer is waited for."""


@dataclass(frozen=True, slots=True)
class ClockLimits:
    """What a clock may do.

    Args:
        slew: how fast a correction changes, seconds a second; also the largest drift believed.
        jump_s: what is too much to be slewed.
        back_s: stamps that go back by more than that are no disorder.
    """

    slew: float
    jump_s: float
    back_s: float


STAMPED = ClockLimits(slew=500e-6, jump_s=0.03, back_s=1.0)
"""A crystal: 500 ppm is more than any has."""

COUNTED = ClockLimits(slew=0.05, jump_s=0.25, back_s=math.inf)
"""Samples without stamps: counted, at a rate that the sensor keeps more or less."""


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """A clock did something that a clock should not do.

    Args:
        kind: "jump", "no echo".
        at: when, by this machine's monotonic clock.
        size_s: by how much the correction changed; 0 where that means nothing.
        message: for people.
    """

    kind: str
    at: float
    size_s: float
    message: str


class SensorClock:
    """A stage whose blocks come out with stamps of this machine's clock.

    Nothing comes out in the first two seconds, or for two seconds after a jump: by then there is
    one good comparison of the clocks. Stamps never go back behind a jump, and grow with the
    sensor's.

    Args:
        name: of the sensor, for messages.
        rate_hz: of a sensor that gives no stamps, whose samples are counted by `sequence`.
        offset_s: added to all times; a known transport delay as a negative number.
        has_echo: whether the sensor answers round trips, see `echo`.
    """

    def __init__(
        self,
        name: str,
        rate_hz: float | None = None,
        offset_s: float = 0.0,
        has_echo: bool = False,
    ) -> None:
        self.name = name
        self.tally = Tally()
        self.events: deque[ClockEvent] = deque(maxlen=1000)
        self._period = None if rate_hz is None else 1.0 / rate_hz
        self._limits = STAMPED if rate_hz is None else COUNTED
        self._offset = offset_s
        self._has_echo = has_echo
        self._has_answers = False
        self._line = ClockLine(SPAN_S, self._limits.slew)
        self._samples = BinnedPoints()
        self._echoes = BinnedPoints()
        self._odd: list[Point] = []
        self._waiting: list[Block] = []
        self._suspects: list[Block] = []
        self._is_settled = False
        self._jumps = 0
        self._newest = -math.inf  # of the sensor's stamps
        self._floor = -math.inf  # of this machine's stamps
        self._reached = -math.inf
        self._anchor = (0.0, 0.0)  # sensor time, and the error of the correction then
        self._mark_next = False

    @property
    def drift_ppm(self) -> float:
        """How much faster this machine's clock runs than the sensor's."""
        return self._line.slope * 1e6

    def text(self) -> str:
        """What the times of this sensor are worth, in one line."""
        if self._has_answers:
            delay = "transport delay measured by round trips"
        elif self._offset:
            delay = f"--offset {self._offset:+g} s applied"
        else:
            delay = "constant transport delay unknown and still in it (--offset takes it out)"
        jumps = f", {self._jumps} clock jumps" if self._jumps else ""
        return f"{self.name}: clock drifts {self.drift_ppm:+.0f} ppm{jumps}; {delay}"

    def feed(self, block: Block) -> list[Block]:
        """Samples as they came; what can be told of their time so far."""
        self.tally.seen += len(block)
        if self._period is not None:
            block = replace(block, stamps=block.sequence.astype(np.float64) * self._period)
        known = np.isfinite(block.stamps)
        if not known.all():
            self._drop("no stamp", int((~known).sum()))
            block = block.at(known)
        arrivals = np.maximum.accumulate(block.arrival) if len(block) else block.arrival
        done: list[Block] = []
        start = 0
        while start < len(block):
            if self._samples.end is not None and arrivals[start] >= self._samples.end:
                done += self._close_bin(float(arrivals[start]))
            end = self._samples.end
            end = float(arrivals[start]) + BIN_S if end is None else end
            stop = int(np.searchsorted(arrivals, end))
            done += self._take(block.part(slice(start, max(stop, start + 1))))
            start = max(stop, start + 1)
        return self._counted(done)

    def echo(self, trip: RoundTrip) -> list[Block]:
        """A round trip; samples that waited for it come out."""
        point = trip.point()
        if not self._has_echo or point is None:
            self.tally.noted["round trips without use"] += 1
            return []
        self.tally.noted["round trips"] += 1
        done: list[Block] = []
        if self._echoes.end is not None and trip.returned >= self._echoes.end:
            best = self._echoes.take()
            if best is not None:
                done = self._use_echo(best)
        self._echoes.see(trip.returned, point)
        return self._counted(done)

    def finish(self) -> list[Block]:
        """What is still held, at the end of the stream."""
        self._drop("bad stamp", sum(map(len, self._suspects)))
        self._suspects = []
        best = self._echoes.take() if self._has_echo else None
        done = [] if best is None else self._use_echo(best)
        if not self._is_settled and (point := self._samples.take()) is not None:
            done += self._settle(point)
        return self._counted(done)

    def _counted(self, done: list[Block]) -> list[Block]:
        done = [block for block in done if len(block)]
        self.tally.fed += sum(map(len, done))
        self.tally.waiting = sum(map(len, [*self._waiting, *self._suspects]))
        return done

    def _drop(self, reason: str, count: int) -> None:
        if count:
            self.tally.dropped[reason] += count

    def _take(self, block: Block) -> list[Block]:
        """Samples of one bin, during which the line stays as it is."""
        if not len(block):
            return []
        if not self._is_settled:
            self._see(block)
            self._waiting.append(block)
            return []
        strange = self._strange(block)
        if not strange.any() and not self._suspects:
            return self._pass(block)
        done: list[Block] = []
        edges = [0, *(np.flatnonzero(np.diff(strange)) + 1).tolist(), len(block)]
        for start, stop in pairwise(edges):
            if not strange[start]:
                self._drop("bad stamp", sum(map(len, self._suspects)))
                self._suspects = []
                done += self._pass(block.part(slice(start, stop)))
                continue
            self._suspects.append(block.part(slice(start, stop)))
            if sum(map(len, self._suspects)) >= _CONFIRM:
                self._start_again()
                return done + self._take(block.part(slice(stop, len(block))))
        return done

    def _strange(self, block: Block) -> NDArray[np.bool_]:
        """Samples that came before they were taken, or that go far back."""
        early = block.arrival - block.stamps < self._line.at(block.stamps) - self._limits.jump_s
        newest = np.maximum.accumulate(np.where(early, self._newest, block.stamps))
        back = block.stamps < np.maximum(newest, self._newest) - self._limits.back_s
        return np.asarray(early | back)

    def _see(self, block: Block) -> None:
        best = best_of_samples(block.stamps, block.arrival)
        self._samples.see(float(block.arrival[0]), best)

    def _pass(self, block: Block) -> list[Block]:
        if not len(block):
            return []
        self._see(block)
        since, error = self._anchor
        elapsed = np.maximum(block.stamps - since, 0.0)
        # The line itself moves: what it takes of the slew is not there to close the error.
        pace = self._limits.slew + math.copysign(1.0, error) * self._line.slope
        left = math.copysign(1.0, error) * np.maximum(abs(error) - pace * elapsed, 0.0)
        times = block.stamps + self._line.at(block.stamps) + left + self._offset
        self._newest = max(self._newest, float(block.stamps.max()))
        kept = times > self._floor
        self._drop("before a clock jump", int((~kept).sum()))
        moved = replace(block, stamps=times).at(kept)
        if self._mark_next and len(moved):
            flags = moved.flags.copy()
            flags[0] |= SampleFlag.CLOCK_JUMP
            moved = replace(moved, flags=flags)
            self._mark_next = False
        if len(moved):
            self._reached = max(self._reached, float(moved.stamps.max()))
        return [moved]

    def _error_at(self, x: float) -> float:
        since, error = self._anchor
        pace = self._limits.slew + math.copysign(1.0, error) * self._line.slope
        return math.copysign(max(abs(error) - pace * max(x - since, 0.0), 0.0), error)

    def _close_bin(self, at: float) -> list[Block]:
        point = self._samples.take()
        if point is None:
            return []
        if not self._is_settled:
            began = float(self._waiting[0].arrival[0])
            if self._has_echo and at < began + _ECHO_PATIENCE_S:
                self._samples.see(at, point)
                return []
            return self._settle(point)
        if not self._has_answers:
            self._use(point)
        return []

    def _use_echo(self, point: Point) -> list[Block]:
        if self._has_answers:
            if self._is_settled:
                self._use(point)
                return []
            return self._settle(point)
        self._has_answers = True
        if not self._is_settled:
            return self._settle(point)
        # Until now it was the samples' delays that counted: these points are of another kind.
        self._move_to([point])
        return []

    def _settle(self, point: Point) -> list[Block]:
        """The first point of a line: what waited for it comes out."""
        if self._has_echo and not self._has_answers:
            message = f"{self.name} answers no round trips: its transport delay stays in the times"
            self.events.append(ClockEvent("no echo", point.x + point.correction, 0.0, message))
        self._line.clear()
        self._line.add(point.x, point.correction)
        self._is_settled = True
        self._floor = self._reached
        self._newest = -math.inf
        self._anchor = (point.x, 0.0)
        self._odd = []
        blocks, self._waiting = self._waiting, []
        done: list[Block] = []
        for block in blocks:
            done += self._pass(block)
        self._samples.take()
        return done

    def _start_again(self) -> None:
        """The sensor's clock jumped: its samples from there on wait for a new line."""
        jumped = join_blocks(self._suspects)
        best = best_of_samples(jumped.stamps, jumped.arrival)
        self._say_jump(best.correction - float(self._line.at(best.x)), float(jumped.arrival[0]))
        self._suspects = []
        self._waiting = [jumped]
        self._is_settled = False
        self._samples.take()
        self._echoes.take()
        self._see(jumped)

    def _use(self, point: Point) -> None:
        """A point of a line that there is."""
        off = point.correction - float(self._line.at(point.x))
        if abs(off) > self._limits.jump_s:
            self._odd.append(point)
            if len(self._odd) >= _ODD_BINS and self._is_one_way():
                self._move_to(self._odd)
            return
        error = self._error_at(self._newest)
        before = float(self._line.at(self._newest))
        for odd in [*self._odd, point]:
            self._line.add(odd.x, odd.correction)
        self._odd = []
        self._anchor = (self._newest, before + error - float(self._line.at(self._newest)))

    def _is_one_way(self) -> bool:
        offs = [point.correction - float(self._line.at(point.x)) for point in self._odd]
        return all(off > 0 for off in offs) or all(off < 0 for off in offs)

    def _move_to(self, points: list[Point]) -> None:
        """Another line from now on: slewed to where it is near, else a jump."""
        before = float(self._line.at(self._newest)) + self._error_at(self._newest)
        self._line.clear()
        for point in points:
            self._line.add(point.x, point.correction)
        self._odd = []
        error = before - float(self._line.at(self._newest))
        if abs(error) > self._limits.jump_s:
            self._say_jump(-error, self._newest + before)
            self._floor = self._reached
            error = 0.0
        self._anchor = (self._newest, error)

    def _say_jump(self, size_s: float, at: float) -> None:
        self._jumps += 1
        self.tally.noted["clock jumps"] += 1
        self._mark_next = True
        message = (
            f"the clock of {self.name}, or its transport delay, jumped by {abs(size_s):.3g} s; "
            f"more than {self._limits.slew * 1e6:g} ppm is not slewed"
        )
        self.events.append(ClockEvent("jump", at, size_s, message))
