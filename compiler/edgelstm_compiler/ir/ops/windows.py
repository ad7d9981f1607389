"""Sliding windows over some axes: what convolutions and pooling are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops.reduction import Reduction
from edgelstm_compiler.ir.time import Time
from edgelstm_compiler.ir.types import Op, TensorType, Tie


@dataclass(frozen=True, slots=True)
class Windows(Op):
    """The elements that each position of a kernel covers.

    Along spatial axis s the input is spread by `spread[s]` (zeros between its elements, for
    transposed convolution), padded with `fill` by `begin[s]` and `end[s]` elements, and covered at
    the offsets `dilation[s] * (0 .. kernel[s] - 1)` from the starts `stride[s] * (0, 1, ...)`.

    Shapes:
        x (N, C, *extents) -> (N, *positions, C, *kernel): a matrix of windows, where flattened.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    spread: tuple[int, ...]
    fill: float

    def positions(self, extents: Sequence[int]) -> tuple[int, ...]:
        """How many positions the kernel has along each spatial axis."""
        return tuple(self._count(s, extent) for s, extent in enumerate(extents))

    def _count(self, s: int, extent: int) -> int:
        padded = (extent - 1) * self.spread[s] + 1 + self.begin[s] + self.end[s]
        return (padded - self.reach(s)) // self.stride[s] + 1

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """One row of C * kernel elements a position."""
        (x,) = inputs
        rank = len(self.kernel)
        lists = (self.stride, self.dilation, self.begin, self.end, self.spread)
        if x is None or x.rank != rank + 2 or any(len(each) != rank for each in lists):
            raise ValueError(f"windows of {self.kernel} over {x}")
        if min((*self.kernel, *self.stride, *self.dilation, *self.spread)) < 1:
            raise ValueError(f"windows with an extent, stride or dilation below one: {self}")
        positions = self.positions(x.shape[2:])
        if min((*positions, *self.begin, *self.end)) < 0 or 0 in positions:
            raise ValueError(f"windows of {self.kernel} do not fit into {x}")
        return (x.with_shape((x.shape[0], *positions, x.shape[1], *self.kernel)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Batch, channels, and spatial axes along which every element is a window of its own."""
        rank = len(self.kernel)
        alone = [
            s
            for s in range(rank)
            if (self.kernel[s], self.stride[s], self.begin[s], self.end[s], self.spread[s])
            == (1, 1, 0, 0, 1)
        ]
        return (
            Tie(0, 0, 0, 0),
            Tie(0, 1, 0, rank + 1),
            *(Tie(0, s + 2, 0, s + 1) for s in alone),
        )

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """A window a position: spatial axes stay what they are."""
        del inputs, outputs
        return tuple(Tie(0, s + 2, 0, s + 1) for s in range(len(self.kernel)))

    def inside(self, s: int, extent: int) -> tuple[int, int]:
        """Positions, from the first to behind the last, whose window lies in the input."""
        count = self._count(s, extent)
        first = min(-(-self.begin[s] // self.stride[s]), count)
        end = (extent - self.reach(s) + self.begin[s]) // self.stride[s] + 1
        return first, max(first, min(end, count))

    def reach(self, s: int) -> int:
        """Elements from the first that a window covers to the last, along a spatial axis."""
        return self.dilation[s] * (self.kernel[s] - 1) + 1

    def time(self, time: Time, index: int, axis: int, inputs: Sequence[TensorType | None]) -> Time:
        """A window is there when its last element is."""
        del index, inputs
        s = axis - 2
        return time.windowed(self.reach(s), self.stride[s], self.begin[s], self.end[s])


NEUTRAL: Mapping[Reduction, float] = {
    Reduction.SUM: 0.0,
    Reduction.PROD: 1.0,
    Reduction.MAX: float(np.finfo(np.float32).min),
    Reduction.MIN: float(np.finfo(np.float32).max),
}
"""What changes nothing where it is reduced with other float32."""


@dataclass(frozen=True, slots=True)
class WindowReduce(Op):
    """The elements that each position of a kernel covers become one: pooling, depthwise.

    What `Windows` and a `Reduce` behind it compute, without the windows between them; lowering
    puts it in their place. With weights every channel has M kernels of its own, and sums products.
    The activation is of what was reduced.
    What lies outside of the input changes nothing: padding is the neutral element.

    Shapes:
        x (N, C, *extents), weights (C * M, *kernel), bias (C * M,) -> (N, C * M, *positions);
        weights and bias may be absent, M is one then. Where `channels_last`, M is one:
        x (N, *extents, C), weights (*kernel, C), bias (C,) -> (N, *positions, C).
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    reduction: Reduction
    channels_last: bool = False
    activation: Activation | None = None

    @property
    def fill(self) -> float:
        """The neutral element of the reduction, in float32."""
        return NEUTRAL[self.reduction]

    @property
    def windows(self) -> Windows:
        """The operator that gives the windows."""
        ones = (1,) * len(self.kernel)
        return Windows(
            self.kernel, self.stride, self.dilation, self.begin, self.end, ones, self.fill
        )

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """One element a position and kernel."""
        x, weights, bias = (*inputs, None, None)[:3]
        if self.channels_last:
            return (self._infer_last(x, weights, bias),)
        (windows,) = self.windows.infer([x])
        assert x is not None
        channels = x.shape[1]
        if weights is not None:
            outputs = weights.shape[0]
            if weights.shape[1:] != self.kernel or outputs % channels:
                raise ValueError(f"kernels {weights} over the channels of {x}")
            if self.reduction is not Reduction.SUM:
                raise ValueError(f"products with {weights} are summed")
            channels = outputs
        if bias is not None and (weights is None or bias.shape != (channels,)):
            raise ValueError(f"a bias of {bias} for {channels} kernels")
        positions = windows.shape[1 : len(self.kernel) + 1]
        return (x.with_shape((x.shape[0], channels, *positions)),)

    def _infer_last(
        self, x: TensorType | None, weights: TensorType | None, bias: TensorType | None
    ) -> TensorType:
        if x is None or x.rank != len(self.kernel) + 2:
            raise ValueError(f"windows of {self.kernel} over {x}")
        batch, *extents, channels = x.shape
        first = x.with_shape((batch, channels, *extents))
        turned = None if weights is None else x.with_shape((weights.shape[-1], *weights.shape[:-1]))
        if turned is not None and turned.shape[0] != channels:
            raise ValueError(f"kernels {weights} over the channels of {x}")
        (found,) = replace(self, channels_last=False).infer([first, turned, bias])
        return x.with_shape((batch, *found.shape[2:], channels))
