"""How a value stands to the frames of a stream: the algebra that the operators' time rules use.

Element j of a value along its time axis is there in step `j * stride + delay` (a step feeds one
frame). Of a recording of T frames the value has floor((T + slack) / stride) + 1 elements. Both may
be negative: elements that would be there before the first step do not depend on any frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Time:
    """A value along time.

    Args:
        stride: frames from one element to the next.
        delay: the step that has element 0.
        slack: see above.
        last: the newest frame that element 0 depends on.
        reach: frames that an element depends on, the newest one included; None: all before it.
    """

    stride: int = 1
    delay: int = 0
    slack: int = -1
    last: int = 0
    reach: int | None = 1

    def count(self, frames: int) -> int:
        """Elements of a recording of so many frames."""
        return max(0, (frames + self.slack) // self.stride + 1)

    @property
    def early(self) -> int:
        """Elements that would be there before the first step."""
        return max(0, -(self.delay // self.stride))

    @property
    def tail(self) -> int:
        """Steps behind the last frame in which elements still come."""
        return self.slack + self.delay + 1

    def at(self, delay: int) -> Time:
        """The same elements, in later steps."""
        return replace(self, delay=delay)

    def expected(self) -> Time:
        """In no step before it is sure that the recording is long enough for the element."""
        return self.at(max(self.delay, -1 - self.slack))

    def fed(self) -> Time:
        """The same, and in no step before the first frame, nor before frame `j * stride`."""
        return self.at(max(self.delay, -1 - self.slack, 0))

    def without(self, first: int, last: int = 0, step: int = 1) -> Time:
        """Every step-th element from `first` on, the last ones left away."""
        return Time(
            self.stride * step,
            self.delay + self.stride * first,
            self.slack - self.stride * (first + last),
            self.last + self.stride * first,
            self.reach,
        )

    def padded(self, before: int, behind: int) -> Time:
        """So many elements more before the first and behind the last."""
        return Time(
            self.stride,
            self.delay - self.stride * before,
            self.slack + self.stride * (before + behind),
            self.last - self.stride * before,
            self.reach,
        )

    def windowed(self, reach: int, step: int, before: int, behind: int) -> Time:
        """Windows of `reach` elements, every `step`, over the padded value."""
        padded = self.padded(before, behind)
        more = self.stride * (reach - 1)
        return Time(
            self.stride * step,
            padded.delay + more,
            padded.slack - more,
            padded.last + more,
            None if self.reach is None else self.reach + more,
        )

    def following(self) -> Time:
        """As many elements, each there when the one before it was."""
        return replace(self, delay=self.delay - self.stride, last=self.last - self.stride)

    def remembering(self) -> Time:
        """What depends on all elements so far."""
        return replace(self, reach=None)


@dataclass(frozen=True, slots=True)
class Newest:
    """A value without a time axis that depends on frames: what the model gives if it ended here.

    Args:
        delay: after step t it is that of the recording cut behind frame t - delay.
        first: the step in which it is first defined.
        reach: frames that it depends on; None: all so far.
    """

    delay: int = 0
    first: int = 0
    reach: int | None = None

    def later(self, delay: int) -> Newest:
        """The same, so many steps behind as `delay` says."""
        return replace(self, delay=delay, first=self.first + delay - self.delay)


def newest_of(time: Time, elements: int = 1) -> Newest:
    """The view of what has been seen of a value, which needs so many elements."""
    return Newest(time.tail, max(0, time.delay + time.stride * (elements - 1)))


def picked_of(time: Time, elements: int) -> Newest:
    """The newest elements of a value, and nothing before them."""
    reach = None if time.reach is None else time.reach + time.stride * (elements - 1)
    return replace(newest_of(time, elements), reach=reach)


def aligned(times: list[Time]) -> Time | None:
    """When elements of several values can be used together; None where their rates differ."""
    strides = {time.stride for time in times}
    if len(strides) != 1:
        return None
    slack = min(time.slack for time in times)
    last = max(time.last for time in times)
    reaches = [None if time.reach is None else time.last - time.reach + 1 for time in times]
    oldest = [reach for reach in reaches if reach is not None]
    reach = last - min(oldest) + 1 if len(oldest) == len(times) else None
    delay = max(time.delay for time in times)
    return Time(strides.pop(), delay, slack, last, reach).expected()
