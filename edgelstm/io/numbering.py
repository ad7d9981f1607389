"""Rows of a sensor as blocks: stamps and numbers out of their columns, or of their arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.io.address import Options
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.columns import TIME_NAMES, plain_name, unit_in_name
from edgelstm.io.live import Channels, Delivery
from edgelstm.io.watch import time_unit
from edgelstm.io.wire.base import Rows

COUNTER_NAMES = frozenset(
    "counter packet packet_counter packetcounter seq sequence sample_number sample_id".split()  # noqa: SIM905
)
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_WRAPS = (1 << 8, 1 << 16, 1 << 32)
_MOST_BEHIND = 1000
"""A counter that falls by no more than this, or not to half, brings late samples: a connection
that is ending beside the next one. Else it began anew."""

GROUP = "channels"
"""Name of the only group of columns in a block whose inputs are not assigned yet."""


class Numbering:
    """Turns rows into deliveries.

    Args:
        options: takes `time`, `time_unit`, `counter`, `wrap`.
        rate_hz: tells units of time stamps apart that do not say it.
    """

    def __init__(self, options: Options, rate_hz: float | None = None) -> None:
        self._time = options.text("time", None)
        self._unit = options.text("time_unit", None)
        self._counter = options.text("counter", None)
        self._wrap = options.integer("wrap", 0, high=1 << 62)
        if self._unit is not None and self._unit not in _SECONDS:
            raise RecordingError(f"time_unit={self._unit}: expected s, ms, us or ns")
        self._rate_hz = rate_hz

    def stream(self, name: str = "") -> StreamNumbering:
        """For one stream of the source."""
        return StreamNumbering(
            name, self._time, self._unit, self._counter, self._wrap, self._rate_hz
        )


class StreamNumbering:
    """Numbers the samples of one stream; see `Numbering`.

    Args:
        name: of the stream.
        time: the column of time stamps; None: known by its name.
        unit: of the stamps; None: by the column's name, or as the rate has it.
        counter: the sender's numbers; None: known by its name.
        wrap: where the sender's numbers begin anew; 0: at 2^8, 2^16, 2^32, as they show.
        rate_hz: of the model.
    """

    def __init__(
        self,
        name: str,
        time: str | None,
        unit: str | None,
        counter: str | None,
        wrap: int,
        rate_hz: float | None,
    ) -> None:
        self.name = name
        self._time = time
        self._unit = unit
        self._counter = counter
        self._wrap = wrap
        self._rate_hz = rate_hz
        self._next = 0
        self._base = 0
        self._last_count: int | None = None
        self._seen_names: Sequence[str] | None = None
        self._channels = Channels(())
        self._kept: NDArray[np.intp] | None = None
        self._time_at: int | None = None
        self._counter_at: int | None = None
        self._scale: float | None = None
        self._unscaled = np.zeros(0)
        self._after_gap = False

    @property
    def scale(self) -> float | None:
        """Seconds of the unit of the sensor's stamps; None while that is not known."""
        return self._scale

    def break_here(self) -> None:
        """Samples may be missing in front of the next one: a connection was lost."""
        self._after_gap = True

    def delivery(
        self, rows: Rows, names: Sequence[str], has_names: bool, arrival: float
    ) -> Delivery:
        """Rows that came at one moment.

        Args:
            rows: the samples.
            names: of their columns.
            has_names: whether these are names.
            arrival: monotonic clock.
        """
        if not len(rows):
            return Delivery(self.name, None, refused=rows.refused)
        if names != self._seen_names:
            self._find_columns(names, has_names)
        values = rows.values
        n = len(values)
        flags = np.zeros(n, np.uint8)
        for i in rows.faults:
            flags[i] = SampleFlag.INVALID
        if self._after_gap:
            flags[0] |= SampleFlag.AFTER_GAP
            self._after_gap = False
        stamps = np.full(n, np.nan) if self._time_at is None else self._stamps(values)
        sequence = self._numbers(values, rows.faults)
        block = Block(
            {GROUP: values if self._kept is None else values[:, self._kept]},
            stamps,
            np.full(n, arrival),
            sequence,
            flags,
        )
        faults = {int(sequence[i]): reason for i, reason in rows.faults.items()}
        return Delivery(self.name, block, self._channels, faults, rows.refused)

    def _find_columns(self, names: Sequence[str], has_names: bool) -> None:
        self._seen_names = tuple(names)
        self._time_at = _place(self._time, names, has_names, TIME_NAMES, "time")
        self._counter_at = _place(self._counter, names, has_names, COUNTER_NAMES, "counter")
        left = [i for i in range(len(names)) if i not in (self._time_at, self._counter_at)]
        self._kept = None if len(left) == len(names) else np.array(left, np.intp)
        kept = tuple(names[i] for i in left)
        units = tuple(unit_in_name(name) for name in kept) if has_names else ()
        self._channels = Channels(
            kept, has_names, units, self._counter_at is not None, self._time_at is not None
        )
        if self._time_at is not None:
            unit = self._unit or time_unit(names[self._time_at])
            self._scale = None if unit is None else _SECONDS[unit]

    def _stamps(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        raw = values[:, self._time_at]
        if self._scale is None:
            # A sample at a time, it takes the one before to see how far apart they are.
            seen = np.concatenate([self._unscaled, raw])
            self._scale = likely_scale(seen, self._rate_hz)
            self._unscaled = seen[-1:]
        return raw * (np.nan if self._scale is None else self._scale)

    def _numbers(self, values: NDArray[np.float64], faults: Mapping[int, str]) -> NDArray[np.int64]:
        n = len(values)
        if self._counter_at is None:
            first, self._next = self._next, self._next + n
            return np.arange(first, first + n)
        numbers = np.empty(n, np.int64)
        counts = values[:, self._counter_at]
        for i in range(n):
            count = counts[i]
            if i in faults or not (abs(count) < 2**53 and count == int(count)):
                numbers[i] = self._next  # nobody knows its number: as if it were the next
            else:
                numbers[i] = self._unwrap(int(count))
            self._next = max(self._next, int(numbers[i]) + 1)
        return numbers

    def _unwrap(self, count: int) -> int:
        """The number of a sample in a sequence that never begins anew."""
        last = self._last_count
        if last is None:
            # Goes on where an earlier run ended if the numbers do, else behind it.
            wrap = self._wrap or next((wrap for wrap in _WRAPS if count < wrap), 1)
            behind = self._next - count
            self._base = 0 if behind <= 0 else -(-behind // wrap) * wrap
        elif count < last:
            wrap = self._wrap or next((wrap for wrap in _WRAPS if last < wrap), 0)
            if wrap and count + wrap - last <= max(wrap // 4, 8):
                self._wrap = wrap
                self._base += wrap
            elif last - count <= _MOST_BEHIND or count > last // 2:
                return self._base + count  # late, or repeated
            else:
                self._base = self._next - count  # the sender began anew
        elif self._wrap and count - last > self._wrap - self._wrap // 4:
            return self._base + count - self._wrap  # late, from before the numbers began anew
        self._last_count = count
        return self._base + count


def _place(
    asked: str | None,
    names: Sequence[str],
    has_names: bool,
    known: frozenset[str],
    option: str,
) -> int | None:
    if asked is not None:
        if asked in names:
            return list(names).index(asked)
        if asked == "none":
            return None
        raise RecordingError(
            f"{option}={asked}: the columns are {', '.join(names)}; name one of them, or none"
        )
    if not has_names:
        return None
    return next((i for i, name in enumerate(names) if plain_name(name) in known), None)


def likely_scale(raw: NDArray[np.float64], rate_hz: float | None) -> float | None:
    """Seconds of a unit in which neighbours are about as far apart as the rate has it.

    None where that cannot be told yet. Time since 1970 tells its unit by its size.
    """
    first = raw[np.isfinite(raw)][:1]
    if len(first) and abs(first[0]) > 1e11:
        size = abs(first[0])
        return next(s for s, top in ((1e-3, 1e14), (1e-6, 1e17), (1e-9, np.inf)) if size < top)
    if rate_hz is None:
        return 1.0
    steps = np.diff(raw[np.isfinite(raw)])
    steps = steps[steps > 0]
    if not len(steps):
        return None
    step = float(np.median(steps))
    return min(_SECONDS.values(), key=lambda scale: abs(np.log(step * scale * rate_hz)))
