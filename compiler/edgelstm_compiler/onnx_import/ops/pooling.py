"""Pooling of ONNX: windows, reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import ArgReduce, Gather, Reduction, Windows
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import FramesDecideError, RefusedError
from edgelstm_compiler.onnx_import.ops import composing, powers
from edgelstm_compiler.onnx_import.ops.convolution import Spatial, read_spatial
from edgelstm_compiler.onnx_import.ops.elementwise import FLOAT32_MAX, ImportFunction, check_float
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.ops.powers import MAX_POWER
from edgelstm_compiler.onnx_import.ops.reduction import Reducer, reduce_max, reduce_mean
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, Results, growth_of, shape_of


def import_max_pool(node: OnnxNode) -> Results:
    """MaxPool-1, -8 (Indices), -10, -11, -12, -22."""
    x, spatial, grown = _read(node)
    windows = _windows(node, x, spatial, grown, -FLOAT32_MAX)
    largest = _reduced(node, windows, len(spatial.kernel), Reduction.MAX)
    return [largest, _places(node, x, spatial, windows) if node.is_wanted(1) else None]


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
    """LpPool-1, -2, -11, -18, -22: the root of the sum of powers, p = 1 to 16."""
    p = _exponent(node)
    x, spatial, grown = _read(node)
    windows = _windows(node, powers.of_magnitude(node, x, p), spatial, grown, 0.0)
    total = _reduced(node, windows, len(spatial.kernel), Reduction.SUM)
    return [powers.root(node, total, p)]


def import_global_lp_pool(node: OnnxNode) -> Results:
    """GlobalLpPool-1, -2, -22: the same over all spatial axes."""
    p = _exponent(node)

    def reducer(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
        magnitudes = powers.of_magnitude(node, x, p)
        return powers.root(node, composing.reduce(node, Reduction.SUM, magnitudes, axes), p)

    return import_global_pool(reducer)(node)


def import_global_pool(reducer: Reducer) -> ImportFunction:
    """GlobalAveragePool, GlobalMaxPool: over all spatial axes."""

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


def _exponent(node: OnnxNode) -> int:
    p = node.integer("p", 2)
    if p < 1:
        raise ModelError(f"{node.origin}: p is {p}, expected 1 or more")
    if p > MAX_POWER:
        raise RefusedError(f"p is {p}; 1 to {MAX_POWER} are supported")
    return p


def _places(node: OnnxNode, x: Operand, spatial: Spatial, windows: Operand) -> Operand:
    """Where in the whole tensor the largest element of each window stands: (N, C, *positions).

    Of equal elements the first; storage_order 1 counts spatial axes from the first to the last.
    """
    if any(grows != 0 for grows in growth_of(x, node.builder)):
        raise FramesDecideError(
            "its output Indices counts elements over the whole sequence, which a stream never has; "
            "pool over axes other than time"
        )
    shape, rank = shape_of(x), len(spatial.kernel)
    extents = shape[2:]
    factors = [math.prod(extents[s + 1 :]) for s in range(rank)]
    if node.integer("storage_order", 0):
        factors = [math.prod(extents[:s]) for s in range(rank)]
    positions = shape_of(windows)[1 : rank + 1]
    inside = np.zeros((), np.int64)
    starts = np.zeros((), np.int64)
    for s, factor in enumerate(factors):
        offsets = spatial.dilation[s] * np.arange(spatial.kernel[s])
        inside = inside[..., None] + factor * offsets
        first = np.arange(positions[s]) * spatial.stride[s] - spatial.begin[s]
        starts = starts[..., None] + factor * first
    maps = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * rank) * math.prod(extents)
    count = math.prod(spatial.kernel)
    rows = node.reshape(windows, (*shape_of(windows)[: rank + 2], count))
    largest = composing.without_axes(
        node, node.emit(ArgReduce(rank + 2, True, False), rows), (rank + 2,)
    )
    table = composing.array(node, "inside", inside.reshape(-1))
    place = node.emit(Gather(0), table, node.transpose(largest, (0, rank + 1, *range(1, rank + 1))))
    return composing.add(node, place, composing.array(node, "starts", maps + starts))


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
    "GlobalLpPool": import_global_lp_pool,
    "GlobalMaxPool": import_global_pool(reduce_max),
    "GlobalAveragePool": import_global_pool(reduce_mean),
}
"""Operators that pool."""
