"""Known tensors that tell frames from each other: places of frames, and frames against frames.

A mask of attention is made of them: what lies above a diagonal (Trilu), or a comparison of the
places of two frames. At every number of frames an element depends on how far its two frames are
apart, and that is all a stream needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import (
    Line,
    Places,
    RefusedError,
    Relative,
    Repeated,
)
from edgelstm_compiler.onnx_import.source import Known

Recompute = Callable[[Sequence["Array | None"]], "list[Array]"]

ELEMENTWISE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Sum", "Mean", "Where", "Clip"),
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"),
        *("Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Exp", "Log", "Erf", "Sin"),
        *("Cos", "Tan", "Reciprocal", "IsNaN", "Sigmoid", "Tanh", "Relu", "Cast", "CastLike"),
    )
)
"""Operators on single elements, and on two of which either may be repeated."""

_LAYOUT = frozenset(("Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Cast"))
_AFFINE = frozenset(("Add", "Sub", "Mul", "Cast"))
_OF_DISTANCE = frozenset(
    ("Sub", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"),
)
"""What depends on the difference of two places alone."""


def placed_frames(
    node: onnx.NodeProto,
    inputs: Sequence[Known | None],
    results: Sequence[Array],
    recompute: Recompute,
) -> Places | Relative | None:
    """How the one result of a node tells frames apart; None where it does not, or otherwise.

    Args:
        node: its operator, for the attributes.
        inputs: as they depend on the number of frames.
        results: what the node gives at the trial number of frames.
        recompute: the node on other inputs of the same kind.
    """
    if len(results) != 1 or node.domain not in ("", "ai.onnx"):
        return None
    kinds = [None if item is None else item.frames for item in inputs]
    if node.op_type == "Range":
        return _range(inputs, results[0])
    if node.op_type in ("Trilu", "EyeLike"):
        return _diagonal(inputs, results[0])
    if not any(isinstance(kind, (Places, Relative)) for kind in kinds):
        return None
    try:
        if node.op_type in _LAYOUT:
            return _moved(inputs, results[0], recompute)
    except (EdgeLSTMError, RefusedError, ValueError, TypeError):
        return None
    if node.op_type not in ELEMENTWISE:
        return None
    return _elementwise(node, inputs, results[0])


def _range(inputs: Sequence[Known | None], result: Array) -> Places | None:
    """Range whose end goes on by one step with every frame."""
    start, limit, delta = inputs
    if start is None or limit is None or delta is None:
        return None
    if start.frames is not None or delta.frames is not None or not isinstance(limit.frames, Line):
        return None
    step = float(delta.trial.reshape(()))
    if float(limit.frames.slope.reshape(())) != step or result.size < 2:
        return None
    return Places("", None, 0, step)


def _diagonal(inputs: Sequence[Known | None], result: Array) -> Relative | None:
    """What is above or below a diagonal of a square of frames against frames."""
    x = inputs[0]
    if x is None or any(item is not None and item.frames is not None for item in inputs[1:]):
        return None
    last = (result.ndim - 2, result.ndim - 1)
    match x.frames:
        case Relative(axes=axes) if set(axes) == set(last):
            return Relative("", None, axes)
        case Repeated(growth=growth) if growth[-2:] == (1, 1) and not any(growth[:-2]):
            return Relative("", None, last) if result.shape[-2] == result.shape[-1] else None
    return None


def _moved(
    inputs: Sequence[Known | None], result: Array, recompute: Recompute
) -> Places | Relative | None:
    """Axes in another order, or among others of extent one."""
    x, *others = inputs
    assert x is not None
    rest = [None if item is None else item.trial for item in others]

    def moved(axis: int) -> int | None:
        extent = x.shape[axis]
        spread = [extent if place == axis else 1 for place in range(x.trial.ndim)]
        labels = np.broadcast_to(np.arange(extent).reshape(spread), x.shape)
        (found,) = recompute([labels.astype(x.trial.dtype), *rest])
        for place, count in enumerate(found.shape):
            wanted = np.arange(count).reshape([-1 if a == place else 1 for a in range(found.ndim)])
            if count == extent and np.array_equal(found, np.broadcast_to(wanted, found.shape)):
                return place
        return None

    match x.frames:
        case Places(axis=axis, step=step):
            place = moved(axis)
            return None if place is None else Places("", None, place, step)
        case Relative(axes=(rows, columns)) if x.trial.dtype.kind != "b":
            places = (moved(rows), moved(columns))
        case Relative(axes=(rows, columns)):
            # Truth values count no further than one.
            wide = Known(x.name, x.trial.astype(np.int64), x.frames)
            return _moved([wide, *others], result.astype(np.int64), recompute)
        case _:
            return None
    if places[0] is None or places[1] is None or places[0] == places[1]:
        return None
    return Relative("", None, (places[0], places[1]))


def frames_apart(items: Sequence[Known], rank: int) -> Relative | None:
    """What operators on single elements make of frames against frames."""
    pairs: set[tuple[int, int]] = set()
    alike: set[int] = set()
    for item in items:
        shift = rank - item.trial.ndim
        match item.frames:
            case None:
                continue
            case Relative(axes=(rows, columns)):
                pairs.add((rows + shift, columns + shift))
            case Repeated(growth=growth):
                alike.update(axis + shift for axis, grows in enumerate(growth) if grows)
            case _:
                return None
    if len(pairs) != 1:
        return None
    (axes,) = pairs
    if not alike <= set(axes) or _is_fixed_along(items, axes, rank):
        return None
    return Relative("", None, axes)


def _elementwise(
    node: onnx.NodeProto, inputs: Sequence[Known | None], result: Array
) -> Places | Relative | None:
    items = [item for item in inputs if item is not None]
    found = frames_apart(items, result.ndim)
    if found is not None:
        return found
    if any(item.frames is not None and not isinstance(item.frames, Places) for item in items):
        return None
    placed = [
        (item.frames.axis + result.ndim - item.trial.ndim, item.frames.step)
        for item in items
        if isinstance(item.frames, Places)
    ]
    if _is_fixed_along(items, [axis for axis, _ in placed], result.ndim):
        return None
    if len(placed) == 1 and node.op_type in _AFFINE and result.dtype.kind in "iuf":
        return _going_on(placed[0][0], result)
    if len(placed) != 2 or node.op_type not in _OF_DISTANCE:
        return None
    (rows, step), (columns, other) = placed
    return Relative("", None, (rows, columns)) if rows != columns and step == other else None


def _is_fixed_along(items: Sequence[Known], growing: Sequence[int], rank: int) -> bool:
    """Whether something that does not grow has several places along an axis that does."""
    return any(
        item.frames is None and item.shape[axis - rank] != 1
        for item in items
        for axis in growing
        if rank - axis <= item.trial.ndim
    )


def _going_on(axis: int, result: Array) -> Places | None:
    """Numbers that go on by one step, the same in all rows."""
    if result.shape[axis] < 3:
        return None
    steps = np.diff(result, axis=axis)
    if not np.all(steps == steps.reshape(-1)[0]):
        return None
    return Places("", None, axis, float(steps.reshape(-1)[0]))
