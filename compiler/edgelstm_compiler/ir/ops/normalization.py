"""Operations that mix the elements of one axis: softmax, its logarithm, layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.types import Op, TensorType, Tie


@dataclass(frozen=True, slots=True)
class Softmax(Op):
    """exp(x - max) / sum over one axis (non-negative axis)."""

    axis: int

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        (x,) = inputs
        if x is None or not 0 <= self.axis < x.rank:
            raise ValueError(f"softmax over axis {self.axis} of {x}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every other axis."""
        del inputs
        return tuple(Tie(0, axis, 0, axis) for axis in range(outputs[0].rank) if axis != self.axis)

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Its own axis: a share for every element."""
        del inputs, outputs
        return (Tie(0, self.axis, 0, self.axis),)


@dataclass(frozen=True, slots=True)
class LogSoftmax(Softmax):
    """log(softmax(x)) over one axis (non-negative axis)."""


@dataclass(frozen=True, slots=True)
class LayerNorm(Op):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` to the last.

    Shapes:
        x, scale (of the normalized axes), bias (the same) or None -> as x.
    """

    axis: int
    epsilon: float

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        x, scale, *rest = inputs
        if x is None or scale is None or not 0 <= self.axis < x.rank:
            raise ValueError(f"layer normalization over axis {self.axis} of {x}")
        expected = x.with_shape(x.shape[self.axis :])
        for name, found in (("scale", scale), ("bias", rest[0] if rest else None)):
            if found is not None and found != expected:
                raise ValueError(f"layer normalization {name} is {found}, expected {expected}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """The axes before `axis`."""
        del inputs, outputs
        return tuple(Tie(0, axis, 0, axis) for axis in range(self.axis))
