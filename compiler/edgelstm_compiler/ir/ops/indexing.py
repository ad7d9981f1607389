"""Operations that read or replace elements at computed indices (negative: from the end)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import Op, TensorType, Tie


class Merge(StrEnum):
    """What a scattered element does to the one that stands there."""

    REPLACE = "none"
    ADD = "add"
    MUL = "mul"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class GatherElements(Op):
    """y[i, j, ...] = x[i, indices[i, j, ...], ...] along one axis."""

    axis: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The indices' shape."""
        x, indices = inputs
        _expect_elements("gather", self.axis, x, indices)
        assert x is not None
        assert indices is not None
        return (x.with_shape(indices.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """The indices' axes, and those of the data that are whole."""
        return (
            *_whole_axes(inputs, outputs[0], self.axis),
            *(Tie(1, axis, 0, axis) for axis in range(outputs[0].rank)),
        )


@dataclass(frozen=True, slots=True)
class ScatterElements(Op):
    """x with updates[i, j, ...] at [i, indices[i, j, ...], ...] along one axis."""

    axis: int
    merge: Merge

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The data's type."""
        x, indices, updates = inputs
        _expect_elements("scatter", self.axis, x, indices)
        assert x is not None
        assert indices is not None
        if updates is None or updates != x.with_shape(indices.shape):
            raise ValueError(f"scatter of {updates} at {indices}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis along which each slice gets its own updates."""
        whole = {tie.input_axis for tie in _whole_axes(inputs, outputs[0], self.axis)}
        indices = inputs[1]
        assert indices is not None
        whole = {axis for axis in whole if indices.shape[axis] == outputs[0].shape[axis]}
        return tuple(Tie(index, axis, 0, axis) for index in range(3) for axis in sorted(whole))


@dataclass(frozen=True, slots=True)
class GatherND(Op):
    """Slices of x at index vectors: the last axis of the indices counts axes of x.

    Shapes:
        x (*batch, *extents), indices (*batch, *positions, K) -> (*batch, *positions, *extents[K:])
    """

    batch_axes: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The places, then the axes that the index vectors leave."""
        x, indices = inputs
        depth = _expect_vectors("gather", x, indices)
        assert x is not None
        assert indices is not None
        b = self.batch_axes
        if not 0 <= b < min(x.rank, indices.rank) or x.shape[:b] != indices.shape[:b]:
            raise ValueError(f"gather of {x} at {indices} with {b} batch axes")
        if b + depth > x.rank:
            raise ValueError(f"gather of {x} at vectors of {depth} indices")
        return (x.with_shape((*indices.shape[:-1], *x.shape[b + depth :])),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Batch axes, the places, and the axes that are not indexed."""
        x, indices = inputs
        assert x is not None
        assert indices is not None
        depth = indices.shape[-1]
        shift = indices.rank - 1 - self.batch_axes - depth
        behind = range(self.batch_axes + depth, x.rank)
        return (
            *(Tie(0, axis, 0, axis) for axis in range(self.batch_axes)),
            *(Tie(1, axis, 0, axis) for axis in range(indices.rank - 1)),
            *(Tie(0, axis, 0, axis + shift) for axis in behind),
        )


@dataclass(frozen=True, slots=True)
class ScatterND(Op):
    """x with slices replaced at index vectors.

    Shapes:
        x (*extents), indices (*positions, K), updates (*positions, *extents[K:]) -> as x.
    """

    merge: Merge

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The data's type."""
        x, indices, updates = inputs
        depth = _expect_vectors("scatter", x, indices)
        assert x is not None
        assert indices is not None
        if depth > x.rank:
            raise ValueError(f"scatter into {x} at vectors of {depth} indices")
        if updates is None or updates != x.with_shape((*indices.shape[:-1], *x.shape[depth:])):
            raise ValueError(f"scatter of {updates} at {indices} into {x}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """The axes that are not indexed."""
        _, indices, updates = inputs
        assert indices is not None
        assert updates is not None
        depth, rank = indices.shape[-1], outputs[0].rank
        shift = updates.rank - rank
        return tuple(
            tie
            for axis in range(depth, rank)
            for tie in (Tie(0, axis, 0, axis), Tie(2, axis + shift, 0, axis))
        )


def _expect_elements(
    what: str, axis: int, x: TensorType | None, indices: TensorType | None
) -> None:
    if x is None or indices is None or indices.dtype not in (DType.I32, DType.I64):
        raise ValueError(f"{what} of {x} at {indices}")
    if x.rank != indices.rank or not 0 <= axis < x.rank:
        raise ValueError(f"{what} along axis {axis} of {x} at {indices}")
    for other in range(x.rank):
        if other != axis and indices.shape[other] > x.shape[other]:
            raise ValueError(f"{what} along axis {axis} of {x} at {indices}")


def _expect_vectors(what: str, x: TensorType | None, indices: TensorType | None) -> int:
    if x is None or indices is None or indices.dtype not in (DType.I32, DType.I64):
        raise ValueError(f"{what} of {x} at {indices}")
    if not indices.rank or indices.shape[-1] < 1:
        raise ValueError(f"{what} of {x} at {indices}")
    return indices.shape[-1]


def _whole_axes(
    inputs: Sequence[TensorType | None], output: TensorType, axis: int
) -> tuple[Tie, ...]:
    x = inputs[0]
    assert x is not None
    return tuple(
        Tie(0, other, 0, other)
        for other in range(x.rank)
        if other != axis and x.shape[other] == output.shape[other]
    )
