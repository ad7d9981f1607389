"""Sequences with ends that are repeated or mirrored, in a stream: places in a ring, by the clock.

The first element repeated is there when it comes. A mirrored beginning waits for its farthest
element, and those behind it wait with it, unless a window reads them: that waits no longer than its
own newest element does, or the beginning. The end is mirrored when it is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgelstm_compiler.ir.ops import Arithmetic, Binary, Gather
from edgelstm_compiler.ir.time import Time
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.ir.walks import Beyond, Walk
from edgelstm_compiler.streaming.refusal import CannotStepError

if TYPE_CHECKING:
    from edgelstm_compiler.streaming.builder import StepBuilder


@dataclass(frozen=True, slots=True)
class Walked:
    """A sequence with more at its ends, read only where somebody asks for it.

    Args:
        name: of the value.
        frames: the sequence value without them.
        walk: what stands at its ends.
    """

    name: str
    frames: Value
    walk: Walk

    def time(self, builder: StepBuilder) -> Time:
        """When its elements are there one by one.

        Raises:
            CannotStepError: its beginning is its end.
        """
        return self.windowed(builder, 1, 1)

    def windowed(self, builder: StepBuilder, reach: int, step: int) -> Time:
        """When windows over it are there.

        Raises:
            CannotStepError: its beginning is its end.
        """
        walk, time = self.walk, builder.time_of(self.frames)
        assert time is not None
        if (walk.before and walk.head is Beyond.WRAP) or (walk.behind and walk.tail is Beyond.WRAP):
            raise CannotStepError(
                "it begins with the last frames, or ends with the first (Pad with mode wrap), and "
                "the last frame of a stream is never known"
            )
        awaited = time.stride * walk.before if walk.head is Beyond.REFLECT else 0
        found = time.windowed(reach, step, walk.before, walk.behind)
        return replace(
            found,
            delay=max(found.delay, time.delay + awaited),
            last=max(found.last, time.last + awaited),
        )

    def row(self, builder: StepBuilder, time: Time, reach: int, step: int) -> Value:
        """The elements of the window that is there in this step, along the time axis.

        Args:
            builder: gets the nodes and states.
            time: of the windows.
            reach: elements of one.
            step: elements from the beginning of one to that of the next.
        """
        walk, clock = self.walk, builder.clock
        own = builder.time_of(self.frames)
        axis = builder.time_axis(self.frames)
        assert own is not None
        assert axis is not None
        oldest = (time.delay - own.delay) // own.stride + walk.before
        length = max(oldest, walk.behind) + 1
        kept = builder.history.held(self.frames, length, own)
        first = clock.index(time)
        if step > 1:
            first = builder.compute(Binary(Arithmetic.MUL), first, clock.number(step))
        offsets = np.arange(reach, dtype=np.int32) - walk.before
        places = builder.compute(
            Binary(Arithmetic.ADD), first, builder.add_constant(f"{self.name}.offsets", offsets)
        )
        if walk.before:
            opposite = clock.number(0)
            if walk.head is Beyond.REFLECT:
                opposite = clock.minus(clock.number(0), places)
            places = clock.most(places, opposite)
        newest = clock.index(own)
        if clock.drains:
            # Before the end is known, it is past all that a window reads.
            last = clock.least(clock.plus(clock.total(own), -1), clock.plus(newest, walk.behind))
            newest = clock.least(newest, last)
            if walk.behind:
                opposite = last
                if walk.tail is Beyond.REFLECT:
                    opposite = clock.minus(last, clock.minus(places, last))
                places = clock.least(places, opposite)
        # The ring ends with the newest element.
        oldest_kept = clock.plus(newest, 1 - length)
        places = clock.minus(places, oldest_kept)
        places = clock.most(clock.least(places, clock.number(length - 1)), clock.number(0))
        return builder.compute(Gather(axis), kept, places)
