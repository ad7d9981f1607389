"""ONNX operators that move elements: transpose, reshape, slice, gather, concat, split, expand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Broadcast, Concat, Gather, Slice
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import (
    TO_THE_END,
    Count,
    FramesDecideError,
    clamped_range,
    describe_count,
    describe_counts,
    product,
    sliced,
)
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)
from edgelstm_compiler.onnx_import.wrapped_indices import unwrapped


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
    extents = node.extents(x)
    wanted = node.counts(1, "the shape")
    allow_zero = bool(node.integer("allowzero", 0))
    target: list[Count | None] = []
    for place, extent in enumerate(wanted):
        if extent == Count(0) and not allow_zero:
            if place >= len(extents):
                raise ShapeError(
                    f"{node.origin}: the shape {describe_counts(wanted)} copies axis {place} of "
                    f"{describe_counts(extents)}"
                )
            target.append(extents[place])
        else:
            target.append(extent)
    rest = Count(-1)
    fixed = [extent.at(node.builder.frames) for extent in target if extent is not None]
    if min(fixed, default=0) < -1 or target.count(rest) > 1:
        raise ShapeError(f"{node.origin}: the shape {describe_counts(wanted)} is no shape")
    if rest in target:
        left = _what_is_left(node, x, [extent for extent in target if extent != rest], wanted)
        target[target.index(rest)] = left
    count, sizes = math.prod(shape_of(x)), node.size_of(x)
    found = product(target)
    is_known = found is not None and sizes is not None
    if found != sizes if is_known else _trial_size(node, target) not in (None, count):
        raise ShapeError(
            f"{node.origin}: {describe_counts(extents)} has {describe_count(sizes)} elements, the "
            f"shape {describe_counts(wanted)} another number; a static length may be baked into "
            "the model: export it with dynamic axes"
        )
    return [node.reshape(x, target)]


def _what_is_left(
    node: OnnxNode, x: Operand, others: Sequence[Count | None], wanted: Sequence[Count]
) -> Count | None:
    """The extent that -1 stands for; None where it is no line over the frames."""
    size, rest = node.size_of(x), product(others)
    left = size.over(rest) if size is not None and rest is not None else None
    if left is not None:
        return left
    count, trial = math.prod(shape_of(x)), _trial_size(node, others)
    if not trial or count % trial or (size is not None and rest is not None):
        raise ShapeError(
            f"{node.origin}: {describe_counts(node.extents(x))} cannot be reshaped to "
            f"{describe_counts(wanted)}"
        )
    return None


def _trial_size(node: OnnxNode, extents: Sequence[Count | None]) -> int | None:
    """Elements at the trial number of frames; None where an extent is not known."""
    if None in extents:
        return None
    return math.prod(e.at(node.builder.frames) for e in extents if e is not None)


def import_flatten(node: OnnxNode) -> Results:
    """Flatten-1 to -13: two axes, split at `axis`."""
    x = node.operand(0)
    extents = node.extents(x)
    axis = node.integer("axis", 1)
    if not -len(extents) <= axis <= len(extents):
        raise ShapeError(f"{node.origin}: axis {axis} of {describe_counts(extents)}")
    axis = axis + len(extents) if axis < 0 else axis
    return [node.reshape(x, (product(extents[:axis]), product(extents[axis:])))]


def import_squeeze(node: OnnxNode) -> Results:
    """Squeeze-1, -11 (attribute), -13 and later (input): axes of extent one are dropped."""
    x = node.operand(0)
    shape = shape_of(x)
    extents = node.extents(x)
    given = node.ints_from("axes", 1, since=13)
    if given is None:
        axes = tuple(axis for axis, extent in enumerate(shape) if extent == 1)
    else:
        axes = node.axes(given, len(shape))
    for axis in axes:
        if shape[axis] != 1:
            raise ShapeError(
                f"{node.origin}: axis {axis} of {describe_counts(extents)} has not extent 1"
            )
    return [node.reshape(x, [e for axis, e in enumerate(extents) if axis not in axes])]


def import_unsqueeze(node: OnnxNode) -> Results:
    """Unsqueeze-1, -11 (attribute), -13 and later (input): axes of extent one are added."""
    x = node.operand(0)
    extents = list(node.extents(x))
    given = node.ints_from("axes", 1, since=13)
    if given is None:
        raise ModelError(f"{node.origin}: axes are missing")
    for axis in sorted(node.axes(given, len(extents) + len(given))):
        extents.insert(axis, Count(1))
    return [node.reshape(x, extents)]


def import_slice(node: OnnxNode) -> Results:
    """Slice-1 (attributes), Slice-10, -11, -13 (inputs): one graph node for each axis."""
    x = node.operand(0)
    starts = _bounds(node, "starts", 1)
    ends = _bounds(node, "ends", 2)
    axes = node.ints_from("axes", 3, since=10)
    if starts is None or ends is None:
        raise ModelError(f"{node.origin}: starts or ends are missing")
    steps = node.ints_from("steps", 4, since=10) or (1,) * len(starts)
    axes = tuple(range(len(starts))) if axes is None else axes
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ShapeError(
            f"{node.origin}: starts {describe_counts(starts)}, ends {describe_counts(ends)}, "
            f"axes {axes} and steps {steps} differ in length"
        )
    for axis, start, end, step in zip(
        node.axes(axes, len(shape_of(x))), starts, ends, steps, strict=True
    ):
        if step == 0:
            raise ShapeError(f"{node.origin}: step 0 along axis {axis}")
        x = _take_slice(node, x, axis, start, end, step)
    return [x]


def _bounds(node: OnnxNode, name: str, index: int) -> tuple[Count, ...] | None:
    if node.opset < 10:
        given = node.int_list(name)
        return None if given is None else tuple(map(Count, given))
    return None if node.optional(index) is None else node.counts(index, name)


def _take_slice(
    node: OnnxNode, x: Operand, axis: int, start: Count, end: Count, step: int
) -> Operand:
    """One axis of a slice."""
    extent, frames = node.extents(x)[axis], node.builder.frames
    if extent is not None and extent.is_fixed and start.is_fixed and end.is_fixed:
        place = clamped_range(start.at_one, end.at_one, step, extent.at_one)
        if step > 1 and len(place) > 1 and place.stop < extent.at_one:
            return _take_onward(node, x, axis, place, Count(place.stop - place.start))
        return take_range(node, x, axis, place)
    places = f"[{describe_count(start)}:{_describe_end(end)}{f':{step}' if step != 1 else ''}]"
    if extent is None:
        short = _short_of(start, end, step, shape_of(x)[axis])
        if short is not None and not isinstance(x, Known):
            return _take_onward(node, x, axis, short, None)
        raise FramesDecideError(f"it takes {places} of an axis that grows with the frames")
    if step < 0:
        place = clamped_range(start.at(frames), end.at(frames), step, extent.at(frames))
        is_all = start.is_fixed and end.is_fixed and place == range(extent.at(frames))[::step]
        # From the last to the first: from -1, or from any beyond the end, to beyond the first.
        if is_all and (start == Count(-1) or start.at_one >= TO_THE_END):
            return take_range(node, x, axis, place, extent if step == -1 else None)
    else:
        bounds = sliced(start, end, extent)
        if bounds is not None:
            first, stop = bounds
            place = range(first.at(frames), stop.at(frames), step)
            return _take_onward(node, x, axis, place, stop - first)
        bounds = _long_bounds(start, end, extent)
        if bounds is not None and not isinstance(x, Known):
            first, stop = bounds
            place = range(first.at(frames), stop.at(frames), step)
            return _take_onward(node, x, axis, place, stop - first)
    reason = (
        f"it takes the places {places} of {describe_count(extent)}, T being the number of frames: "
        "which frames these are changes while they come, and a stream has no fixed beginning; "
        "[-1:] (the newest) and all of them can be streamed"
    )
    raise FramesDecideError(reason)


def _short_of(start: Count, end: Count, step: int, extent: int) -> range | None:
    """What is taken of an axis of this many places, whatever it grows by, by its ends."""
    is_open = end.at_one >= TO_THE_END
    if not (start.is_fixed and end.is_fixed) or step < 1 or (end.at_one >= 0 and not is_open):
        return None
    return clamped_range(start.at_one, end.at_one, step, extent)


def _take_onward(
    node: OnnxNode, x: Operand, axis: int, place: range, count: Count | None
) -> Operand:
    """Cut off the ends, then take every few: which of them come last depends on the frames."""
    x = take_range(node, x, axis, range(place.start, place.stop), count)
    if place.step == 1:
        return x
    return take_range(
        node, x, axis, range(0, len(range(place.start, place.stop)), place.step), None
    )


def _long_bounds(start: Count, end: Count, extent: Count) -> tuple[Count, Count] | None:
    """Begin and end where only a few frames at the ends are left away, or taken at the last one.

    A recording of fewer frames than that is one for which a stream has no output yet.
    """
    if not (start.is_fixed and end.is_fixed) or extent.slope < 1:
        return None
    is_open = end.at_one >= TO_THE_END
    if not is_open and end.at_one >= 0:
        return None
    first = start if start.at_one >= 0 else start + extent
    return first, extent if is_open else end + extent


def _describe_end(end: Count) -> str:
    return "" if end.at_one >= TO_THE_END else describe_count(end)


def take_range(
    node: OnnxNode, x: Operand, axis: int, place: range, count: Count | int | None = 0
) -> Operand:
    """Elements at `place` along an axis; nothing where that is all of them in order.

    Args:
        node: who takes.
        x: from what.
        axis: along which axis.
        place: which.
        count: how many, where that grows with the frames; None where it is no line; 0: fixed.
    """
    extents = node.extents(x)
    extent = shape_of(x)[axis]
    if place == range(extent):
        return x
    if isinstance(x, Known):
        return node.derived(x, "slice", np.take(x.data, np.asarray(place, np.int64), axis))
    if not place:
        raise ShapeError(
            f"{node.origin}: nothing is left of axis {axis} of {describe_counts(extents)} "
            f"('{x.name}'); tensors without elements are not supported"
        )
    grows = count.slope if isinstance(count, Count) else count
    growth = tuple(
        grows if place_ == axis else None if item is None else item.slope
        for place_, item in enumerate(extents)
    )
    return node.emit(Slice(axis, place.start, place.step, len(place)), x, growth=growth)


def import_gather(node: OnnxNode) -> Results:
    """Gather-1, -11, -13: at known or computed indices."""
    x, indices = node.operand(0), node.operand(1)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", 0), len(shape))
    kind = type_of(indices)
    if kind is None or kind.dtype not in (DType.I32, DType.I64):
        raise ModelError(f"{node.origin}: indices must be int32 or int64, found {kind}")
    if not isinstance(indices, Known):
        return [node.emit(Gather(axis), x, unwrapped(node.builder, indices, shape[axis]))]
    if isinstance(x, Value) and not _is_fixed(node.extents(x)[axis]):
        return [_gather_frames(node, x, axis, indices)]
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


def _is_fixed(extent: Count | None) -> bool:
    return extent is not None and extent.is_fixed


def _gather_frames(node: OnnxNode, x: Value, axis: int, indices: Known) -> Operand:
    """Places of an axis that grows with the frames: counted from the end where they move."""
    extent = node.extents(x)[axis]
    found = node.counts(1, "the indices") if indices.trial.ndim < 2 else None
    if extent is None or found is None:
        indices.data  # noqa: B018 - refuses what depends on the frames
        return node.emit(Gather(axis), x, indices)
    places = []
    for index in found:
        from_end = index - extent if index.slope else index
        if not from_end.is_fixed or (index.slope and from_end.at_one >= 0):
            raise FramesDecideError(f"it takes the frame {describe_count(index)} of T")
        places.append(from_end.at_one)
        trial, count = from_end.at_one, extent.at(node.builder.frames)
        if not -count <= trial < count:
            raise ShapeError(
                f"{node.origin}: index {describe_count(index)} beyond axis {axis} of "
                f"{describe_counts(node.extents(x))}"
            )
    data = np.asarray(places, indices.trial.dtype).reshape(indices.shape)
    return node.emit(Gather(axis), x, Known(f"{indices.name}.from_end", data))


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
                f"{node.origin}: {describe_counts(node.extents(operand))} of '{operand.name}' "
                f"does not continue {describe_counts(node.extents(operands[0]))} along axis {axis}"
            )
    known = [operand for operand in operands if isinstance(operand, Known)]
    if len(known) == len(operands):
        check_folded(sum(item.trial.nbytes for item in known), node.origin)
        if len({item.data.dtype for item in known}) > 1:
            raise ModelError(f"{node.origin}: concatenates different element types")
        return [node.derived(known[0], "concat", np.concatenate([i.data for i in known], axis))]
    return [operands[0] if len(operands) == 1 else node.emit(Concat(axis), *operands)]


def import_split(node: OnnxNode) -> Results:
    """Split-2, -11 (attribute), -13 (input), -18 (num_outputs): one Slice for each part."""
    x = node.operand(0)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", 0), len(shape))
    extent, frames = node.extents(x)[axis], node.builder.frames
    given = node.int_list("split") if node.opset < 13 else None
    if given is not None:
        sizes = tuple(map(Count, given))
    elif node.opset >= 13 and node.optional(1) is not None:
        sizes = node.counts(1, "split")
    else:
        count = node.integer("num_outputs", len(node.outputs))
        if extent is None or (not extent.is_fixed and count != 1):
            raise FramesDecideError(
                f"it splits the frames into {count} equal parts, and their number is "
                "unknown in a stream"
            )
        sizes = (
            (extent,) if count == 1 else tuple(map(Count, _equal_parts(node, shape[axis], count)))
        )
    total = sum(sizes, Count(0))
    if (
        len(sizes) < len(node.outputs)
        or extent is None
        or total != extent
        or min((size.at(frames) for size in sizes), default=0) < 0
    ):
        raise ShapeError(
            f"{node.origin}: axis {axis} of {describe_counts(node.extents(x))} cannot be split "
            f"into {describe_counts(sizes)}"
        )
    results: list[Operand | None] = []
    start = 0
    for index in range(len(node.outputs)):
        part = range(start, start + sizes[index].at(frames))
        taken = take_range(node, x, axis, part, sizes[index]) if node.is_wanted(index) else None
        results.append(taken)
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
    return [broadcast(node, x, node.counts(1, "the shape"))]


def broadcast(node: OnnxNode, x: Operand, shape: Sequence[Count]) -> Operand:
    """Repeat a tensor to the common shape of itself and the given one."""
    own, frames = shape_of(x), node.builder.frames
    wanted = tuple(extent.at(frames) for extent in shape)
    try:
        # A negative extent is no shape; NumPy's own message for it would mislead.
        target = np.broadcast_shapes(own, wanted) if min(wanted, default=0) >= 0 else None
    except ValueError:
        target = None
    if target is None:
        raise ShapeError(
            f"{node.origin}: {describe_counts(node.extents(x))} of '{x.name}' cannot be expanded "
            f"to {describe_counts(shape)}"
        )
    if target == own:
        return x
    if isinstance(x, Known):
        check_folded(x.data.itemsize * math.prod(target), node.origin)
        return node.derived(x, "expanded", np.broadcast_to(x.data, target))
    growth: list[int | None] = [0] * len(target)
    for extents in (shape, node.extents(x)):
        shift = len(target) - len(extents)
        for place, extent in enumerate(extents):
            if extent is None or not extent.is_fixed:
                growth[place + shift] = None if extent is None else extent.slope
    if math.prod(target) == math.prod(own):
        counts = [
            None if grows is None else Count.of(extent, grows, frames)
            for extent, grows in zip(target, growth, strict=True)
        ]
        return node.reshape(x, counts)
    return node.emit(Broadcast(target), x, growth=tuple(growth))
