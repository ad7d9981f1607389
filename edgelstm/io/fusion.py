"""Several sensors of one model: each onto one clock, and all of them to the model's ticks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.alignment import Alignment
from edgelstm.io.block import Block
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.clocks.sensor_clock import SensorClock
from edgelstm.io.counted import CountedStage
from edgelstm.io.counters import Counters
from edgelstm.io.gaps import GapFilter, GapPolicy
from edgelstm.io.lane_stages import USED
from edgelstm.io.live import Channels, Delivery
from edgelstm.io.numbering import GROUP
from edgelstm.io.rate import RateCheck
from edgelstm.io.stage import Stage
from edgelstm.io.time_settings import TimeSettings

EARLY = "before all sensors were there"

_OWN = "say how fast it is, ...?rate={found:.4g}"

MOST_EARLY = 10_000
"""Samples of live sensors that are kept until all others were heard once."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One of several.

    Args:
        name: of its source.
        is_replay: its stamps are those of a recording, which has one clock.
        is_on_our_clock: its source gives stamps of this machine's monotonic clock (LSL).
        has_echo: its source asks it echo questions.
        rate_hz: of its samples; None: as all others.
    """

    name: str
    is_replay: bool = False
    is_on_our_clock: bool = False
    has_echo: bool = False
    rate_hz: float | None = None


class Fusion:
    """Takes what the sensors deliver, and gives blocks with the columns of each by its name.

    Args:
        sensors: at least two; all recordings, or none.
        rate_hz: of the ticks.
        sensor_hz: of the samples of sensors that have no rate of their own.
        settings: see there.
        counters: of the stream.
        say: called with what is odd about a clock or a rate.

    Raises:
        RecordingError: recordings and live sensors stand side by side.
        TargetUnavailableError: a sensor is faster than the ticks and SciPy is not installed.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor],
        rate_hz: float,
        sensor_hz: float,
        settings: TimeSettings,
        counters: Counters,
        say: Callable[[str], None],
    ) -> None:
        is_replay = any(sensor.is_replay for sensor in sensors)
        if is_replay and not all(sensor.is_replay for sensor in sensors):
            raise RecordingError(
                "a recording and a live sensor for one model: there is no clock that both have"
            )
        self._counters = counters
        self._say = say
        self._channels: dict[str, Channels | None] = {sensor.name: None for sensor in sensors}
        self._clocks: dict[str, SensorClock] = {}
        self._stages: dict[str, list[Stage]] = {}
        self._said: dict[str, int] = {}
        self._unmet = {
            sensor.name: sensor
            for sensor in sensors
            if not is_replay and not sensor.is_on_our_clock
        }
        self._rates = {sensor.name: sensor.rate_hz or sensor_hz for sensor in sensors}
        self._offsets = {
            sensor.name: settings.offsets_s.get(sensor.name, settings.offsets_s.get("", 0.0))
            for sensor in sensors
        }
        self._checks = {name: RateCheck(rate, name, _OWN) for name, rate in self._rates.items()}
        self._early: deque[tuple[str, Block]] = deque()
        self._most_early = np.inf if is_replay else MOST_EARLY
        for sensor in sensors:
            stages: list[Stage] = []
            policy = GapPolicy(
                self._rates[sensor.name],
                settings.on_gap or "feed",
                settings.gap_limit_s,
                settings.gap_after_s,
                settings.reorder_s,
            )
            if sensor.name not in self._unmet:
                stages.append(_Offset(self._offsets[sensor.name]))
            if settings.on_gap is not None:
                gaps = GapFilter(policy)
                stages.append(CountedStage(gaps, gaps.tally, counters))
            self._stages[sensor.name] = stages
        self._alignment = Alignment(
            rate_hz,
            self._rates,
            settings.silent_s,
            patience_s=np.inf if is_replay else None,
        )
        self._counted = CountedStage(_Nothing(), self._alignment.tally, counters, USED)

    @property
    def channels(self) -> Mapping[str, Channels] | None:
        """The columns of each sensor; None until all were heard.

        Names that several sensors have, bear the sensor's.
        """
        known = {name: each for name, each in self._channels.items() if each is not None}
        if len(known) < len(self._channels):
            return None
        every = [column for each in known.values() for column in each.names]
        return {
            name: replace(
                each,
                names=tuple(
                    f"{name}.{column}" if every.count(column) > 1 else column
                    for column in each.names
                ),
            )
            for name, each in known.items()
        }

    def text(self) -> list[str]:
        """What the times of each sensor are worth."""
        return [clock.text() for clock in self._clocks.values()]

    def take(self, name: str, delivery: Delivery) -> list[Block]:
        """What one sensor delivered; the ticks that are known by now."""
        done = self._echo(name, delivery.echoes)
        block, channels = delivery.block, delivery.channels
        if block is None or not len(block):
            return done
        if channels is None:
            raise RecordingError(f"{name}: inputs by name are for a sensor that is alone")
        if self._channels[name] not in (None, channels):
            raise RecordingError(
                f"{name}: the columns are now {', '.join(channels.names)}: start again"
            )
        self._channels[name] = channels
        has_stamps = channels.is_stamped or bool(np.isfinite(block.stamps).any())
        if name in self._unmet:
            self._meet(self._unmet.pop(name), has_stamps=has_stamps)
        if name not in self._clocks and not has_stamps:
            block = replace(block, stamps=block.sequence / self._rates[name])
        for text in self._checks[name].see(block):
            self._say(text)
        frames = {name: block.frames[GROUP].reshape(len(block), -1)}
        self._early.append((name, replace(block, frames=frames)))
        self._counters.waiting += len(block)
        if self.channels is None:
            held = sum(len(each) for _, each in self._early)
            while held > self._most_early and len(self._early) > 1:
                _, oldest = self._early.popleft()
                held -= len(oldest)
                self._counters.waiting -= len(oldest)
                self._counters.drop(EARLY, len(oldest))
            return done
        while self._early:
            sensor, each = self._early.popleft()
            self._counters.waiting -= len(each)
            done += self._through(sensor, [each], 0)
        return done

    def _meet(self, sensor: Sensor, *, has_stamps: bool) -> None:
        """The clock of a sensor; where it gives no stamps its samples are counted."""
        name = sensor.name
        if sensor.has_echo and not has_stamps:
            self._say(
                f"{name}: the samples have no time stamps, so echo questions tell nothing about "
                "them, and are left out: send stamps of the clock that answers"
            )
        rate = None if has_stamps else self._rates[name]
        clock = SensorClock(name, rate, self._offsets[name], sensor.has_echo and has_stamps)
        self._clocks[name] = clock
        self._stages[name].insert(0, CountedStage(clock, clock.tally, self._counters))

    def _echo(self, name: str, trips: Sequence[RoundTrip]) -> list[Block]:
        """Round trips to a sensor; the ticks that they let be known."""
        clock = self._clocks.get(name)
        if not trips or clock is None:
            return []
        freed = [block for trip in trips for block in clock.echo(trip)]
        counted = self._stages[name][0]
        assert isinstance(counted, CountedStage)
        counted.tell(freed)
        return self._through(name, freed, 1)

    def finish(self) -> list[Block]:
        """What was held back."""
        for _, early in self._early:
            self._counters.waiting -= len(early)
            self._counters.drop(EARLY, len(early))
        done: list[Block] = []
        for name, stages in self._stages.items():
            for k, stage in enumerate(stages):
                done += self._through(name, stage.finish(), k + 1)
        last = self._alignment.finish() if self.channels is not None else []
        self._counted.tell(last)
        return done + last

    def _through(self, name: str, blocks: list[Block], first: int) -> list[Block]:
        for stage in self._stages[name][first:]:
            blocks = [out for block in blocks for out in stage.feed(block)]
        self._tell_of_clock(name)
        done: list[Block] = []
        for block in blocks:
            ticks = self._alignment.feed(name, block)
            self._counted.tell(ticks)
            done += [tick for tick in ticks if len(tick.frames) == len(self._channels)]
            lost = sum(len(tick) for tick in ticks if len(tick.frames) < len(self._channels))
            self._counters.drop(EARLY, lost)
        return done

    def _tell_of_clock(self, name: str) -> None:
        clock = self._clocks.get(name)
        if clock is None:
            return
        told = self._said.get(name, 0)
        for event in list(clock.events)[told:]:
            self._say(event.message)
        self._said[name] = len(clock.events)


class _Offset:
    """Adds to stamps."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def feed(self, block: Block) -> list[Block]:
        return [replace(block, stamps=block.stamps + self._seconds)]

    def finish(self) -> list[Block]:
        return []


class _Nothing:
    """Stands where a tally is counted by hand."""

    def feed(self, block: Block) -> list[Block]:
        return [block]

    def finish(self) -> list[Block]:
        return []
