"""What a layer multiplies with: one matrix of weights, in floating point or in int8 with scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.integer_arithmetic import float_matrix, multiply

Array = NDArray[Any]


class Weights(Protocol):
    """Rows of weights that vectors are multiplied with."""

    def product(self, x: Array) -> Array:
        """The sums of all rows.

        Shapes:
            x (..., K) -> (..., rows)
        """

    def part(self, rows: slice) -> Weights:
        """Some of the rows."""


@dataclass(frozen=True, slots=True)
class FloatWeights:
    """Floating point.

    Shapes:
        columns (K, rows)
    """

    columns: Array

    def product(self, x: Array) -> Array:
        """The sums of all rows."""
        return np.asarray(x @ self.columns)

    def part(self, rows: slice) -> FloatWeights:
        """Some of the rows."""
        return FloatWeights(self.columns[:, rows])


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """int8 rows with a scale each, multiplied with what is quantized first.

    The product is float(sum of q(x) w) * scale: an exact int32 sum, converted and scaled.

    Args:
        steps: (K, rows) int8 values in floating point.
        scale: by row.
        inverse: 1 / scale of x, one or by column.
        zero_point: of x.
        dtype: what x is quantized to.
    """

    steps: Array
    scale: Array
    inverse: Array
    zero_point: int
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls, q: Array, scale: Array, inverse: Array, zero_point: int, dtype: np.dtype[Any]
    ) -> Int8Weights:
        """From weights (rows, K) in int8; holds copies only."""
        steps = float_matrix(q, -int(np.iinfo(dtype).min))
        return cls(steps, scale.copy(), inverse.copy(), zero_point, dtype)

    def product(self, x: Array) -> Array:
        """The scaled sums of all rows."""
        q = quantized(x, self.inverse.astype(x.dtype), self.zero_point, self.dtype)
        sums = multiply(q, self.steps).astype(x.dtype)
        return np.asarray(sums * self.scale.astype(x.dtype))

    def part(self, rows: slice) -> Int8Weights:
        """Some of the rows."""
        return Int8Weights(
            self.steps[:, rows], self.scale[rows], self.inverse, self.zero_point, self.dtype
        )


def quantized(x: Array, inverse: Array, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """clamp(rint(x * inverse) + zero_point), still in x's floating point type; half to even."""
    half = 1 << (8 * dtype.itemsize - 1)
    steps = np.rint(x * inverse)
    if zero_point:
        steps = steps + x.dtype.type(zero_point)
    kind = x.dtype.type
    return np.asarray(np.minimum(np.maximum(steps, kind(-half)), kind(half - 1)))


def consecutive(gates: Sequence[int], hidden: int) -> slice:
    """The rows from the first to the last of some gates."""
    return slice(min(gates) * hidden, (max(gates) + 1) * hidden)
