"""Logic, reductions, windows and computed indices: native code computes what NumPy computes."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Cast,
    Compare,
    Comparison,
    Connective,
    CumSum,
    GatherElements,
    GatherND,
    Logic,
    Merge,
    Not,
    Reduce,
    Reduction,
    Remainder,
    ScatterElements,
    ScatterND,
    TopKIndices,
    Unary,
    Where,
    Windows,
)
from tests.unit.targets.native import natives
from tests.unit.targets.single_op import RNG, check, floats, integers, program

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm


def truths(*shape):
    return RNG.integers(0, 2, size=shape).astype(bool)


@pytest.mark.parametrize("comparison", Comparison)
def test_compare(comparison):
    """Floats, integers, truth values; broadcasting."""
    a = integers(3, 4) // 20
    check(Compare(comparison), a, integers(4) // 20)
    x = floats(3, 4).round()
    check(Compare(comparison), x, x.T.copy().reshape(3, 4))
    if comparison in (Comparison.EQUAL, Comparison.NOT_EQUAL):
        check(Compare(comparison), truths(3, 4), truths(4))


@pytest.mark.parametrize("connective", Connective)
def test_logic(connective):
    """Truth values with broadcasting."""
    check(Logic(connective), truths(3, 4), truths(4))


def test_not_and_where():
    """Selection broadcasts all three operands."""
    check(Not(), truths(3, 4))
    check(Where(), truths(3, 1), floats(3, 4), floats(4))
    check(Where(), truths(), integers(2, 3), integers(2, 3))


@pytest.mark.parametrize("fn", [Fn.SIGN, Fn.FLOOR, Fn.CEIL, Fn.ROUND])
def test_whole_numbers(fn):
    """Halves, both signs, numbers without a fraction, beyond int32."""
    values = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-30, -1e-30, 3.0, -7.0, 8388607.5]
    values += [4194304.5, -4194305.5, 8388609.0, 3e9, -3e30]
    check(Unary(Activation(fn)), np.array(values, np.float32), tolerance=0)
    check(Unary(Activation(fn)), (100 * floats(200)), tolerance=0)


def test_bfloat16():
    """To the bit what the type rounds to: halves, subnormal numbers, overflow; and back."""
    bfloat16 = DType.BF16.numpy
    bits = RNG.integers(0, 0x7F800000, 3000, dtype=np.uint32)
    halves = (bits & 0xFFFF0000) | 0x8000
    x = np.concatenate([bits, halves, bits | 0x80000000]).astype(np.uint32).view(np.float32)
    wanted = x.astype(bfloat16)
    for native in natives(program(Cast(DType.BF16), [x])).values():
        assert native.step(x)[0].tobytes() == wanted.tobytes()
    wanted = wanted[np.isfinite(wanted)]
    for native in natives(program(Cast(DType.F32), [wanted])).values():
        assert np.array_equal(native.step(wanted)[0], wanted.astype(np.float32))


def test_remainder():
    """To the bit: signs, broadcasting, large quotients, subnormal numbers; by 0 it is NaN."""
    check(Remainder(), 5 * floats(30, 20), floats(20), tolerance=0)
    check(Remainder(), floats(3, 1), floats(4), tolerance=0)
    bits = RNG.integers(0, 1 << 32, (2, 3000), dtype=np.uint32) & ~np.uint32(0x40000000)
    a, b = bits.view(np.float32)
    check(Remainder(), a * np.float32(2.0**60), b, tolerance=0)
    tiny, largest = np.float32(1e-45), np.float32(3.4e38)
    edges = np.array([0, -0.0, tiny, -tiny, 5e-45, 1e-38, 1, 3, largest, -largest], np.float32)
    check(Remainder(), edges[:, None], edges, tolerance=0)


@pytest.mark.parametrize("reduction", Reduction)
@pytest.mark.parametrize("axes", [(1,), (0, 2), (0, 1, 2, 3)])
def test_reduce(reduction, axes):
    """One axis, some that are no neighbours, all; floats and integers."""
    check(Reduce(reduction, axes), floats(3, 4, 2, 5), tolerance=1e-5)
    check(Reduce(reduction, axes), integers(2, 3, 2, 3, dtype=np.int64) // 25)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("takes_last", [False, True])
@pytest.mark.parametrize("is_max", [False, True])
def test_arg_reduce(axis, takes_last, is_max):
    """Of equal elements the first or the last."""
    check(ArgReduce(axis, is_max, takes_last), integers(3, 4, 5) // 20)
    check(ArgReduce(axis, is_max, takes_last), floats(3, 4, 5))


@pytest.mark.parametrize("is_largest", [False, True])
@pytest.mark.parametrize(("axis", "k"), [(0, 1), (1, 3), (2, 5)])
def test_top_k(axis, k, is_largest):
    """Some or all, of equal elements the first first."""
    check(TopKIndices(axis, k, is_largest), floats(3, 4, 5))
    check(TopKIndices(axis, k, is_largest), integers(3, 4, 5) // 20)


@pytest.mark.parametrize("is_exclusive", [False, True])
@pytest.mark.parametrize("is_reverse", [False, True])
def test_cum_sum(is_exclusive, is_reverse):
    """From either end, with the element itself or without."""
    for axis in (0, 1, 2):
        check(CumSum(axis, is_exclusive, is_reverse), floats(3, 4, 5))
    check(CumSum(1, is_exclusive, is_reverse), integers(3, 4, dtype=np.int64))


@pytest.mark.parametrize(
    "op",
    [
        Windows((3,), (1,), (1,), (0,), (0,), (1,), 0.0),
        Windows((3,), (2,), (2,), (1,), (3,), (1,), 0.0),
        Windows((3,), (2,), (1,), (2,), (1,), (1,), -1e30),
        Windows((4,), (1,), (1,), (3,), (3,), (2,), 0.0),
    ],
)
def test_windows_over_one_axis(op):
    """Stride, dilation, padding of either end, elements that are spread."""
    check(op, floats(2, 3, 11))


@pytest.mark.parametrize(
    "op",
    [
        Windows((3, 2), (1, 2), (1, 2), (1, 0), (1, 1), (1, 1), 0.0),
        Windows((2, 2), (1, 1), (1, 1), (1, 1), (1, 1), (2, 3), 0.0),
    ],
)
def test_windows_over_two_axes(op):
    """The axes have extents, strides and paddings of their own."""
    check(op, floats(2, 3, 5, 7))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_gather_and_scatter_elements(axis, dtype):
    """Negative indices; every way to merge; indices over a part of the data."""
    x = floats(4, 5, 6)
    indices = RNG.integers(-x.shape[axis], x.shape[axis], size=(3, 4, 5)).astype(dtype)
    check(GatherElements(axis), x, indices)
    for merge in Merge:
        check(ScatterElements(axis, merge), x, indices, floats(3, 4, 5), tolerance=1e-5)


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(batch):
    """Index vectors shorter than the data has axes, with and without batch axes."""
    x = floats(3, 4, 5, 2)
    for depth in (1, 2):
        limits = np.array(x.shape[batch : batch + depth])
        shape = (*x.shape[:batch], 2, 3, depth)
        check(GatherND(batch), x, RNG.integers(-limits, limits, size=shape))


def test_scatter_nd():
    """Elements and slices, every way to merge; of equal indices the last one counts."""
    x = floats(4, 5, 3)
    indices = np.array([[0, 1], [3, -1], [0, 1]])
    for merge in Merge:
        check(ScatterND(merge), x, indices, floats(3, 3), tolerance=1e-5)
    check(ScatterND(Merge.REPLACE), x, np.array([[2]]), floats(1, 5, 3))
