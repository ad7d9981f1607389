"""Bounds of the elements of a tensor, and how arithmetic moves them.

Bounds of a floating-point tensor are numbers of its own type, and each addition is done in that
type: rounding to nearest is monotonic, so what it gives at the ends bounds what it gives between
them. That is also why a sum with a bounded term per step is bounded: beyond 2^24 terms float32
absorbs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import Array

SLACK = 1.0 + 2.0**-10
"""What sums of products in any order, and approximations of functions, may be off by."""

_CEILING = {DType.F16: 2.0**15, DType.BF16: 2.0**127, DType.F32: 2.0**127, DType.F64: 2.0**1023}


@dataclass(frozen=True, slots=True)
class Interval:
    """low <= every element <= high.

    Args:
        dtype: of the tensor.
        low: per element; integers are held as float64.
        high: the same.
        is_safe: no element is NaN or infinite, nor was anything on the way to it.
    """

    dtype: DType
    low: Array
    high: Array
    is_safe: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.low.shape)

    @property
    def magnitude(self) -> Array:
        """The largest absolute value per element, in float64."""
        low, high = np.abs(self.low.astype(np.float64)), np.abs(self.high.astype(np.float64))
        return np.asarray(np.maximum(low, high))

    @property
    def is_point(self) -> bool:
        """Whether only one value is possible per element."""
        return bool(np.array_equal(self.low, self.high))

    def lies_within(self, low: float, high: float) -> bool:
        """Whether every element does."""
        return bool(self.is_safe and (self.low >= low).all() and (self.high <= high).all())

    def moved(self, move: Callable[[Array], Array]) -> Interval:
        """After an operation that only moves elements."""
        return Interval(self.dtype, move(self.low), move(self.high), self.is_safe)

    def hull(self, other: Interval) -> Interval:
        """What either allows."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Interval(self.dtype, low, high, self.is_safe and other.is_safe)


def carrier(dtype: DType) -> Any:
    """NumPy type of the bounds of a tensor."""
    return dtype.numpy if dtype.is_float else np.dtype(np.float64)


def point(data: Array) -> Interval:
    """Known values."""
    dtype = DType.from_numpy(data.dtype)
    bounds = data.astype(carrier(dtype))
    return settled(dtype, bounds, bounds)


def anything(dtype: DType, shape: tuple[int, ...], *, is_safe: bool = True) -> Interval:
    """Every value of the type; of a floating-point type only where nothing is known."""
    if dtype.is_float:
        infinity = np.full(shape, np.inf, dtype.numpy)
        return Interval(dtype, -infinity, infinity, is_safe=False)
    low, high = type_range(dtype)
    return Interval(dtype, np.full(shape, float(low)), np.full(shape, float(high)), is_safe)


def within(dtype: DType, shape: tuple[int, ...], bound: float) -> Interval:
    """Magnitudes up to a bound."""
    high: Array = np.full(shape, min(bound, largest(dtype)), dtype.numpy)
    return Interval(dtype, -high, high)


def largest(dtype: DType) -> float:
    """The largest finite number of a floating-point type."""
    return dtype.largest


def type_range(dtype: DType) -> tuple[int, int]:
    """Smallest and largest value of an integer type."""
    if dtype is DType.BOOL:
        return 0, 1
    info = np.iinfo(dtype.numpy.name)
    return int(info.min), int(info.max)


def settled(dtype: DType, low: Array, high: Array, *, is_safe: bool = True) -> Interval:
    """An interval as computed: unsafe where it may reach infinity, wide where integers wrap."""
    low, high = np.asarray(low), np.asarray(high)
    if dtype.is_float:
        with np.errstate(over="ignore"):
            low, high = low.astype(carrier(dtype)), high.astype(carrier(dtype))
        ceiling = _CEILING[dtype]
        # The comparison is false for NaN, too.
        is_safe = bool(is_safe and ((low >= -ceiling) & (high <= ceiling)).all())
        return Interval(dtype, low, high, is_safe)
    least, most = type_range(dtype)
    if not bool(((low >= least) & (high <= most)).all()):
        return anything(dtype, low.shape, is_safe=is_safe)
    return Interval(dtype, low.astype(np.float64), high.astype(np.float64), is_safe)


def symmetric(dtype: DType, magnitude: Array, *, is_safe: bool = True) -> Interval:
    """Magnitudes per element, given in float64; slack is added for rounding."""
    high = np.asarray(magnitude, np.float64) * SLACK
    return settled(dtype, -high, high, is_safe=is_safe)


def add(a: Interval, b: Interval) -> Interval:
    """Sums, rounded as the type rounds them."""
    return settled(a.dtype, a.low + b.low, a.high + b.high, is_safe=a.is_safe and b.is_safe)


def subtract(a: Interval, b: Interval) -> Interval:
    """Differences."""
    return settled(a.dtype, a.low - b.high, a.high - b.low, is_safe=a.is_safe and b.is_safe)


def multiply(a: Interval, b: Interval) -> Interval:
    """Products: the ends are among those of the ends."""
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
    return settled(a.dtype, low, high, is_safe=a.is_safe and b.is_safe)


def divide(a: Interval, b: Interval) -> Interval:
    """Quotients; nothing is known where the divisor may be zero."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    if bool(((b.low <= 0) & (b.high >= 0)).any()):
        if a.dtype.is_float:
            return anything(a.dtype, shape)
        # Integers divided by zero give an integer or zero, whatever the engine; never more.
        magnitude = np.broadcast_to(a.magnitude, shape)
        return settled(a.dtype, -magnitude, magnitude, is_safe=a.is_safe)
    ends = [x / y for x in (a.low, a.high) for y in (b.low, b.high)]
    if not a.dtype.is_float:
        ends = [np.trunc(end) for end in ends]
    low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
    return settled(a.dtype, low, high, is_safe=a.is_safe and b.is_safe)


def remainder(a: Interval, b: Interval) -> Interval:
    """Remainders of floats: no larger than either, with the sign of the first."""
    size = np.minimum(*np.broadcast_arrays(a.magnitude, b.magnitude))
    high = np.where(a.high > 0, size, 0.0)
    low = np.where(a.low < 0, -size, 0.0)
    may_be_zero = bool(((b.low <= 0) & (b.high >= 0)).any())
    return settled(a.dtype, low, high, is_safe=a.is_safe and b.is_safe and not may_be_zero)


def minimum(a: Interval, b: Interval) -> Interval:
    """The smaller of two."""
    low, high = np.minimum(a.low, b.low), np.minimum(a.high, b.high)
    return Interval(a.dtype, low, high, a.is_safe and b.is_safe)


def maximum(a: Interval, b: Interval) -> Interval:
    """The larger of two."""
    low, high = np.maximum(a.low, b.low), np.maximum(a.high, b.high)
    return Interval(a.dtype, low, high, a.is_safe and b.is_safe)


def cast(x: Interval, dtype: DType) -> Interval:
    """Conversion of the element type."""
    if dtype is DType.BOOL:
        return Interval(dtype, np.zeros(x.shape), np.ones(x.shape), x.is_safe)
    if dtype.is_float:
        return settled(dtype, x.low, x.high, is_safe=x.is_safe)
    if not x.is_safe:
        return anything(dtype, x.shape, is_safe=x.dtype.is_float or x.is_safe)
    low, high = x.low.astype(np.float64), x.high.astype(np.float64)
    if x.dtype.is_float:
        low, high = np.trunc(low), np.trunc(high)
    return settled(dtype, low, high, is_safe=x.is_safe)
