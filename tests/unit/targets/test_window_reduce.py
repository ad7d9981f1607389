"""Reduced windows, windows and exchanged axes: native code computes what NumPy computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm_compiler.ir.ops import Reduction, Transpose, WindowReduce, Windows
from tests.unit.targets.single_op import check, floats, integers

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm


def one_axis(kernel: int, reduction: Reduction = Reduction.MAX, **fields: int) -> WindowReduce:
    """Over rows."""
    names = ("stride", "dilation", "begin", "end")
    rest = [(fields.get(name, int(name in ("stride", "dilation"))),) for name in names]
    return WindowReduce((kernel,), *rest, reduction)


@pytest.mark.parametrize("reduction", Reduction)
def test_reductions(reduction: Reduction) -> None:
    """Padding is the neutral element, whatever the elements are."""
    check(one_axis(3, reduction, begin=2, end=1), floats(2, 3, 37), tolerance=1e-5)


@pytest.mark.parametrize("extent", [1, 2, 3, 7, 8, 15, 16, 17, 33, 70])
def test_rows_of_any_length(extent: int) -> None:
    """Shorter than a vector, a few elements more than some; ends that lie outside."""
    for stride in (1, 2, 3):
        check(one_axis(3, begin=1, end=1, stride=stride), floats(1, 2, extent))
    if extent > 4:
        check(one_axis(3, Reduction.SUM, dilation=2), floats(1, 2, extent), tolerance=1e-5)


def test_windows_that_lie_outside() -> None:
    """A kernel longer than the input, and positions of padding alone."""
    check(one_axis(9, begin=4, end=4), floats(1, 2, 3))
    check(one_axis(2, Reduction.SUM, begin=3, end=3), floats(1, 2, 4))


TWO_AXES: tuple[Any, ...] = ((3, 2), (2, 1), (1, 2), (1, 0), (1, 2))


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_kernels_of_each_channel(each: int, bias: bool) -> None:
    """Products, over two axes and along one, some kernels a channel."""
    op = WindowReduce(*TWO_AXES, Reduction.SUM)
    rest = [floats(2 * each, 3, 2), floats(2 * each)][: 1 + bias]
    check(op, floats(2, 2, 9, 23), *rest, tolerance=1e-5)
    wide = one_axis(12, Reduction.SUM, begin=5, end=6)
    rest = [floats(2 * each, 12), floats(2 * each)][: 1 + bias]
    check(wide, floats(1, 2, 40), *rest, tolerance=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 9, 21), (2, 3, 3, 2), (1, 1, 1, 9)])
def test_two_axes(shape: tuple[int, ...]) -> None:
    """Rows that the kernel leaves, and rows shorter than it."""
    check(WindowReduce((3, 3), (1, 1), (1, 1), (1, 1), (1, 1), Reduction.MAX), floats(*shape))


@pytest.mark.parametrize(
    "op",
    [
        Windows((3,), (1,), (1,), (1,), (1,), (1,), 7.0),
        Windows((5,), (2,), (3,), (8,), (9,), (1,), -1.0),
        Windows((4,), (4,), (1,), (0,), (0,), (1,), 0.0),
    ],
)
def test_windows(op: Windows) -> None:
    """Positions inside ask nothing, those at the ends are filled."""
    check(op, floats(2, 3, 29))
    check(op, integers(2, 3, 29))


@pytest.mark.parametrize("perm", [(0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("shape", [(2, 8, 12), (1, 5, 7), (3, 4, 4), (6, 9, 11), (5, 1, 6)])
def test_exchanged_axes(perm: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Whole squares of four, and what is left beside them."""
    check(Transpose(perm), floats(*shape))
    check(Transpose(perm), integers(*shape))
    check(Transpose(perm), integers(*shape, dtype=np.int64))


def test_four_axes() -> None:
    """Axes that stay together are one."""
    check(Transpose((0, 3, 1, 2)), floats(2, 5, 6, 7))
    check(Transpose((0, 2, 3, 1)), floats(2, 5, 6, 7))
    check(Transpose((3, 2, 1, 0)), floats(2, 5, 6, 7))
