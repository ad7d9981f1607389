"""Convolutions of ONNX over any number of axes: windows times weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Concat, Dense, Reduction, Windows
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, Results, shape_of

DENSE_OUTPUTS = 8
"""So many outputs of one channel fill the vectors of a packed product."""


@dataclass(frozen=True, slots=True)
class Spatial:
    """How a kernel moves over the spatial axes: one number an axis each."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from the first one that the kernel covers to the last."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))


def read_spatial(node: OnnxNode, kernel: Sequence[int], extents: Sequence[int]) -> Spatial:
    """The attributes strides, dilations, pads and auto_pad.

    Raises:
        ShapeError: they do not fit the axes.
    """
    rank = len(extents)
    stride = node.int_list("strides") or (1,) * rank
    dilation = node.int_list("dilations") or (1,) * rank
    pads = node.int_list("pads") or (0,) * (2 * rank)
    lists = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
    for name, found in lists.items():
        if len(found) != rank or min(found, default=1) < 1:
            raise ShapeError(f"{node.origin}: {name} {tuple(found)} over {rank} axes")
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise ShapeError(f"{node.origin}: pads {pads} over {rank} axes")
    begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        total = [
            max(0, (math.ceil(n / s) - 1) * s + r - n)
            for n, s, r in zip(extents, stride, reach, strict=True)
        ]
        smaller = tuple(t // 2 for t in total)
        larger = tuple(t - t // 2 for t in total)
        begin, end = (smaller, larger) if auto == "SAME_UPPER" else (larger, smaller)
    elif auto == "VALID":
        begin = end = (0,) * rank
    elif auto != "NOTSET":
        raise ModelError(f"{node.origin}: auto_pad is {auto!r}")
    return Spatial(tuple(kernel), tuple(stride), tuple(dilation), begin, end)


def import_conv(node: OnnxNode) -> Results:
    """Conv-1, -11, -22."""
    x, w, bias = node.operand(0), node.operand(1), node.optional(2)
    check_float(x, w, bias)
    shape, weights = shape_of(x), node.constant(1, "the weights")
    groups = node.integer("group", 1)
    if len(shape) < 3 or weights.ndim != len(shape) or groups < 1:
        raise ShapeError(f"{node.origin}: weights {weights.shape} over {shape}")
    if weights.shape[1] * groups != shape[1] or weights.shape[0] % groups:
        raise ShapeError(
            f"{node.origin}: weights {weights.shape} in {groups} groups do not fit the "
            f"{shape[1]} channels of {shape}"
        )
    spatial = read_spatial(node, weights.shape[2:], shape[2:])
    _check_kernel_shape(node, weights)
    ones = (1,) * len(spatial.kernel)
    op = Windows(
        spatial.kernel, spatial.stride, spatial.dilation, spatial.begin, spatial.end, ones, 0.0
    )
    windows = _emit_windows(node, op, x)
    return [convolve(node, windows, weights, _bias(node, bias, weights.shape[0]), groups)]


def import_conv_transpose(node: OnnxNode) -> Results:
    """ConvTranspose-1, -11, -22: a convolution over the input with zeros between its elements."""
    x, w, bias = node.operand(0), node.operand(1), node.optional(2)
    check_float(x, w, bias)
    shape, weights = shape_of(x), node.constant(1, "the weights")
    groups = node.integer("group", 1)
    if len(shape) < 3 or weights.ndim != len(shape) or weights.shape[0] != shape[1]:
        raise ShapeError(f"{node.origin}: weights {weights.shape} over {shape}")
    if groups < 1 or shape[1] % groups:
        raise ShapeError(f"{node.origin}: {shape[1]} channels in {groups} groups")
    _check_kernel_shape(node, weights)
    spatial, grown = _transposed_padding(node, weights.shape[2:], shape[2:])
    rank = len(spatial.kernel)
    # Padding of the output is less of the border that a whole kernel reaches beyond the input.
    begin = [r - 1 - b for r, b in zip(spatial.reach, spatial.begin, strict=True)]
    end = [r - 1 - e + g for r, e, g in zip(spatial.reach, spatial.end, grown, strict=True)]
    op = Windows(
        spatial.kernel,
        (1,) * rank,
        spatial.dilation,
        tuple(max(0, b) for b in begin),
        tuple(max(0, e) for e in end),
        spatial.stride,
        0.0,
    )
    windows: Operand = node.emit(op, x)
    for axis in range(rank):
        extent = shape_of(windows)[axis + 1]
        kept = range(max(0, -begin[axis]), extent - max(0, -end[axis]))
        windows = take_range(node, windows, axis + 1, kept)
    flipped = np.flip(weights, tuple(range(2, weights.ndim)))
    inputs, outputs = weights.shape[0] // groups, weights.shape[1]
    regrouped = flipped.reshape(groups, inputs, outputs, *weights.shape[2:]).swapaxes(1, 2)
    regrouped = regrouped.reshape(groups * outputs, inputs, *weights.shape[2:])
    return [convolve(node, windows, regrouped, _bias(node, bias, groups * outputs), groups)]


def convolve(
    node: OnnxNode, windows: Operand, weights: Array, bias: Array | None, groups: int
) -> Operand:
    """Windows (N, *positions, C, *kernel) times weights (M, C / groups, *kernel) -> (N, M, ...)."""
    rank = weights.ndim - 2
    shape = shape_of(windows)
    lead, channels = shape[: rank + 1], shape[rank + 1]
    size = math.prod(weights.shape[2:])
    outputs = weights.shape[0]
    each = outputs // groups
    if groups == channels and each < DENSE_OUTPUTS and channels > 1:
        result = _depthwise(node, windows, weights, bias, lead, size)
    else:
        rows = node.reshape(windows, (*lead, channels * size))
        depth = channels // groups * size
        parts: list[Operand] = []
        for group in range(groups):
            part = take_range(node, rows, rank + 1, range(group * depth, (group + 1) * depth))
            chosen = slice(group * each, (group + 1) * each)
            matrix = np.ascontiguousarray(weights[chosen].reshape(each, depth).T)
            own = None if bias is None else composing.array(node, f"bias{group}", bias[chosen])
            parts.append(
                node.emit(Dense(), part, composing.array(node, f"weights{group}", matrix), own)
            )
        result = parts[0] if len(parts) == 1 else node.emit(Concat(rank + 1), *parts)
    return node.transpose(result, (0, rank + 1, *range(1, rank + 1)))


def _depthwise(
    node: OnnxNode,
    windows: Operand,
    weights: Array,
    bias: Array | None,
    lead: tuple[int, ...],
    size: int,
) -> Operand:
    """Every channel with kernels of its own: products, summed over the kernel."""
    channels = shape_of(windows)[len(lead)]
    outputs = weights.shape[0]
    spread = node.reshape(windows, (*lead, channels, 1, size))
    factors = weights.reshape(channels, outputs // channels, size)
    products = composing.multiply(node, spread, composing.array(node, "weights", factors))
    total = composing.reduce(node, Reduction.SUM, products, (len(lead) + 2,))
    result = node.reshape(total, (*lead, outputs))
    return (
        result if bias is None else composing.add(node, result, composing.array(node, "bias", bias))
    )


def _emit_windows(node: OnnxNode, op: Windows, x: Operand) -> Operand:
    """The windows; where each is one element, the same tensor with its axes in that order."""
    rank = len(op.kernel)
    ones, zeros = (1,) * rank, (0,) * rank
    if (op.kernel, op.stride, op.begin, op.end) == (ones, ones, zeros, zeros):
        moved = node.transpose(x, (0, *range(2, rank + 2), 1))
        return node.reshape(moved, (*shape_of(moved), *ones))
    return node.emit(op, x)


def _transposed_padding(
    node: OnnxNode, kernel: Sequence[int], extents: Sequence[int]
) -> tuple[Spatial, tuple[int, ...]]:
    """Padding of a transposed convolution, and how much its output grows at the end."""
    rank = len(extents)
    grown = node.int_list("output_padding") or (0,) * rank
    stride = node.int_list("strides") or (1,) * rank
    dilation = node.int_list("dilations") or (1,) * rank
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    auto, asked = node.text("auto_pad", "NOTSET"), node.int_list("output_shape")
    if asked is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        asked = tuple(n * s for n, s in zip(extents, stride, strict=True))
    if asked is None:
        pads = node.int_list("pads") if auto == "NOTSET" else None
        pads = pads or (0,) * (2 * rank)
        begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    else:
        asked = tuple(asked)[-rank:]
        total = [
            s * (n - 1) + g + r - o
            for s, n, g, r, o in zip(stride, extents, grown, reach, asked, strict=True)
        ]
        # What is asked for beyond the kernel's reach are zeros at the end.
        grown = tuple(g + max(0, -t) for g, t in zip(grown, total, strict=True))
        total = [max(0, t) for t in total]
        half = tuple(t // 2 for t in total)
        rest = tuple(t - t // 2 for t in total)
        begin, end = (half, rest) if auto == "SAME_UPPER" else (rest, half)
    return Spatial(tuple(kernel), tuple(stride), tuple(dilation), begin, end), tuple(grown)


def _check_kernel_shape(node: OnnxNode, weights: Array) -> None:
    given = node.int_list("kernel_shape")
    if given is not None and tuple(given) != weights.shape[2:]:
        raise ShapeError(
            f"{node.origin}: kernel_shape is {tuple(given)}, the weights have {weights.shape[2:]}"
        )


def _bias(node: OnnxNode, bias: Operand | None, outputs: int) -> Array | None:
    if bias is None:
        return None
    data = node.constant(2, "the bias")
    if data.shape != (outputs,):
        raise ShapeError(f"{node.origin}: the bias has shape {data.shape}, expected ({outputs},)")
    return data
