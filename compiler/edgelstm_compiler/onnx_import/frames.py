"""What depends on the number of frames: extents and known tensors as functions of it.

Where time is free, a model is imported at one number of frames. Whatever the graph derives from
that number (Shape, and all that is computed from it) carries how it changes with it, for every
number from 1 up; what is no straight line is opaque. `dependence.py` says how operators pass it on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.types import Array

TO_THE_END = (1 << 31) - 1
"""A bound of a slice from here on means "to the end": no stream has so many frames."""

UNKNOWN_COUNT = "which depends on the number of frames: a stream has no fixed number of them"


class RefusedError(Exception):
    """Raised by import functions: this node is refused, and why. Collected by the importer."""


class FramesDecideError(RefusedError):
    """Refused for a stream only: the number of frames decides, and a stream never knows it."""


class FrameCountError(ModelError):
    """The number of frames decides what the model computes.

    Args:
        reasons: `(origin of the node, reason)` of each.
    """

    def __init__(self, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__("\n".join(f"{origin}: {reason}" for origin, reason in reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class Count:
    """An integer `at_one + slope * (T - 1)`, T being the number of frames, 1 or more."""

    at_one: int
    slope: int = 0

    @classmethod
    def of(cls, trial: int, slope: int, frames: int) -> Count:
        """The count that is `trial` at this number of frames."""
        return cls(trial - slope * (frames - 1), slope)

    def at(self, frames: int) -> int:
        """Its value at a number of frames."""
        return self.at_one + self.slope * (frames - 1)

    def __add__(self, other: Count) -> Count:
        return Count(self.at_one + other.at_one, self.slope + other.slope)

    def __sub__(self, other: Count) -> Count:
        return Count(self.at_one - other.at_one, self.slope - other.slope)

    def scaled(self, factor: int) -> Count:
        """So many times as much."""
        return Count(self.at_one * factor, self.slope * factor)

    def over(self, other: Count) -> Count | None:
        """The quotient where it is a straight line without remainder, else None."""
        if other.slope == 0:
            n = other.at_one
            if n == 0 or self.at_one % n or self.slope % n:
                return None
            return Count(self.at_one // n, self.slope // n)
        if other.at_one == 0 or self.at_one % other.at_one:
            return None
        factor = self.at_one // other.at_one
        return Count(factor) if other.scaled(factor) == self else None

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same at every number of frames."""
        return self.slope == 0

    @property
    def sign(self) -> int | None:
        """-1 where it is negative at every number of frames, 1 where it never is, else None."""
        if self.at_one >= 0 and self.slope >= 0:
            return 1
        if self.at_one < 0 and self.slope <= 0:
            return -1
        return None


def smaller(a: Count, b: Count) -> Count | None:
    """The smaller of two, where that is the same one at every number of frames."""
    if (b - a).sign == 1:
        return a
    return b if (a - b).sign == 1 else None


def larger(a: Count, b: Count) -> Count | None:
    """The larger of two, where that is the same one at every number of frames."""
    found = smaller(a, b)
    return None if found is None else (b if found is a else a)


def product(counts: Sequence[Count | None]) -> Count | None:
    """Their product, where that is a straight line."""
    result = Count(1)
    for count in counts:
        if count is None:
            return None
        if count.is_fixed:
            result = result.scaled(count.at_one)
        elif result.is_fixed:
            result = count.scaled(result.at_one)
        else:
            return None
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Every element is a straight line over the number of frames; its shape is fixed.

    Args:
        slope: what each element grows by with one frame more.
    """

    slope: Array = field(repr=False)


@dataclass(frozen=True, slots=True)
class Repeated:
    """The elements are fixed; the extents grow along axes on which all places are alike.

    Args:
        growth: what each extent grows by with one frame more.
    """

    growth: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Anything else.

    Args:
        origin: the node at which it stopped being a line.
        bounds: the smallest and largest that each element may be at any number of frames, where
            that is known (float64); see `bounds.py`.
    """

    origin: str
    bounds: tuple[Array, Array] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Places(Opaque):
    """Numbers that go on by the same step along an axis, one more of them with every frame.

    Args:
        axis: along which.
        step: from one to the next.
    """

    axis: int = 0
    step: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Relative(Opaque):
    """Frames against frames: an element depends on how far its column is from its row.

    Args:
        axes: rows and columns; as many of each as there are frames.
    """

    axes: tuple[int, int] = (0, 1)

    def growth(self, rank: int) -> tuple[int, ...]:
        """What each extent grows by with one frame more."""
        return tuple(int(axis in self.axes) for axis in range(rank))


Dependence: TypeAlias = "Line | Repeated | Opaque | None"


def line_or_none(slope: Array) -> Line | None:
    """A line, or None where nothing grows."""
    return Line(slope) if np.any(slope) else None


def repeated_or_none(growth: Sequence[int]) -> Repeated | None:
    """Growing extents, or None where none grows."""
    return Repeated(tuple(growth)) if any(growth) else None


def explain(name: str, dependence: Dependence) -> str:
    """Why a known tensor cannot be used as if it were fixed."""
    if isinstance(dependence, Opaque):
        return f"'{name}' depends on the number of frames (by {dependence.origin})"
    return f"'{name}' depends on the number of frames"


def sliced(start: int | Count, end: int | Count, extent: Count) -> tuple[Count, Count] | None:
    """Begin and end of a forward slice of an axis; None where the number of frames decides.

    Source: ONNX operators, Slice-13: negative bounds count from the end, both are clamped.
    """
    bounds = []
    for bound in (start, end):
        count = bound if isinstance(bound, Count) else Count(bound)
        if count.is_fixed and count.at_one >= TO_THE_END:
            bounds.append(extent)
            continue
        if count.is_fixed and count.at_one <= -TO_THE_END:
            bounds.append(Count(0))
            continue
        if count.sign is None:
            return None
        count = count + extent if count.sign < 0 else count
        above = larger(count, Count(0))
        clamped = None if above is None else smaller(above, extent)
        if clamped is None:
            return None
        bounds.append(clamped)
    return bounds[0], bounds[1]


def clamped_range(start: int, end: int, step: int, extent: int) -> range:
    """The places that an ONNX slice takes of an axis of fixed extent.

    Source: ONNX operators, Slice-13. Unlike in Python, a negative step from before the first
    element starts at that element.
    """
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent), step)


def describe_counts(counts: Sequence[Count | None]) -> str:
    """A shape for messages, the number of frames written as T."""
    words = [describe_count(count) for count in counts]
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def describe_count(count: Count | None) -> str:
    """A count for messages, the number of frames written as T."""
    if count is None:
        return "?"
    if count.is_fixed:
        return str(count.at_one)
    factor = "" if abs(count.slope) == 1 else f"{abs(count.slope)}*"
    text = f"{'-' if count.slope < 0 else ''}{factor}T"
    rest = count.at_one - count.slope
    return text if rest == 0 else f"{text}{'+' if rest > 0 else '-'}{abs(rest)}"


def is_line(slope: Array) -> bool:
    """Whether slopes are numbers that one can go on computing with."""
    return slope.dtype.kind in "iuf" and all(math.isfinite(float(s)) for s in slope.reshape(-1))
