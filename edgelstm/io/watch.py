"""Data against what is known about the model: ranges, units, and the rate of the time stamps.

Nothing here stops a stream. What contradicts the model's description is said once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgelstm.description import Column, Description
from edgelstm.io.base import Array, Batch, Recording
from edgelstm.io.sources.wrapped import WrappedSource
from edgelstm.io.units import is_other_unit, likely_unit
from edgelstm.signature import Signature

Say = Callable[[str], None]

FAR = 3.0
"""Times the known magnitude from which data are said at once to be of another unit."""

SMALL = 0.25
"""Share of the known magnitude below which all columns of a unit look too small."""

ENOUGH_FRAMES = 50
"""Frames from which data that stay small, or time stamps, tell something."""

_GROWN = 1.2
_SLACK = 0.05
_RATE_SLACK = 0.1
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SPELLED = re.compile(
    r"(?:^|[^a-z])(?:(s|sec|seconds?)|(ms|millis|milliseconds?)|(us|µs|μs|micros|microseconds?)"
    r"|(ns|nanoseconds?))(?:$|[^a-z])",
    re.IGNORECASE,
)


class WatchedSource(WrappedSource[Recording]):
    """A source whose frames are compared with the model's description on their way.

    Args:
        source: where frames come from.
        signature: of the model.
        description: what is known about it.
        say: called with each remark.
    """

    def __init__(
        self, source: Recording, signature: Signature, description: Description, say: Say
    ) -> None:
        super().__init__(source)
        self._say = say
        rate = description.rate_hz if description.rate_hz is not None else signature.rate_hz
        self._description = description
        self._ranges = range_watches(signature, description)
        self._rate = None if rate is None else _Rate(rate)
        self._has_compared_units = False

    def batches(self) -> Iterator[Batch]:
        """All frames in order; what is remarkable is said before a frame is handed on."""
        if not self._ranges and self._rate is None and not self._description.inputs:
            yield from self._source.batches()
            return
        for batch in self._source.batches():
            self._compare_units()
            usable = np.ones(len(batch), np.bool_)
            usable[list(batch.faults)] = False
            for ranges in self._ranges:
                for remark in ranges.see(batch.frames[ranges.name][usable]):
                    self._say(remark)
            if self._rate is not None and batch.times is not None:
                self._rate.see(batch.times[usable])
            yield batch
        for ranges in self._ranges:
            for remark in ranges.finish():
                self._say(remark)
        if self._rate is not None and (remark := self._rate.finish(self._source.time_name)):
            self._say(remark)

    def _compare_units(self) -> None:
        if self._has_compared_units:
            return
        self._has_compared_units = True
        for name, columns in self._description.inputs.items():
            found = self._source.units.get(name, ())
            for column, unit in zip(columns, found, strict=False):
                if is_other_unit(column.unit, unit):
                    self._say(
                        f"column {column.name!r} is in {unit} in the recording, the model takes "
                        f"{column.unit}"
                    )


class RangeWatch:
    """The columns of one input that have a known range.

    Args:
        name: of the input.
        columns: of its elements.
    """

    def __init__(self, name: str, columns: Sequence[Column]) -> None:
        self.name = name
        known = [i for i, column in enumerate(columns) if column.low is not None]
        self._columns = [columns[i] for i in known]
        self._picked = np.array(known, np.intp)
        self._low = np.array([column.low for column in self._columns], np.float64)
        self._high = np.array([column.high for column in self._columns], np.float64)
        self._scale = np.maximum(np.abs(self._low), np.abs(self._high))
        slack = _SLACK * np.maximum(self._high - self._low, 1e-6 * self._scale)
        self._floor, self._ceiling = self._low - slack, self._high + slack
        self._min = np.full(len(known), np.inf)
        self._max = np.full(len(known), -np.inf)
        self._outside = np.zeros(len(known), np.int64)
        self._frames = 0
        self._said: dict[int, float] = {}

    def see(self, frames: Array) -> list[str]:
        """Take note of frames; says at once which columns are far beyond what is known."""
        if not len(self._columns) or not len(frames):
            return []
        table = frames.reshape(len(frames), -1)[:, self._picked].astype(np.float64)
        table = table[np.isfinite(table).all(axis=1)]
        if not len(table):
            return []
        self._frames += len(table)
        self._min = np.minimum(self._min, table.min(axis=0))
        self._max = np.maximum(self._max, table.max(axis=0))
        self._outside += ((table < self._floor) | (table > self._ceiling)).sum(axis=0)
        factors = self._factors()
        far = [k for k in np.flatnonzero(factors > FAR).tolist() if k not in self._said]
        self._said.update((k, factors[k]) for k in far)
        return [self._far_remark(k, factors[k]) for k in far]

    def finish(self) -> list[str]:
        """What can only be said at the end."""
        if not self._frames:
            return []
        remarks = [
            f"column {self._columns[k].name!r} leaves the range that the model saw "
            f"({self._known(k)}) in {self._outside[k]} of {self._frames} frames: it goes from "
            f"{self._min[k]:.4g} to {self._max[k]:.4g}"
            for k in np.flatnonzero(self._outside).tolist()
            if k not in self._said
        ]
        remarks += self.grown_remarks()
        if self._frames >= ENOUGH_FRAMES:
            remarks += self.small_remarks()
        return remarks

    def grown_remarks(self) -> list[str]:
        """Columns that went far beyond what was said of them when they first were too large."""
        factors = self._factors()
        grown = [k for k, before in self._said.items() if factors[k] > _GROWN * before]
        self._said.update((k, factors[k]) for k in grown)
        return [self._far_remark(k, factors[k]) for k in grown]

    def small_remarks(self) -> list[str]:
        """Columns that stay far below what is known; asked once there is enough to tell."""
        factors = self._factors()
        remarks = []
        for unit in dict.fromkeys(column.unit for column in self._columns):
            group = [k for k, column in enumerate(self._columns) if column.unit == unit]
            reach = np.maximum(np.abs(self._min), np.abs(self._max))
            # The largest column of a unit tells: gravity is in one axis only.
            factor = max(reach[group]) / max(max(self._scale[group]), 1e-300)
            if factor < SMALL and all(factors[k] < SMALL for k in group):
                names = ", ".join(self._columns[k].name for k in group)
                verb = "stays" if len(group) == 1 else "stay"
                remarks.append(
                    f"{names} {verb} within {factor:.2g} times what the model saw"
                    f"{self._hint(factor, unit)}"
                )
        return remarks

    def _factors(self) -> Array:
        reach = np.maximum(np.abs(self._min), np.abs(self._max))
        factors: Array = reach / np.where(self._scale > 0, self._scale, np.inf)
        return factors

    def _far_remark(self, k: int, factor: float) -> str:
        column = self._columns[k]
        return (
            f"column {column.name!r} is {factor:.3g} times what the model saw ({self._known(k)})"
            f"{self._hint(factor, column.unit)}"
        )

    def _known(self, k: int) -> str:
        unit = f" {self._columns[k].unit}" if self._columns[k].unit else ""
        return f"{self._low[k]:.4g} to {self._high[k]:.4g}{unit}"

    def _hint(self, factor: float, unit: str) -> str:
        unit = likely_unit(factor, unit) if factor > 0 else ""
        return f": {unit}?" if unit else ""


def range_watches(signature: Signature, description: Description) -> list[RangeWatch]:
    """One for each input of numbers whose columns have known ranges."""
    return [
        RangeWatch(spec.name, columns)
        for spec in signature.inputs
        if spec.dtype.is_float
        and (columns := description.inputs.get(spec.name))
        and any(column.low is not None for column in columns)
    ]


class _Rate:
    """The rate that time stamps show."""

    def __init__(self, rate_hz: float) -> None:
        self._rate = rate_hz
        self._steps: list[Array] = []
        self._last: float | None = None
        self._count = 0

    def see(self, times: Array) -> None:
        """Take note of time stamps."""
        known = times[np.isfinite(times)]
        if not len(known):
            return
        before = [] if self._last is None else [self._last]
        steps = np.diff(np.concatenate([before, known]))
        self._last = float(known[-1])
        self._count += len(steps)
        # The median of the first ones tells as well, and a stream of weeks is not to be kept.
        if self._count < 1_000_000:
            self._steps.append(steps)

    def finish(self, name: str | None) -> str:
        """What contradicts the rate, or ""."""
        if self._count < ENOUGH_FRAMES // 5 or name is None:
            return ""
        step = float(np.median(np.concatenate(self._steps)))
        if step <= 0:
            return f"the time stamps in {name!r} do not advance; the model takes {self._rate:g} Hz"
        unit = time_unit(name)
        units = _TIME_UNITS if unit is None else {unit: _TIME_UNITS[unit]}
        found = {unit: 1 / (step * seconds) for unit, seconds in units.items()}
        if any(abs(rate / self._rate - 1) <= _RATE_SLACK for rate in found.values()):
            return ""
        nearest = min(found, key=lambda unit: abs(np.log(found[unit] / self._rate)))
        return (
            f"the time stamps in {name!r} are {step:.4g} {nearest} apart, which is "
            f"{found[nearest]:.4g} Hz; the model takes {self._rate:g} Hz"
        )


def time_unit(name: str) -> str | None:
    """The unit in the name of a column of time stamps, where it has one."""
    found = _SPELLED.search(name.replace("_", " "))
    if found is None:
        return None
    return next(unit for unit, text in zip(_TIME_UNITS, found.groups(), strict=True) if text)
