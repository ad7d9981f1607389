"""ONNX operators that move elements: transpose, reshape, slice, gather, concat, split, expand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Broadcast, Concat, Gather, Slice
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


def import_transpose(node: OnnxNode) -> Results:
    """Transpose-1, -13: axes reversed where no perm is given."""
    x = node.operand(0)
    rank = len(shape_of(x))
    perm = node.int_list("perm")
    if perm is None:
        perm = tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise ShapeError(f"{node.origin}: perm {perm} of a tensor with {rank} axes")
    return [node.transpose(x, perm)]


def import_reshape(node: OnnxNode) -> Results:
    """Reshape-5, -13, -14 (allowzero): 0 copies an extent, -1 takes what is left."""
    x = node.operand(0)
    shape = shape_of(x)
    wanted = node.ints(1, "the shape")
    allow_zero = bool(node.integer("allowzero", 0))
    target = []
    for place, extent in enumerate(wanted):
        if extent == 0 and not allow_zero:
            if place >= len(shape):
                raise ShapeError(
                    f"{node.origin}: the shape {wanted} copies axis {place} of {shape}"
                )
            target.append(shape[place])
        else:
            target.append(extent)
    if min(target, default=0) < -1 or target.count(-1) > 1:
        raise ShapeError(f"{node.origin}: the shape {wanted} is no shape")
    count = math.prod(shape)
    if -1 in target:
        rest = math.prod(extent for extent in target if extent != -1)
        if rest == 0 or count % rest:
            raise ShapeError(f"{node.origin}: {shape} cannot be reshaped to {wanted}")
        target[target.index(-1)] = count // rest
    if math.prod(target) != count:
        raise ShapeError(
            f"{node.origin}: {shape} has {count} elements, the shape {wanted} another number; "
            "a static length may be baked into the model: export it with dynamic axes"
        )
    return [node.reshape(x, target)]


def import_flatten(node: OnnxNode) -> Results:
    """Flatten-1 to -13: two axes, split at `axis`."""
    x = node.operand(0)
    shape = shape_of(x)
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ShapeError(f"{node.origin}: axis {axis} of {shape}")
    axis = axis + len(shape) if axis < 0 else axis
    return [node.reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))]


def import_squeeze(node: OnnxNode) -> Results:
    """Squeeze-1, -11 (attribute), -13 and later (input): axes of extent one are dropped."""
    x = node.operand(0)
    shape = shape_of(x)
    given = node.ints_from("axes", 1, since=13)
    if given is None:
        axes = tuple(axis for axis, extent in enumerate(shape) if extent == 1)
    else:
        axes = node.axes(given, len(shape))
    for axis in axes:
        if shape[axis] != 1:
            raise ShapeError(f"{node.origin}: axis {axis} of {shape} has not extent 1")
    return [node.reshape(x, [e for axis, e in enumerate(shape) if axis not in axes])]


def import_unsqueeze(node: OnnxNode) -> Results:
    """Unsqueeze-1, -11 (attribute), -13 and later (input): axes of extent one are added."""
    x = node.operand(0)
    shape = list(shape_of(x))
    given = node.ints_from("axes", 1, since=13)
    if given is None:
        raise ModelError(f"{node.origin}: axes are missing")
    axes = node.axes(given, len(shape) + len(given))
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return [node.reshape(x, shape)]


def import_slice(node: OnnxNode) -> Results:
    """Slice-1 (attributes), Slice-10, -11, -13 (inputs): one graph node for each axis."""
    x = node.operand(0)
    starts = node.ints_from("starts", 1, since=10)
    ends = node.ints_from("ends", 2, since=10)
    axes = node.ints_from("axes", 3, since=10)
    if starts is None or ends is None:
        raise ModelError(f"{node.origin}: starts or ends are missing")
    steps = node.ints_from("steps", 4, since=10) or (1,) * len(starts)
    axes = tuple(range(len(starts))) if axes is None else axes
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ShapeError(
            f"{node.origin}: starts {starts}, ends {ends}, axes {axes} and steps {steps} differ in "
            "length"
        )
    for axis, start, end, step in zip(
        node.axes(axes, len(shape_of(x))), starts, ends, steps, strict=True
    ):
        if step == 0:
            raise ShapeError(f"{node.origin}: step 0 along axis {axis}")
        x = take_range(node, x, axis, clamped_range(start, end, step, shape_of(x)[axis]))
    return [x]


def clamped_range(start: int, end: int, step: int, extent: int) -> range:
    """The places that an ONNX slice takes.

    Source: ONNX operators, Slice-13. Unlike in Python, a negative step from before the first
    element starts at that element.
    """
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent), step)


def take_range(node: OnnxNode, x: Operand, axis: int, place: range) -> Operand:
    """Elements at `place` along an axis; nothing where that is all of them in order."""
    extent = shape_of(x)[axis]
    if place == range(extent):
        return x
    if isinstance(x, Known):
        return node.derived(x, "slice", np.take(x.data, np.asarray(place, np.int64), axis))
    if not place:
        raise ShapeError(
            f"{node.origin}: nothing is left of axis {axis} of {shape_of(x)} ('{x.name}'); "
            "tensors without elements are not supported"
        )
    return node.emit(Slice(axis, place.start, place.step, len(place)), x)


def import_gather(node: OnnxNode) -> Results:
    """Gather-1, -11, -13: at known or computed indices."""
    x, indices = node.operand(0), node.operand(1)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", 0), len(shape))
    kind = type_of(indices)
    if kind is None or kind.dtype not in (DType.I32, DType.I64):
        raise ModelError(f"{node.origin}: indices must be int32 or int64, found {kind}")
    if not isinstance(indices, Known):
        return [node.emit(Gather(axis), x, indices)]
    extent = shape[axis]
    if ((indices.data < -extent) | (indices.data >= extent)).any():
        raise ShapeError(
            f"{node.origin}: indices {indices.data.reshape(-1)[:8].tolist()} beyond axis {axis} "
            f"of {shape}"
        )
    resolved = np.where(indices.data < 0, indices.data + extent, indices.data)
    if isinstance(x, Known):
        nbytes = x.data.itemsize * (x.data.size // max(1, extent)) * indices.data.size
        check_folded(nbytes, node.origin)
        return [node.derived(x, "gathered", np.asarray(np.take(x.data, resolved, axis)))]
    if (indices.data < 0).any():
        indices = node.derived(indices, "resolved", resolved.astype(indices.data.dtype))
    return [node.emit(Gather(axis), x, indices)]


def import_concat(node: OnnxNode) -> Results:
    """Concat-4, -11, -13."""
    operands = [node.operand(index) for index in range(len(node.inputs))]
    if not operands:
        raise ModelError(f"{node.origin}: nothing to concatenate")
    first = shape_of(operands[0])
    axis = node.axis(node.integer("axis", 1), len(first))
    for operand in operands:
        shape = shape_of(operand)
        if len(shape) != len(first) or any(
            a != b for place, (a, b) in enumerate(zip(first, shape, strict=True)) if place != axis
        ):
            raise ShapeError(
                f"{node.origin}: {shape} of '{operand.name}' does not continue {first} along axis "
                f"{axis}"
            )
    known = [operand for operand in operands if isinstance(operand, Known)]
    if len(known) == len(operands):
        check_folded(sum(item.data.nbytes for item in known), node.origin)
        if len({item.data.dtype for item in known}) > 1:
            raise ModelError(f"{node.origin}: concatenates different element types")
        return [node.derived(known[0], "concat", np.concatenate([i.data for i in known], axis))]
    return [operands[0] if len(operands) == 1 else node.emit(Concat(axis), *operands)]


def import_split(node: OnnxNode) -> Results:
    """Split-2, -11 (attribute), -13 (input), -18 (num_outputs): one Slice for each part."""
    x = node.operand(0)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", 0), len(shape))
    extent = shape[axis]
    sizes = node.ints_from("split", 1, since=13)
    if sizes is None:
        sizes = _equal_parts(node, extent, node.integer("num_outputs", len(node.outputs)))
    if len(sizes) < len(node.outputs) or sum(sizes) != extent or min(sizes, default=0) < 0:
        raise ShapeError(f"{node.origin}: axis {axis} of {shape} cannot be split into {sizes}")
    results: list[Operand | None] = []
    start = 0
    for index in range(len(node.outputs)):
        part = range(start, start + sizes[index])
        results.append(take_range(node, x, axis, part) if node.is_wanted(index) else None)
        start = part.stop
    return results


def _equal_parts(node: OnnxNode, extent: int, count: int) -> tuple[int, ...]:
    """Parts of the same extent; since opset 18 the last may be smaller."""
    if count < 1 or count > max(extent, 1):
        raise ShapeError(f"{node.origin}: {extent} elements cannot be split into {count} parts")
    if extent % count and node.opset < 18:
        raise ShapeError(f"{node.origin}: {extent} elements do not split into {count} equal parts")
    part = math.ceil(extent / count)
    return (*[part] * (count - 1), extent - part * (count - 1))


def import_expand(node: OnnxNode) -> Results:
    """Expand-8, -13: broadcast in both directions, so that the shape may hold ones."""
    x = node.operand(0)
    return [broadcast(node, x, node.ints(1, "the shape"))]


def broadcast(node: OnnxNode, x: Operand, shape: Sequence[int]) -> Operand:
    """Repeat a tensor to the common shape of itself and the given one."""
    own = shape_of(x)
    try:
        # A negative extent is no shape; NumPy's own message for it would mislead.
        target = np.broadcast_shapes(own, tuple(shape)) if min(shape, default=0) >= 0 else None
    except ValueError:
        target = None
    if target is None:
        raise ShapeError(f"{node.origin}: {own} of '{x.name}' cannot be expanded to {tuple(shape)}")
    if target == own:
        return x
    if isinstance(x, Known):
        check_folded(x.data.itemsize * math.prod(target), node.origin)
        return node.derived(x, "expanded", np.broadcast_to(x.data, target))
    if math.prod(target) == math.prod(own):
        return node.reshape(x, target)
    return node.emit(Broadcast(target), x)
