"""Constants that differ from frame to frame: rows that a stream picks by the number of its element.

Where all rows but a few at the ends are alike (how many elements a pooling window covers), they are
the first, the last, and any number of those between. Other tables end, and so does the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.ops import Gather
from edgelstm_compiler.ir.time import Time
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.streaming.builder import StepBuilder


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A constant along time.

    Args:
        name: of the constant.
        rows: all of it.
        axis: that is time.
        first, last: rows at the ends that differ from those between; None: all differ.
    """

    name: str
    rows: Array
    axis: int
    first: int | None = None
    last: int = 0

    def needs(self, time: Time, frames: int) -> Time:
        """When it is known that an element is none of the last ones."""
        if self.first is None or not self.last:
            return time
        come_behind = time.count(frames) - ((frames - 1 - time.delay) // time.stride + 1)
        return time.at(time.delay + time.stride * max(0, self.last - come_behind))

    def row(self, builder: StepBuilder, time: Time) -> Value:
        """The row of the element that is there in this step."""
        clock = builder.clock
        index = clock.index(time)
        extent = self.rows.shape[self.axis]
        if self.first is None:
            builder.limit_frames(extent * time.stride + time.delay)
            return pick_row(builder, self.name, self.rows, index, self.axis)
        index = clock.least(index, clock.number(self.first))
        if self.last:
            place = clock.minus(clock.index(time), clock.total(time))
            index = clock.most(index, clock.plus(place, self.first + 1 + self.last))
        chosen = [*range(self.first + 1), *range(extent - self.last, extent)]
        rows = np.take(self.rows, chosen, self.axis)
        return pick_row(builder, self.name, rows, index, self.axis)


def table_of(value: Value, builder: StepBuilder) -> Table | None:
    """A constant that differs from frame to frame; None where the value is none."""
    data, axis = builder.constant(value), builder.time_axis(value)
    if data is None or axis is None:
        return None
    rows = [np.take(data, [place], axis).tobytes() for place in range(data.shape[axis])]
    if len(set(rows)) == 1:
        return None
    middle = rows[len(rows) // 2]
    first = next(place for place, row in enumerate(rows) if row == middle)
    last = next(place for place, row in enumerate(reversed(rows)) if row == middle)
    between = rows[first : len(rows) - last]
    is_edged = set(between) == {middle} and len(between) >= 2 and 2 * len(between) >= len(rows)
    return Table(value.name, data, axis, first if is_edged else None, last if is_edged else 0)


def pick_row(builder: StepBuilder, name: str, rows: Array, index: Value, axis: int) -> Value:
    """Row `index` (1,) of a constant along an axis; beyond the last one, that."""
    first = np.take(rows, [0], axis)
    if np.broadcast_to(first, rows.shape).tobytes() == rows.tobytes():
        return builder.add_constant(name, first)
    clock = builder.clock
    last = clock.number(rows.shape[axis] - 1)
    place = clock.most(clock.least(index, last), clock.number(0))
    return builder.compute(Gather(axis), builder.add_constant(name, rows), place)
