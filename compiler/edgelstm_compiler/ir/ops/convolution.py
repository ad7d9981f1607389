"""Convolutions on packed weights: what compiled programs have in place of windows and a Dense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.types import Op, TensorType


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """A tensor with elements of one value in front of and behind each axis.

    Shapes:
        x (*extents) -> (begin + extent + end, ...); one number an axis each.
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    fill: float

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Every axis longer by its two numbers."""
        (x,) = inputs
        if x is None or len(self.begin) != x.rank or len(self.end) != x.rank:
            raise ValueError(f"{self.begin} and {self.end} elements around {x}")
        if min((*self.begin, *self.end), default=0) < 0:
            raise ValueError(f"fewer than no elements around {x}: {self}")
        extents = zip(self.begin, x.shape, self.end, strict=True)
        return (x.with_shape([sum(parts) for parts in extents]),)


@dataclass(frozen=True, slots=True)
class Convolve(Op):
    """activation(sum of products over a kernel and the channels of a group + bias), no padding.

    Lowering puts it in the place of `Windows`, a `Dense` and what stands between them.

    Shapes:
        x (N, C, *extents), or (N, *extents, C) where `channels_last`; weights
        (groups, blocks, 1 + K, units), K = C / groups * the kernel's size; -> (N, *positions, M).
        A block holds the biases of its units, then their weights for every element of a window,
        in the order of x: (C / groups, *kernel) or (*kernel, C / groups). Units beyond M / groups
        of a group are zero. Where `begin` and `end` are told, so many zeros stand around the
        positions of every axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    outputs: int
    channels_last: bool = False
    activation: Activation | None = None
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    @property
    def around(self) -> tuple[tuple[int, int], ...]:
        """Zeros in front of and behind the positions of each spatial axis."""
        if not self.begin:
            return ((0, 0),) * len(self.kernel)
        return tuple(zip(self.begin, self.end, strict=True))

    def positions(self, extents: Sequence[int]) -> tuple[int, ...]:
        """How many positions the kernel has along each spatial axis."""
        places = zip(extents, self.kernel, self.stride, self.dilation, strict=True)
        return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in places)

    def split(self, x: TensorType) -> tuple[int, tuple[int, ...]]:
        """Channels and spatial extents of x."""
        if self.channels_last:
            return x.shape[-1], x.shape[1:-1]
        return x.shape[1], x.shape[2:]

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """One row of M outputs a position."""
        x, weights = inputs
        rank = len(self.kernel)
        if x is None or weights is None or x.rank != rank + 2 or weights.rank != 4:
            raise ValueError(f"convolution over {x} with packed weights {weights}")
        channels, extents = self.split(x)
        positions = self.positions(extents)
        groups, blocks, rows, units = weights.shape
        depth = channels // groups * math.prod(self.kernel)
        each = self.outputs // groups
        if channels % groups or self.outputs % groups or rows != depth + 1:
            raise ValueError(f"packed weights {weights} over {channels} channels of {x}")
        if blocks != -(-each // units) or min(positions) < 1:
            raise ValueError(f"{self.outputs} outputs at {positions} with packed weights {weights}")
        wide = [b + count + e for count, (b, e) in zip(positions, self.around, strict=True)]
        return (x.with_shape((x.shape[0], *wide, self.outputs)),)
