"""Sequences of tensors, where their lengths are known: lists at compile time, nothing at run time.

SplitToSequence, SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase, SequenceAt,
SequenceLength, ConcatFromSequence. A list goes through Identity, If and what loops carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Concat
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import FramesDecideError, RefusedError, product
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of

MAX_LENGTH = 4096
"""Tensors of one list: each of them is a node of the graph."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorList:
    """A sequence of tensors, each of them known or a value of the graph.

    Args:
        name: in the model.
        items: the tensors.
        split: what it was split from into single places: the tensor, the axis, and whether the
            axis stays.
        stacked: the items one behind the other along a new first axis, where that is at hand.
    """

    name: str
    items: tuple[Operand, ...]
    split: tuple[Operand, int, bool] | None = None
    stacked: Operand | None = None


Carried: TypeAlias = "Operand | TensorList"
"""What stands behind a name: a tensor, or a list of them."""


def is_sequence_operator(op_type: str) -> bool:
    """Whether an operator makes or reads sequences of tensors."""
    return op_type in _OPERATORS


def check_tensors(inputs: Sequence[Carried | None]) -> None:
    """Refuse lists where an operator takes tensors."""
    if any(isinstance(item, TensorList) for item in inputs):
        raise RefusedError("it reads a sequence of tensors")


