"""Reductions of ONNX: Reduce*, ArgMax, TopK, CumSum, norms and statistics over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Compare,
    Comparison,
    CumSum,
    GatherElements,
    Reduction,
    TopKIndices,
    Where,
)
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import ImportFunction, check_float
from edgelstm_compiler.onnx_import.source import (
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)

Reducer = Callable[[OnnxNode, Operand, Sequence[int]], Operand]
"""From a tensor and its axes to the tensor in which they have extent 1."""


def import_reduction(reducer: Reducer, axes_since: int = 18) -> ImportFunction:
    """Reduce*-1 to -13 (axes in an attribute), -18 and later (in an input; ReduceSum from 13)."""

    def import_reduce(node: OnnxNode) -> Results:
        x = node.operand(0)
        kind = type_of(x)
        if kind is None or kind.dtype is DType.BOOL:
            raise RefusedError("reductions of truth values are not supported")
        rank = len(shape_of(x))
        given = node.ints_from("axes", 1, since=axes_since)
        if not given:
            if node.opset >= axes_since and node.integer("noop_with_empty_axes", 0):
                return [x] if rank == 0 else [reducer(node, x, ())]
            given = tuple(range(rank))
        axes = node.axes(given, rank)
        result = reducer(node, x, axes)
        if node.integer("keepdims", 1):
            return [result]
        return [composing.without_axes(node, result, axes)]

    return import_reduce


def reduce_sum(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The sum."""
    return composing.reduce(node, Reduction.SUM, x, axes)


