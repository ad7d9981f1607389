"""Operators that enlarge or rearrange axes: Pad, Tile, Resize, DepthToSpace, SpaceToDepth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Concat, Gather, Where
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import Count, RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.ops.layout import broadcast, take_range
from edgelstm_compiler.onnx_import.ops.resampling import (
    CROP,
    WHOLE,
    cropped_places,
    cubic_kernel,
    read_crops,
    resampled,
    smoothing_matrix,
)
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


def import_pad(node: OnnxNode) -> Results:
    """Pad-2 (attributes), -11, -13, -18 (axes), -19 (wrap): every mode; negative pads cut off."""
    x = node.operand(0)
    rank = len(shape_of(x))
    pads = node.ints_from("pads", 1, since=11)
    given = node.ints(3, "the axes") if node.optional(3) is not None else None
    axes = tuple(range(rank)) if given is None else node.axes(given, rank)
    if pads is None or len(pads) != 2 * len(axes):
        raise ShapeError(f"{node.origin}: pads {pads} for {len(axes)} axes of {shape_of(x)}")
    mode = node.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise ModelError(f"{node.origin}: mode is {mode!r}")
    before, behind = pads[: len(axes)], pads[len(axes) :]
    for axis, first, last in zip(axes, before, behind, strict=True):
        extent = shape_of(x)[axis]
        kept = range(max(0, -first), extent - max(0, -last))
        x = take_range(node, x, axis, kept)
        first, last = max(0, first), max(0, last)
        if not (first or last):
            continue
        if mode == "constant":
            x = _with_constant(node, x, axis, first, last)
        else:
            x = take_at(node, x, axis, _padded_places(node, mode, shape_of(x)[axis], first, last))
    return [x]


def import_tile(node: OnnxNode) -> Results:
    """Tile-6, -13: every axis repeated."""
    x, repeats = node.operand(0), node.ints(1, "the repeats")
    shape = shape_of(x)
    if len(repeats) != len(shape) or min(repeats, default=1) < 1:
        raise ShapeError(f"{node.origin}: repeats {repeats} of {shape}")
    if isinstance(x, Known):
        check_folded(x.data.nbytes * math.prod(repeats), node.origin)
        return [node.derived(x, "tiled", np.tile(x.data, repeats))]
    spread = [e for extent in shape for e in (1, extent)]
    target = [e for extent, r in zip(shape, repeats, strict=True) for e in (r, extent)]
    repeated = broadcast(node, node.reshape(x, spread), tuple(map(Count, target)))
    return [node.reshape(repeated, [e * r for e, r in zip(shape, repeats, strict=True)])]


def import_depth_to_space(node: OnnxNode) -> Results:
    """DepthToSpace-1, -11, -13: DCR and CRD."""
    x, block = node.operand(0), node.integer("blocksize", 0)
    n, c, h, w = _four(node, shape_of(x))
    if block < 1 or c % (block * block):
        raise ShapeError(f"{node.origin}: blocks of {block} from {c} channels")
    depth = c // (block * block)
    if node.text("mode", "DCR") == "DCR":
        split, perm = (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)
    moved = node.transpose(node.reshape(x, split), perm)
    return [node.reshape(moved, (n, depth, h * block, w * block))]


def import_space_to_depth(node: OnnxNode) -> Results:
    """SpaceToDepth-1, -13, and its mode CRD."""
    x, block = node.operand(0), node.integer("blocksize", 0)
    n, c, h, w = _four(node, shape_of(x))
    if block < 1 or h % block or w % block:
        raise ShapeError(f"{node.origin}: blocks of {block} of {shape_of(x)}")
    split = node.reshape(x, (n, c, h // block, block, w // block, block))
    is_crd = node.text("mode", "DCR") == "CRD"
    moved = node.transpose(split, (0, 1, 3, 5, 2, 4) if is_crd else (0, 3, 5, 1, 2, 4))
    return [node.reshape(moved, (n, c * block * block, h // block, w // block))]


def import_resize(node: OnnxNode) -> Results:
    """Resize-10 to -19 and Upsample-7, -9: nearest, linear and cubic, by constant factors.

    With antialias (-18) linear and cubic kernels are widened where the axis becomes shorter;
    `tf_crop_and_resize` takes a part of each axis, and a value for what lies outside.
    """
    x = node.operand(0)
    shape = shape_of(x)
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise ModelError(f"{node.origin}: mode is {mode!r}, expected nearest, linear or cubic")
    crops = read_crops(node, len(shape))
    where = None if crops else _coordinates(node)
    is_outside = np.zeros((), bool)
    for axis, extent, scale in _resized_axes(node, shape):
        source = shape[axis]
        if extent == source and scale == 1.0 and crops.get(axis, WHOLE) == WHOLE:
            continue
        if where is None:
            if extent == source:
                raise RefusedError(
                    f"{CROP} takes a part of axis {axis} to its own extent: ONNX Runtime copies "
                    "the whole axis; take the part by Slice before"
                )
            places = cropped_places(crops[axis], source, extent)
            spread = (-1, *[1] * (len(shape) - axis - 1))
            outside = ((places < 0) | (places > source - 1)).reshape(spread)
            is_outside = np.asarray(is_outside | outside)
        else:
            places = where(np.arange(extent), scale, source, extent)
        if mode == "nearest":
            index = np.clip(_nearest(node, places), 0, source - 1).astype(np.int64)
            x = take_at(node, x, axis, index)
        elif node.integer("antialias", 0):
            check_float(x)
            x = resampled(node, x, axis, smoothing_matrix(node, mode, places, scale, source))
        elif mode == "linear":
            low = np.floor(np.clip(places, 0, source - 1))
            upper = np.clip(places, 0, source - 1) - low
            x = _weighted(node, x, axis, (low, low + 1), (1 - upper, upper))
        else:
            low = np.floor(places)
            taps = tuple(low + k for k in (-1, 0, 1, 2))
            x = _weighted(node, x, axis, taps, _cubic_weights(node, places, taps, source))
    if is_outside.any():
        value = composing.number(node, "outside", node.number("extrapolation_value", 0.0), x)
        x = node.emit(Where(), composing.array(node, "is_outside", is_outside), value, x)
    return [x]


def take_at(node: OnnxNode, x: Operand, axis: int, places: Array) -> Operand:
    """Elements at constant places along an axis."""
    if isinstance(x, Known):
        check_folded(x.data.nbytes // max(1, x.shape[axis]) * places.size, node.origin)
        return node.derived(x, "taken", np.take(x.data, places, axis))
    places = places.astype(np.int64)
    return node.emit(Gather(axis), x, composing.array(node, f"places{axis}", places))


def _with_constant(node: OnnxNode, x: Operand, axis: int, first: int, last: int) -> Operand:
    kind = type_of(x)
    assert kind is not None
    if node.opset < 11:
        value = np.asarray(node.number("value", 0.0), kind.dtype.numpy)
    elif node.optional(2) is None:
        value = np.zeros((), kind.dtype.numpy)
    else:
        value = node.constant(2, "the constant").reshape(())
    parts: list[Operand] = []
    for name, count in (("before", first), ("", 0), ("behind", last)):
        if not name:
            parts.append(x)
        elif count:
            shape = (*shape_of(x)[:axis], count, *shape_of(x)[axis + 1 :])
            check_folded(value.itemsize * math.prod(shape), node.origin)
            parts.append(composing.array(node, f"{name}{axis}", np.broadcast_to(value, shape)))
    if isinstance(x, Known):
        data = [part.data for part in parts if isinstance(part, Known)]
        return node.derived(x, "padded", np.concatenate(data, axis))
    return node.emit(Concat(axis), *parts)


def _padded_places(node: OnnxNode, mode: str, extent: int, first: int, last: int) -> Array:
    if mode == "reflect" and max(first, last) >= extent:
        raise ShapeError(
            f"{node.origin}: {max(first, last)} elements cannot be reflected from {extent}"
        )
    places = np.arange(-first, extent + last)
    if mode == "edge":
        return np.asarray(np.clip(places, 0, extent - 1))
    if mode == "wrap":
        return np.asarray(places % extent)
    places = np.abs(places)
    return np.asarray(np.where(places >= extent, 2 * (extent - 1) - places, places))


def _resized_axes(node: OnnxNode, shape: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """Axes with the extent and the scale that they get."""
    if node.op_type == "Upsample":
        given = node.numbers("scales") if node.opset < 9 else ()
        scales = list(given) or [float(s) for s in node.constant(1, "the scales").reshape(-1)]
        return [
            (a, math.floor(e * s), s) for a, (e, s) in enumerate(zip(shape, scales, strict=True))
        ]
    at = 1 if node.opset < 11 else 2
    asked = node.int_list("axes")
    axes = tuple(range(len(shape))) if asked is None else node.axes(asked, len(shape))
    sizes = node.optional(3) if node.opset >= 11 else None
    if sizes is not None and shape_of(sizes) != (0,):
        extents = node.ints(3, "the sizes")
        factors = [n / shape[a] for a, n in zip(axes, extents, strict=True)]
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(axes)
            extents = tuple(math.floor(shape[a] * factor + 0.5) for a in axes)
        return list(zip(axes, extents, factors, strict=True))
    scales = [float(s) for s in node.constant(at, "the scales").reshape(-1)]
    if len(scales) != len(axes):
        raise ShapeError(f"{node.origin}: {len(scales)} scales for {len(axes)} axes")
    return [(a, math.floor(shape[a] * s), s) for a, s in zip(axes, scales, strict=True)]


def _coordinates(node: OnnxNode) -> Callable[[Array, float, int, int], Array]:
    default = "asymmetric" if node.opset < 11 else "half_pixel"
    mode = node.text("coordinate_transformation_mode", default)

    def half_pixel(i: Array, scale: float, source: int, extent: int) -> Array:
        return np.asarray((i + 0.5) / scale - 0.5)

    def pytorch_half_pixel(i: Array, scale: float, source: int, extent: int) -> Array:
        return half_pixel(i, scale, source, extent) if extent > 1 else np.zeros(i.shape)

    def align_corners(i: Array, scale: float, source: int, extent: int) -> Array:
        return i * (source - 1) / (extent - 1) if extent > 1 else np.zeros(i.shape)

    def asymmetric(i: Array, scale: float, source: int, extent: int) -> Array:
        return np.asarray(i / scale)

    def half_pixel_symmetric(i: Array, scale: float, source: int, extent: int) -> Array:
        adjustment = extent / (scale * source)
        centre = source / 2
        offset = centre * (1 - adjustment)
        return np.asarray(offset + (i + 0.5) / scale - 0.5)

    modes = {
        "half_pixel": half_pixel,
        "pytorch_half_pixel": pytorch_half_pixel,
        "align_corners": align_corners,
        "asymmetric": asymmetric,
        "half_pixel_symmetric": half_pixel_symmetric,
    }
    if mode not in modes:
        raise RefusedError(
            f"coordinate_transformation_mode is {mode!r}; supported: {', '.join(modes)}, {CROP}"
        )
    return modes[mode]


def _nearest(node: OnnxNode, places: Array) -> Array:
    mode = node.text("nearest_mode", "round_prefer_floor") if node.opset >= 11 else "floor"
    match mode:
        case "round_prefer_floor":
            return np.asarray(np.ceil(places - 0.5))
        case "round_prefer_ceil":
            return np.asarray(np.floor(places + 0.5))
        case "floor":
            return np.asarray(np.floor(places))
        case "ceil":
            return np.asarray(np.ceil(places))
    raise ModelError(f"{node.origin}: nearest_mode is {mode!r}")


def _cubic_weights(
    node: OnnxNode, places: Array, taps: tuple[Array, ...], extent: int
) -> tuple[Array, ...]:
    """Weights of four neighbours."""
    weights = [cubic_kernel(node, places - tap) for tap in taps]
    if node.integer("exclude_outside", 0):
        weights = [
            np.where((t >= 0) & (t < extent), w, 0) for t, w in zip(taps, weights, strict=True)
        ]
        total = sum(weights)
        weights = [w / total for w in weights]
    return tuple(weights)


def _weighted(
    node: OnnxNode, x: Operand, axis: int, taps: tuple[Array, ...], weights: tuple[Array, ...]
) -> Operand:
    """The sum of elements at some places along an axis (the last one beyond the end), weighted."""
    check_float(x)
    extent = shape_of(x)[axis]
    spread = (-1, *[1] * (len(shape_of(x)) - axis - 1))
    total: Operand | None = None
    for k, (tap, weight) in enumerate(zip(taps, weights, strict=True)):
        taken = take_at(node, x, axis, np.clip(tap, 0, extent - 1).astype(np.int64))
        factor = composing.array(
            node, f"weight{axis}_{k}", weight.astype(np.float32).reshape(spread)
        )
        part = composing.multiply(node, taken, factor)
        total = part if total is None else composing.add(node, total, part)
    assert total is not None
    return total


def _four(node: OnnxNode, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ShapeError(f"{node.origin}: {shape} has {len(shape)} axes, expected 4")
    n, c, h, w = shape
    return n, c, h, w
