"""Which outputs are new after a step: those that are late or slower come in some steps only."""

from __future__ import annotations

from typing import Protocol


class Timed(Protocol):
    """An output, as far as time is concerned; see `TensorSpec`."""

    @property
    def time_axis(self) -> int | None:
        """Its axis that is time; None where it is an any-time output."""

    @property
    def stride(self) -> int:
        """Frames from one row to the next."""

    @property
    def delay(self) -> int:
        """Steps by which it is late."""

    @property
    def warm_up(self) -> int:
        """The step that has its first row."""

    @property
    def tail(self) -> int:
        """Steps behind the last frame in which it still comes."""


def is_due(spec: Timed, step: int, end: int | None) -> bool:
    """Whether an output is new after this step.

    Args:
        spec: of the output.
        step: its number.
        end: frames of the recording, where that is known.
    """
    if end is not None and step >= end + spec.tail:
        return False
    if spec.time_axis is None:
        return step >= spec.warm_up
    late = step - spec.delay
    return late >= 0 and late % spec.stride == 0


def due_rows(spec: Timed, first: int, count: int, end: int | None) -> slice:
    """The rows of a block of steps in which an output is new.

    Args:
        spec: of the output.
        first: number of the first step.
        count: of steps.
        end: frames of the recording, where that is known.
    """
    stop = count if end is None else max(0, min(count, end + spec.tail - first))
    if spec.time_axis is None:
        return slice(min(max(0, spec.warm_up - first), stop), stop)
    wait = spec.delay - first
    start = wait if wait > 0 else wait % spec.stride
    return slice(min(start, stop), stop, spec.stride)


def row_of_prefix(spec: Timed, frames: int) -> int:
    """The row of an any-time output that is the model's on so many frames; below 0: there is none.

    Where layers look ahead, there is none before the end: what they see of the frames that follow
    is no padding.
    """
    return -1 if spec.tail else frames - 1 - spec.warm_up
