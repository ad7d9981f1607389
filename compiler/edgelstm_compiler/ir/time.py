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
    """

    stride: int = 1
    delay: int = 0
    slack: int = -1

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
        )

    def padded(self, before: int, behind: int) -> Time:
        """So many elements more before the first and behind the last."""
        return Time(
            self.stride,
            self.delay - self.stride * before,
            self.slack + self.stride * (before + behind),
        )

    def windowed(self, reach: int, step: int, before: int, behind: int) -> Time:
        """Windows of `reach` elements, every `step`, over the padded value."""
        padded = self.padded(before, behind)
        return Time(
            self.stride * step,
            padded.delay + self.stride * (reach - 1),
            padded.slack - self.stride * (reach - 1),
        )


@dataclass(frozen=True, slots=True)
class Newest:
    """A value without a time axis that depends on frames: what the model gives if it ended here.

    Args:
        delay: after step t it is that of the recording cut behind frame t - delay.
        first: the step in which it is first defined.
    """

    delay: int = 0
    first: int = 0

    def later(self, delay: int) -> Newest:
        """The same, so many steps behind as `delay` says."""
        return Newest(delay, self.first + delay - self.delay)


def newest_of(time: Time, elements: int = 1) -> Newest:
    """The view of what has been seen of a value, which needs so many elements."""
    return Newest(time.tail, max(0, time.delay + time.stride * (elements - 1)))


def aligned(times: list[Time]) -> Time | None:
    """When elements of several values can be used together; None where their rates differ."""
    strides = {time.stride for time in times}
    if len(strides) != 1:
        return None
    slack = min(time.slack for time in times)
    return Time(strides.pop(), max(time.delay for time in times), slack).expected()
