"""Operations that reduce, rank or accumulate the elements along some axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import Op, TensorType, Tie


class Reduction(StrEnum):
    """How many elements become one; means, norms and logarithms are made of these."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Reduce(Op):
    """The elements along `axes` become one each; the axes stay, with extent 1."""

    reduction: Reduction
    axes: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Extent 1 along the reduced axes."""
        (x,) = inputs
        if x is None or not self.axes or not all(0 <= axis < x.rank for axis in self.axes):
            raise ValueError(f"{self.reduction.value} over the axes {self.axes} of {x}")
        if len(set(self.axes)) != len(self.axes) or x.dtype is DType.BOOL:
            raise ValueError(f"{self.reduction.value} over the axes {self.axes} of {x}")
        shape = [1 if axis in self.axes else extent for axis, extent in enumerate(x.shape)]
        return (x.with_shape(shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis."""
        return _all_but(self.axes, outputs[0].rank)


@dataclass(frozen=True, slots=True)
class ArgReduce(Op):
    """The index (int64) of the largest or smallest element along an axis, which keeps extent 1."""

    axis: int
    is_max: bool
    takes_last: bool

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Indices, extent 1 along the axis."""
        (x,) = inputs
        if x is None or not 0 <= self.axis < x.rank or x.dtype is DType.BOOL:
            raise ValueError(f"the index of an extreme along axis {self.axis} of {x}")
        shape = (*x.shape[: self.axis], 1, *x.shape[self.axis + 1 :])
        return (TensorType(DType.I64, shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis."""
        return _all_but((self.axis,), outputs[0].rank)


@dataclass(frozen=True, slots=True)
class TopKIndices(Op):
    """Indices (int64) of the k largest or smallest elements along an axis, best first.

    Of equal elements the one with the lower index stands first.
    """

    axis: int
    k: int
    is_largest: bool

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Indices, extent k along the axis."""
        (x,) = inputs
        if x is None or not 0 <= self.axis < x.rank or x.dtype is DType.BOOL:
            raise ValueError(f"the {self.k} best along axis {self.axis} of {x}")
        if not 1 <= self.k <= x.shape[self.axis]:
            raise ValueError(f"the {self.k} best of {x.shape[self.axis]} elements")
        shape = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return (TensorType(DType.I64, shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis."""
        return _all_but((self.axis,), outputs[0].rank)


@dataclass(frozen=True, slots=True)
class CumSum(Op):
    """Sums of the elements up to each one along an axis.

    Args:
        axis: along which.
        is_exclusive: without the element itself.
        is_reverse: from the end.
    """

    axis: int
    is_exclusive: bool
    is_reverse: bool

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        (x,) = inputs
        if x is None or not 0 <= self.axis < x.rank or x.dtype is DType.BOOL:
            raise ValueError(f"the running sum along axis {self.axis} of {x}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis."""
        return _all_but((self.axis,), outputs[0].rank)

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Its own axis: a sum for every element."""
        del inputs, outputs
        return (Tie(0, self.axis, 0, self.axis),)


def _all_but(axes: Sequence[int], rank: int) -> tuple[Tie, ...]:
    return tuple(Tie(0, axis, 0, axis) for axis in range(rank) if axis not in axes)
