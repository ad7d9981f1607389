"""Packed convolutions, padding, windows of channels: native code computes what NumPy does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import Convolve, Pad, Reduction, WindowReduce
from edgelstm_compiler.lowering.fuse_convolutions import pack
from tests.unit.targets.single_op import check, floats

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

RELU, TANH = Activation(Fn.RELU), Activation(Fn.TANH)
SQUARE = ((3, 3), (1, 1), (1, 1))

CONVOLUTIONS: dict[str, tuple[Any, tuple[int, ...], int, int]] = {
    "tiles that lie over each other": (Convolve(*SQUARE, 16), (2, 3, 7, 29), 1, 16),
    "one output": (Convolve(*SQUARE, 1, activation=RELU), (1, 2, 5, 6), 1, 16),
    "narrow last vector": (Convolve(*SQUARE, 20, True, TANH), (1, 6, 9, 5), 1, 16),
    "several passes": (Convolve((1, 1), (1, 1), (1, 1), 150, True), (1, 4, 9, 7), 1, 16),
    "strides": (Convolve((2, 3), (3, 2), (2, 1), 24), (1, 5, 12, 23), 1, 16),
    "groups": (Convolve(*SQUARE, 15, True, None, (1, 0), (2, 3)), (2, 6, 7, 9), 3, 16),
    "groups, channels first": (Convolve((3,), (1,), (2,), 40), (1, 8, 33), 2, 8),
    "three axes": (Convolve((2, 1, 3), (1, 2, 1), (1, 1, 1), 9), (1, 2, 4, 5, 8), 1, 16),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    """Any rank, stride and dilation; outputs that fill no vector, or several passes."""
    op, shape, groups, block = CONVOLUTIONS[name]
    batch, channels, *extents = shape
    depth = channels // groups * math.prod(op.kernel)
    each = op.outputs // groups
    rng = np.random.default_rng(1)
    layers = [
        (
            (rng.standard_normal((depth, each)) / 4).astype(np.float32),
            rng.standard_normal(each).astype(np.float32),
        )
        for _ in range(groups)
    ]
    x = floats(batch, *extents, channels) if op.channels_last else floats(*shape)
    check(op, x, pack(layers, block), tolerance=2e-5)


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (Pad((0, 0, 1), (0, 0, 2), 0.0), (2, 3, 37)),
        (Pad((0, 2, 0, 0), (0, 1, 3, 0), -1.5), (1, 3, 4, 5)),
        (Pad((1, 0), (0, 20), 7.0), (3, 300)),
    ],
)
def test_padding(op: Pad, shape: tuple[int, ...]) -> None:
    """Axes behind the last padded one go with it; rows shorter and longer than vectors."""
    check(op, floats(*shape))


@pytest.mark.parametrize("channels", [1, 8, 21, 48])
def test_channels_that_are_lanes(channels: int) -> None:
    """Pooling and depthwise kernels, positions that divide into no tiles."""
    largest = WindowReduce((3, 2), (2, 1), (1, 2), (0, 0), (0, 0), Reduction.MAX, True)
    check(largest, floats(2, 9, 13, channels))
    products = WindowReduce((3, 3), (1, 2), (1, 1), (0, 0), (0, 0), Reduction.SUM, True, RELU)
    weights, bias = floats(3, 3, channels), floats(channels)
    check(products, floats(1, 6, 19, channels), weights, bias, tolerance=1e-5)
    wide = WindowReduce((11,), (1,), (1,), (0,), (0,), Reduction.SUM, True)
    check(wide, floats(1, 14, channels), floats(11, channels), tolerance=1e-5)
