"""Resize by matrices: kernels that are widened against aliases; and the parts that it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.ops import MatMul
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, shape_of

CROP = "tf_crop_and_resize"
WHOLE = (0.0, 1.0)
"""The part of an axis that is all of it."""


def read_crops(node: OnnxNode, rank: int) -> Mapping[int, tuple[float, float]]:
    """Begin and end of the part that is taken of each axis, relative to its last index.

    Nothing where the coordinates are no `tf_crop_and_resize`.
    """
    if node.text("coordinate_transformation_mode", "") != CROP:
        return {}
    if node.optional(3) is None:
        # ONNX takes the crop into the extents that factors give, ONNX Runtime does not.
        raise RefusedError(f"{CROP} with factors is read in two ways: give the sizes instead")
    if node.integer("antialias", 0):
        raise RefusedError(f"{CROP} with antialias is not supported: take the part by Slice before")
    asked = node.int_list("axes")
    axes = tuple(range(rank)) if asked is None else node.axes(asked, rank)
    ends = node.constant(1, "the region of interest").astype(np.float64).reshape(-1)
    if ends.size != 2 * len(axes):
        raise ShapeError(f"{node.origin}: a region of {ends.size} numbers for {len(axes)} axes")
    found = dict.fromkeys(range(rank), WHOLE)
    found.update(
        {axis: (float(ends[k]), float(ends[k + len(axes)])) for k, axis in enumerate(axes)}
    )
    return found


def cropped_places(crop: tuple[float, float], source: int, extent: int) -> Array:
    """Where the elements of an axis come from in a part of it; outside is possible."""
    begin, end = crop
    if extent == 1:
        return np.array([0.5 * (begin + end) * (source - 1)])
    step = (end - begin) * (source - 1) / (extent - 1)
    return np.asarray(begin * (source - 1) + np.arange(extent) * step)


def cubic_kernel(node: OnnxNode, distance: Array) -> Array:
    """Source: Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    a = node.number("cubic_coeff_a", -0.75)
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


def smoothing_matrix(node: OnnxNode, mode: str, places: Array, scale: float, source: int) -> Array:
    """Weights (source, extent) of a kernel as wide as the elements that become one.

    What it covers outside of the axis counts for the elements at the ends, or, with
    `exclude_outside`, not at all.
    """
    width = min(scale, 1.0)
    reach = (1.0 if mode == "linear" else 2.0) / width
    low = math.floor(float(places.min()) - reach)
    taps = np.arange(low, math.ceil(float(places.max()) + reach) + 1)
    check_folded(8 * taps.size * places.size, node.origin)
    distance = (taps[:, None] - places[None, :]) * width
    if mode == "linear":
        weights = np.maximum(0.0, 1.0 - np.abs(distance))
    else:
        weights = cubic_kernel(node, distance)
    if node.integer("exclude_outside", 0):
        weights[(taps < 0) | (taps >= source)] = 0.0
    weights /= weights.sum(0)
    found = np.zeros((source, places.size))
    np.add.at(found, np.clip(taps, 0, source - 1), weights)
    return found.astype(np.float32)


def resampled(node: OnnxNode, x: Operand, axis: int, matrix: Array) -> Operand:
    """Products of an axis with a matrix (old extent, new extent)."""
    rank = len(shape_of(x))
    to_last = [*(a for a in range(rank) if a != axis), axis]
    back = [to_last.index(a) for a in range(rank)]
    weights = composing.array(node, f"kernel{axis}", matrix)
    return node.transpose(node.emit(MatMul(), node.transpose(x, to_last), weights), back)