def reduce_product(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The product."""
    return composing.reduce(node, Reduction.PROD, x, axes)


def reduce_max(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The largest."""
    return composing.reduce(node, Reduction.MAX, x, axes)


def reduce_min(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The smallest."""
    return composing.reduce(node, Reduction.MIN, x, axes)


def reduce_mean(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The mean."""
    return composing.mean(node, x, axes)


def reduce_l1(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The sum of magnitudes."""
    check_float(x)
    return reduce_sum(node, composing.function(node, Fn.ABS, x), axes)


def reduce_sum_square(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The sum of squares."""
    return reduce_sum(node, composing.multiply(node, x, x), axes)


def reduce_l2(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The root of the sum of squares."""
    check_float(x)
    return composing.function(node, Fn.SQRT, reduce_sum_square(node, x, axes))


def reduce_log_sum(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The logarithm of the sum."""
    check_float(x)
    return composing.function(node, Fn.LOG, reduce_sum(node, x, axes))


def reduce_log_sum_exp(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The logarithm of the sum of exponentials, without overflow."""
    check_float(x)
    largest = reduce_max(node, x, axes)
    shifted = composing.function(node, Fn.EXP, composing.subtract(node, x, largest))
    return composing.add(node, reduce_log_sum(node, shifted, axes), largest)


def import_arg(is_max: bool) -> ImportFunction:
    """ArgMax, ArgMin-1 to -13 (select_last_index from 12)."""

    def import_index(node: OnnxNode) -> Results:
        x = node.operand(0)
        axis = node.axis(node.integer("axis", 0), len(shape_of(x)))
        takes_last = bool(node.integer("select_last_index", 0))
        result: Operand = node.emit(ArgReduce(axis, is_max, takes_last), x)
        if not node.integer("keepdims", 1):
            result = composing.without_axes(node, result, (axis,))
        return [result]

    return import_index


def import_top_k(node: OnnxNode) -> Results:
    """TopK-1 (k as attribute), -10, -11 (largest, sorted), -24: values and indices, best first."""
    x = node.operand(0)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", -1), len(shape))
    given = node.integer("k", 1) if node.opset < 10 else node.constant(1, "k")
    k = int(np.asarray(given).reshape(()))
    if not 1 <= k <= shape[axis]:
        raise ShapeError(f"{node.origin}: k is {k}, axis {axis} has {shape[axis]} elements")
    is_largest = bool(node.integer("largest", 1)) if node.opset >= 11 else True
    indices = node.emit(TopKIndices(axis, k, is_largest), x)
    values = node.emit(GatherElements(axis), x, indices) if node.is_wanted(0) else None
    return [values, indices]


def import_cum_sum(node: OnnxNode) -> Results:
    """CumSum-11, -14."""
    x = node.operand(0)
    axis = node.axis(int(node.constant(1, "the axis").reshape(())), len(shape_of(x)))
    is_exclusive, is_reverse = (bool(node.integer(name, 0)) for name in ("exclusive", "reverse"))
    return [node.emit(CumSum(axis, is_exclusive, is_reverse), x)]


def import_lp_normalization(node: OnnxNode) -> Results:
    """LpNormalization-1, -22: x over its norm along an axis; zeros stay zeros."""
    x = node.operand(0)
    check_float(x)
    axis = node.axis(node.integer("axis", -1), len(shape_of(x)))
    p = node.integer("p", 2)
    if p not in (1, 2):
        raise RefusedError(f"p is {p}; 1 and 2 are supported")
    norm = reduce_l1(node, x, (axis,)) if p == 1 else reduce_l2(node, x, (axis,))
    zero, one = (composing.number(node, name, v, x) for name, v in (("zero", 0), ("one", 1)))
    is_zero = node.emit(Compare(Comparison.EQUAL), norm, zero)
    return [composing.divide(node, x, node.emit(Where(), is_zero, one, norm))]


def import_instance_norm(node: OnnxNode) -> Results:
    """InstanceNormalization-6, -22: each channel of each element of the batch by itself."""
    x = node.operand(0)
    check_float(x)
    shape = shape_of(x)
    if len(shape) < 3:
        raise ShapeError(f"{node.origin}: X has shape {shape}, expected a batch and channels")
    axes = tuple(range(2, len(shape)))
    centred = _standardized(node, x, axes, node.number("epsilon", 1e-5))
    spread = (shape[1], *[1] * len(axes))
    scale, bias = (_per_channel(node, i, shape[1], spread) for i in (1, 2))
    return [composing.add(node, composing.multiply(node, centred, scale), bias)]


def import_group_norm(node: OnnxNode) -> Results:
    """GroupNormalization-18 (scale a group), -21 (scale a channel)."""
    x = node.operand(0)
    check_float(x)
    shape, groups = shape_of(x), node.integer("num_groups", 0)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise ShapeError(f"{node.origin}: {groups} groups of {shape}")
    each = shape[1] // groups
    grouped = node.reshape(x, (shape[0], groups, each, *shape[2:]))
    axes = tuple(range(2, len(shape) + 1))
    centred = _standardized(node, grouped, axes, node.number("epsilon", 1e-5))
    if node.opset < 21:
        spread: tuple[int, ...] = (groups, 1, *[1] * (len(shape) - 2))
        scale, bias = (_per_channel(node, i, groups, spread) for i in (1, 2))
        result = composing.add(node, composing.multiply(node, centred, scale), bias)
        return [node.reshape(result, shape)]
    spread = (shape[1], *[1] * (len(shape) - 2))
    scale, bias = (_per_channel(node, i, shape[1], spread) for i in (1, 2))
    flat = node.reshape(centred, shape)
    return [composing.add(node, composing.multiply(node, flat, scale), bias)]


def import_rms_norm(node: OnnxNode) -> Results:
    """RMSNormalization-23: x over its root mean square along the last axes, times a scale."""
    x, scale = node.operand(0), node.operand(1)
    check_float(x, scale)
    if node.integer("stash_type", 1) != 1:
        raise RefusedError("stash_type is not 1; statistics are computed in float32")
    rank = len(shape_of(x))
    axes = range(node.axis(node.integer("axis", -1), rank), rank)
    square = composing.mean(node, composing.multiply(node, x, x), axes)
    epsilon = composing.number(node, "epsilon", node.number("epsilon", 1e-5), x)
    root = composing.function(node, Fn.SQRT, composing.add(node, square, epsilon))
    return [composing.multiply(node, composing.divide(node, x, root), scale)]


def import_mean_variance(node: OnnxNode) -> Results:
    """MeanVarianceNormalization-9, -13, without scale; epsilon as ONNX Runtime has it."""
    x = node.operand(0)
    check_float(x)
    rank = len(shape_of(x))
    axes = node.axes(node.int_list("axes") or (0, 2, 3), rank)
    centred = composing.subtract(node, x, composing.mean(node, x, axes))
    variance = composing.mean(node, composing.multiply(node, centred, centred), axes)
    root = composing.function(node, Fn.SQRT, variance)
    epsilon = composing.number(node, "epsilon", 1e-9, x)
    return [composing.divide(node, centred, composing.add(node, root, epsilon))]


def import_hardmax(node: OnnxNode) -> Results:
    """Hardmax-13: 1 at the first largest element along an axis, else 0."""
    x = node.operand(0)
    check_float(x)
    shape = shape_of(x)
    if node.opset < 13:
        raise RefusedError("Hardmax before opset 13 is not supported")
    axis = node.axis(node.integer("axis", -1), len(shape))
    index = node.emit(ArgReduce(axis, True, False), x)
    count = np.arange(shape[axis], dtype=np.int64).reshape((-1, *[1] * (len(shape) - axis - 1)))
    hit = node.emit(Compare(Comparison.EQUAL), index, composing.array(node, "places", count))
    zero, one = (composing.number(node, name, v, x) for name, v in (("zero", 0), ("one", 1)))
    return [node.emit(Where(), hit, one, zero)]


def _standardized(node: OnnxNode, x: Operand, axes: Sequence[int], epsilon: float) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) along some axes."""
    centred = composing.subtract(node, x, composing.mean(node, x, axes))
    variance = composing.mean(node, composing.multiply(node, centred, centred), axes)
    shifted = composing.add(node, variance, composing.number(node, "epsilon", epsilon, x))
    return composing.divide(node, centred, composing.function(node, Fn.SQRT, shifted))


def _per_channel(node: OnnxNode, index: int, count: int, spread: tuple[int, ...]) -> Operand:
    operand = node.operand(index)
    if math.prod(shape_of(operand)) != count:
        raise ShapeError(
            f"{node.origin}: input {index} has shape {shape_of(operand)}, expected ({count},)"
        )
    return node.reshape(operand, spread)


REDUCTIONS: dict[str, ImportFunction] = {
    "ReduceSum": import_reduction(reduce_sum, axes_since=13),
    "ReduceProd": import_reduction(reduce_product),
    "ReduceMax": import_reduction(reduce_max),
    "ReduceMin": import_reduction(reduce_min),
    "ReduceMean": import_reduction(reduce_mean),
    "ReduceL1": import_reduction(reduce_l1),
    "ReduceL2": import_reduction(reduce_l2),
    "ReduceSumSquare": import_reduction(reduce_sum_square),
    "ReduceLogSum": import_reduction(reduce_log_sum),
    "ReduceLogSumExp": import_reduction(reduce_log_sum_exp),
}
"""Operators that are one reduction."""
