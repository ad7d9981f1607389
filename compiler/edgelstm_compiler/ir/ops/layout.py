"""Operations that move elements without computing: transpose, reshape, slice, gather, concat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.time import Time
from edgelstm_compiler.ir.types import Op, TensorType, Tie


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Output axis i is input axis perm[i]."""

    perm: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The permuted shape."""
        x = _only(inputs)
        if sorted(self.perm) != list(range(x.rank)):
            raise ValueError(f"perm {self.perm} of {x}")
        return (x.with_shape([x.shape[axis] for axis in self.perm]),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis goes to its new place."""
        del inputs, outputs
        return tuple(Tie(0, axis, 0, position) for position, axis in enumerate(self.perm))


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The same elements in row-major order under another shape (all extents resolved)."""

    shape: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The new shape."""
        x = _only(inputs)
        if any(extent < 1 for extent in self.shape):
            raise ValueError(f"the shape {self.shape} has an extent below one")
        if x.size != math.prod(self.shape):
            raise ValueError(f"{x} has {x.size} elements, the shape {self.shape} another number")
        return (x.with_shape(self.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Axes of equal extent with equally many elements before them."""
        x = _only(inputs)
        return tuple(Tie(0, a, 0, b) for a, b in equal_axes(x.shape, outputs[0].shape))

    def resized(self, output_axis: int, extent: int) -> Reshape:
        """The target shape with that axis replaced."""
        return replace(self, shape=_with(self.shape, output_axis, extent))


@dataclass(frozen=True, slots=True)
class Broadcast(Op):
    """Repeat axes of extent 1, and prepend axes (ONNX Expand, resolved)."""

    shape: tuple[int, ...]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The new shape."""
        x = _only(inputs)
        shift = len(self.shape) - x.rank
        if shift < 0 or any(
            extent not in (1, self.shape[axis + shift]) for axis, extent in enumerate(x.shape)
        ):
            raise ValueError(f"{x} cannot be broadcast to {self.shape}")
        return (x.with_shape(self.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Axes that keep their extent."""
        x = _only(inputs)
        shift = outputs[0].rank - x.rank
        return tuple(
            Tie(0, axis, 0, axis + shift)
            for axis, extent in enumerate(x.shape)
            if extent == outputs[0].shape[axis + shift]
        )

    def resized(self, output_axis: int, extent: int) -> Broadcast:
        """The target shape with that axis replaced."""
        return replace(self, shape=_with(self.shape, output_axis, extent))


class Taken(Enum):
    """Which frames a slice along time takes."""

    ONWARD = "all but a few at the ends"
    NEWEST = "a few near the end"
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Every step-th element along one axis, `count` of them from `start` (>= 0)."""

    axis: int
    start: int
    step: int
    count: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape with `count` along the axis."""
        x = _only(inputs)
        last = self.start + self.step * (self.count - 1)
        if not 0 <= self.axis < x.rank or self.step == 0 or self.count < 1:
            raise ValueError(f"{self} of {x}")
        if not (0 <= self.start < x.shape[self.axis] and 0 <= last < x.shape[self.axis]):
            raise ValueError(f"{self} reaches beyond {x}")
        return (x.with_shape(_with(x.shape, self.axis, self.count)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis, and its own where all of it is taken in order."""
        is_whole = outputs[0] == inputs[0] and (self.step > 0 or self.count == 1)
        return tuple(
            Tie(0, axis, 0, axis)
            for axis in range(outputs[0].rank)
            if axis != self.axis or is_whole
        )

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Its own axis where frames go on being taken; not where the first or last are picked."""
        del outputs
        taken = self.taken(_only(inputs))
        return (Tie(0, self.axis, 0, self.axis),) if taken is Taken.ONWARD else ()

    def taken(self, x: TensorType) -> Taken:
        """What it takes of a sequence, at any length of it: decided by the larger part.

        Of frames a slice takes all but a few at the ends, or a few at one end.
        """
        extent = x.shape[self.axis]
        if self.step < 0 and self.count > 1:
            return Taken.OTHERS
        step = max(self.step, 1)
        if self.count > 1 and 2 * (self.count - 1) * step >= extent - 1:
            return Taken.ONWARD
        is_newest = 2 * self.start >= extent and (step == 1 or self.count == 1)
        return Taken.NEWEST if is_newest else Taken.OTHERS

    def behind(self, x: TensorType) -> int:
        """Elements behind the last one that it takes."""
        return x.shape[self.axis] - 1 - (self.start + self.step * (self.count - 1))

    def time(self, time: Time, index: int, axis: int, inputs: Sequence[TensorType | None]) -> Time:
        """Frames are left away; of those behind the last one only whole steps."""
        del index
        if axis != self.axis:
            return time
        step = max(self.step, 1)
        left = self.behind(_only(inputs))
        return time.without(self.start, max(0, left - (step - 1)), step).expected()


@dataclass(frozen=True, slots=True)
class Gather(Op):
    """Elements along one axis at the indices given by the second input (negative: from the end)."""

    axis: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The indices' shape in place of the axis."""
        x, indices = inputs
        if x is None or indices is None or indices.dtype not in (DType.I32, DType.I64):
            raise ValueError(f"gather of {x} at {indices}")
        if not 0 <= self.axis < x.rank:
            raise ValueError(f"gather along axis {self.axis} of {x}")
        return (x.with_shape((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :])),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis of the data, and the indices' own axes."""
        x, indices = inputs
        assert x is not None
        assert indices is not None
        del outputs
        grown = indices.rank - 1
        data = [
            Tie(0, a, 0, a if a < self.axis else a + grown) for a in range(x.rank) if a != self.axis
        ]
        return (*data, *(Tie(1, a, 0, a + self.axis) for a in range(indices.rank)))


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """The inputs one after another along an axis."""

    axis: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The sum of the extents along the axis."""
        first = inputs[0] if inputs else None
        if first is None or not 0 <= self.axis < first.rank:
            raise ValueError(f"concat along axis {self.axis} of {first}")
        total = 0
        for operand in inputs:
            if operand is None or operand.dtype is not first.dtype or operand.rank != first.rank:
                raise ValueError(f"concat of {first} and {operand}")
            if _with(operand.shape, self.axis, 1) != _with(first.shape, self.axis, 1):
                raise ValueError(f"concat along axis {self.axis} of {first} and {operand}")
            total += operand.shape[self.axis]
        return (first.with_shape(_with(first.shape, self.axis, total)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis of every input."""
        return tuple(
            Tie(index, axis, 0, axis)
            for index in range(len(inputs))
            for axis in range(outputs[0].rank)
            if axis != self.axis
        )

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Its own axis: what stands before and behind a sequence pads it."""
        del outputs
        return tuple(Tie(index, self.axis, 0, self.axis) for index in range(len(inputs)))

    def time(self, time: Time, index: int, axis: int, inputs: Sequence[TensorType | None]) -> Time:
        """The other operands pad it."""
        if axis != self.axis:
            return time
        extents = [0 if x is None else x.shape[axis] for x in inputs]
        return time.padded(sum(extents[:index]), sum(extents[index + 1 :]))


def equal_axes(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Axes of two row-major shapes of the same elements that are one and the same axis.

    They have the same extent and the same number of elements behind them. Where several axes of
    extent 1 stand at the same place they match from the right: what ONNX squeezes out of Y is the
    direction, which stands before the batch.
    """
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for i in reversed(range(len(a))):
        behind = math.prod(a[i + 1 :])
        for j in reversed(range(len(b))):
            if j in taken or b[j] != a[i] or math.prod(b[j + 1 :]) != behind:
                continue
            pairs.append((i, j))
            taken.add(j)
            break
    return pairs[::-1]


def _only(inputs: Sequence[TensorType | None]) -> TensorType:
    (x,) = inputs
    if x is None:
        raise ValueError("input is missing")
    return x


def _with(shape: tuple[int, ...], axis: int, extent: int) -> tuple[int, ...]:
    return (*shape[:axis], extent, *shape[axis + 1 :])