def import_sequence(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """The result of an operator on sequences.

    Args:
        node: its inputs that are lists are left out.
        inputs: all of them.

    Raises:
        RefusedError: a position or a length is computed at run time.
    """
    return _OPERATORS[node.op_type](node, inputs)


def _split(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SplitToSequence-11, -24: parts of given lengths, or single places."""
    x = node.operand(0)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", 0), len(shape))
    extent = node.extents(x)[axis]
    if extent is None or not extent.is_fixed:
        raise FramesDecideError("it splits the frames into a list, and their number is unknown")
    total, keeps = shape[axis], True
    if len(inputs) < 2 or inputs[1] is None:
        sizes, keeps = [1] * total, bool(node.integer("keepdims", 1))
    else:
        split = node.constant(1, "the split")
        each = int(split.reshape(-1)[0]) if split.size else 0
        if split.ndim == 0:
            if each < 1:
                raise ShapeError(f"{node.origin}: parts of {each}")
            sizes = [min(each, total - at) for at in range(0, total, each)]
        else:
            sizes = [int(size) for size in split]
    if sum(sizes) != total or min(sizes, default=1) < 1:
        raise ShapeError(f"{node.origin}: axis {axis} of {shape} cannot be split into {sizes}")
    if len(sizes) > MAX_LENGTH:
        raise RefusedError(f"it makes a list of {len(sizes)} tensors, at most {MAX_LENGTH}")
    items: list[Operand] = []
    start = 0
    for size in sizes:
        part = take_range(node, x, axis, range(start, start + size))
        start += size
        items.append(part if keeps else node.reshape(part, (*shape[:axis], *shape[axis + 1 :])))
    is_single = all(size == 1 for size in sizes)
    split_from = (x, axis, keeps) if is_single else None
    return TensorList(node.outputs[0], tuple(items), split=split_from)


def _construct(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceConstruct-11."""
    return TensorList(node.outputs[0], tuple(_tensor(item) for item in inputs))


def _empty(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceEmpty-11."""
    del inputs
    return TensorList(node.outputs[0], ())


def _insert(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceInsert-11: at the end where no position is given."""
    found, item = _list(node, inputs), _tensor(inputs[1])
    count = len(found.items)
    at = count if len(inputs) < 3 or inputs[2] is None else _position(node, inputs[2], count + 1)
    if count >= MAX_LENGTH:
        raise RefusedError(f"it makes a list of more than {MAX_LENGTH} tensors")
    return TensorList(node.outputs[0], (*found.items[:at], item, *found.items[at:]))


def _erase(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceErase-11: the last one where no position is given."""
    found = _list(node, inputs)
    count = len(found.items)
    at = count - 1 if len(inputs) < 2 or inputs[1] is None else _position(node, inputs[1], count)
    return TensorList(node.outputs[0], (*found.items[:at], *found.items[at + 1 :]))


def _at(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceAt-11."""
    found = _list(node, inputs)
    at = _position(node, inputs[1], len(found.items))
    if found.split is None or isinstance(found.split[0], Known):
        return found.items[at]
    # Taken anew, so that a loop over the list is seen to walk along the tensor.
    x, axis, keeps = found.split
    part = take_range(node, x, axis, range(at, at + 1))
    shape = shape_of(x)
    return part if keeps else node.reshape(part, (*shape[:axis], *shape[axis + 1 :]))


def _length(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """SequenceLength-11."""
    return Known(f"{node.name}.length", np.asarray(len(_list(node, inputs).items), np.int64))


def _concat(node: OnnxNode, inputs: Sequence[Carried | None]) -> Carried:
    """ConcatFromSequence-11: along an axis, or along a new one."""
    found = _list(node, inputs)
    items = list(found.items)
    if not items:
        raise RefusedError("its list is empty; tensors without elements are not supported")
    is_new = bool(node.integer("new_axis", 0))
    rank = len(shape_of(items[0])) + is_new
    axis = node.axis(node.integer("axis", 0), rank)
    if found.stacked is not None:
        return _from_stack(node, found.stacked, axis, is_new=is_new)
    if is_new:
        items = [
            node.reshape(item, (*shape_of(item)[:axis], 1, *shape_of(item)[axis:]))
            for item in items
        ]
    for item in items:
        own, first = list(shape_of(item)), list(shape_of(items[0]))
        if len(own) != rank or own[:axis] + own[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ShapeError(f"{node.origin}: {tuple(own)} does not continue {tuple(first)}")
    known = [item.data for item in items if isinstance(item, Known)]
    if len(known) == len(items):
        check_folded(sum(item.nbytes for item in known), node.origin)
        return Known(node.outputs[0], np.concatenate(known, axis))
    return items[0] if len(items) == 1 else node.emit(Concat(axis), *items)


def _from_stack(node: OnnxNode, stacked: Operand, axis: int, *, is_new: bool) -> Operand:
    """Rows of one tensor, side by side along an axis: its first axis moves there."""
    rank = len(shape_of(stacked))
    order = list(range(1, rank))
    order.insert(axis, 0)
    moved = node.transpose(stacked, order)
    if is_new:
        return moved
    extents = node.extents(moved)
    merged = product(extents[axis : axis + 2])
    return node.reshape(moved, (*extents[:axis], merged, *extents[axis + 2 :]))


def _list(node: OnnxNode, inputs: Sequence[Carried | None]) -> TensorList:
    found = inputs[0] if inputs else None
    if not isinstance(found, TensorList):
        raise ModelError(f"{node.origin}: its first input is no sequence of tensors")
    return found


def _tensor(item: Carried | None) -> Operand:
    if item is None or isinstance(item, TensorList):
        raise RefusedError("it puts something else than a tensor into a list")
    return item


def _position(node: OnnxNode, item: Carried | None, count: int) -> int:
    """A position counted from the front."""
    if not isinstance(item, Known):
        raise RefusedError(
            "its position is computed at run time; only loops that walk along a list are supported"
        )
    at = int(item.data.reshape(()))
    if not -count <= at < count:
        raise ShapeError(f"{node.origin}: position {at} of a list of {count} tensors")
    return at % count


_Operator: TypeAlias = "Callable[[OnnxNode, Sequence[Carried | None]], Carried]"

_OPERATORS: dict[str, _Operator] = {
    "SplitToSequence": _split,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
}

SEQUENCE_OPERATORS = tuple(_OPERATORS)
"""Names of the operators on sequences of tensors."""
