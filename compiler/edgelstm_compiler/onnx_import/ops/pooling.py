"""Pooling of ONNX: windows, reduced."""

from __future__ import annotations

import math

import numpy as np

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import Reduction, Windows
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.convolution import Spatial, read_spatial
from edgelstm_compiler.onnx_import.ops.elementwise import FLOAT32_MAX, ImportFunction, check_float
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.ops.reduction import Reducer, reduce_max, reduce_mean
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, Results, growth_of, shape_of


def import_max_pool(node: OnnxNode) -> Results:
    """MaxPool-1, -8, -10, -11, -12, -22, its first output."""
    if node.is_wanted(1):
        raise RefusedError("its output Indices is used; only the largest elements are computed")
    x, spatial, grown = _read(node)
    windows = _windows(node, x, spatial, grown, -FLOAT32_MAX)
    return [_reduced(node, windows, len(spatial.kernel), Reduction.MAX)]


def import_average_pool(node: OnnxNode) -> Results:
    """AveragePool-1, -7, -10, -11, -19, -22."""
    x, spatial, grown = _read(node)
    windows = _windows(node, x, spatial, grown, 0.0)
    total = _reduced(node, windows, len(spatial.kernel), Reduction.SUM)
    with_padding = bool(node.integer("count_include_pad", 0))
    growth = growth_of(x, node.builder)[2:]
    if not with_padding and any(
        behind and (stride > 1 or (before and grows != 0))
        for stride, before, behind, grows in zip(
            spatial.stride, spatial.begin, spatial.end, growth, strict=True
        )
    ):
        return [composing.divide(node, total, _counted(node, x, spatial, grown))]
    counts = _counts(spatial, shape_of(x)[2:], shape_of(total)[2:], with_padding)
    return [composing.divide(node, total, composing.array(node, "counts", counts))]


def import_lp_pool(node: OnnxNode) -> Results:
    """LpPool-2, -11, -18, -22 with p = 1 or 2."""
    p = node.integer("p", 2)
    if p not in (1, 2):
        raise RefusedError(f"p is {p}; 1 and 2 are supported")
    x, spatial, grown = _read(node)
    powers = composing.function(node, Fn.ABS, x) if p == 1 else composing.multiply(node, x, x)
    windows = _windows(node, powers, spatial, grown, 0.0)
    total = _reduced(node, windows, len(spatial.kernel), Reduction.SUM)
    return [total if p == 1 else composing.function(node, Fn.SQRT, total)]


def import_global_pool(reducer: Reducer) -> ImportFunction:
    """GlobalAveragePool, GlobalMaxPool, GlobalLpPool: over all spatial axes."""

    def import_pool(node: OnnxNode) -> Results:
        x = node.operand(0)
        check_float(x)
        rank = len(shape_of(x))
        if rank < 3:
            raise ShapeError(f"{node.origin}: {shape_of(x)} has no spatial axes")
        return [reducer(node, x, tuple(range(2, rank)))]

    return import_pool


def _read(node: OnnxNode) -> tuple[Operand, Spatial, tuple[int, ...]]:
    """The input, how the kernel moves, and by how much ceil_mode reaches beyond the end."""
    x = node.operand(0)
    check_float(x)
    shape, kernel = shape_of(x), node.int_list("kernel_shape")
    if kernel is None or len(shape) != len(kernel) + 2:
        raise ShapeError(f"{node.origin}: kernel_shape {kernel} over {shape}")
    spatial = read_spatial(node, kernel, shape[2:])
    grown = [0] * len(kernel)
    if node.integer("ceil_mode", 0):
        for s, extent in enumerate(shape[2:]):
            padded = extent + spatial.begin[s] + spatial.end[s]
            stride, reach = spatial.stride[s], spatial.reach[s]
            count = math.ceil((padded - reach) / stride) + 1
            # A window that would begin behind the input and its padding in front is left out.
            if (count - 1) * stride >= extent + spatial.begin[s]:
                count -= 1
            grown[s] = max(0, (count - 1) * stride + reach - padded)
    return x, spatial, tuple(grown)


def _windows(
    node: OnnxNode, x: Operand, spatial: Spatial, grown: tuple[int, ...], fill: float
) -> Operand:
    end = tuple(e + g for e, g in zip(spatial.end, grown, strict=True))
    ones = (1,) * len(spatial.kernel)
    op = Windows(spatial.kernel, spatial.stride, spatial.dilation, spatial.begin, end, ones, fill)
    return node.emit(op, x)


def _reduced(node: OnnxNode, windows: Operand, rank: int, reduction: Reduction) -> Operand:
    """(N, *positions, C, *kernel) -> (N, C, *positions)."""
    axes = tuple(range(rank + 2, 2 * rank + 2))
    result = composing.reduce(node, reduction, windows, axes)
    return node.transpose(
        composing.without_axes(node, result, axes), (0, rank + 1, *range(1, rank + 1))
    )


def _counted(node: OnnxNode, x: Operand, spatial: Spatial, grown: tuple[int, ...]) -> Operand:
    """The same numbers out of the windows themselves: the last ones depend on the length."""
    channel = take_range(node, x, 1, range(1))
    zero = composing.array(node, "zero", np.zeros((), np.float32))
    zeros = composing.multiply(node, channel, zero)
    ones = composing.add(node, zeros, composing.array(node, "one", np.ones((), np.float32)))
    windows = _windows(node, ones, spatial, grown, 0.0)
    return _reduced(node, windows, len(spatial.kernel), Reduction.SUM)


def _counts(
    spatial: Spatial, extents: tuple[int, ...], positions: tuple[int, ...], with_padding: bool
) -> Array:
    """How many elements each mean is of: (*positions)."""
    counts = np.ones((), np.float32)
    for s, extent in enumerate(extents):
        starts = np.arange(positions[s]) * spatial.stride[s] - spatial.begin[s]
        places = starts[:, None] + spatial.dilation[s] * np.arange(spatial.kernel[s])
        low, high = (-spatial.begin[s], extent + spatial.end[s]) if with_padding else (0, extent)
        own = ((places >= low) & (places < high)).sum(1).astype(np.float32)
        counts = counts[..., None] * own
    return np.asarray(counts)


POOLING: dict[str, ImportFunction] = {
    "MaxPool": import_max_pool,
    "AveragePool": import_average_pool,
    "LpPool": import_lp_pool,
    "GlobalMaxPool": import_global_pool(reduce_max),
    "GlobalAveragePool": import_global_pool(reduce_mean),
}
"""Operators that pool."""
