"""Loop and Scan over a number of iterations that is known: their bodies, one after another.

What a Loop counts with (its iteration number, a counter that it carries, the condition) is known in
every iteration, so that its Gather of frame t is a Slice and its condition is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.ops import Concat
from edgelstm_compiler.onnx_import.frames import FramesDecideError, RefusedError
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.sequences import Carried, TensorList
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of

MAX_ITERATIONS = 1024
"""A loop of more iterations is refused: its code would have as many copies of the body."""

Body = Callable[[Sequence[Carried], int], "list[Carried]"]
"""Imports the body for its inputs, in the iteration of that number."""


def unroll_loop(
    node: OnnxNode, graph: onnx.GraphProto, start: Sequence[Carried], body: Body
) -> list[Carried]:
    """Loop-1, -11, -13 and later.

    Args:
        node: its inputs are the trip count, the condition, and what the loop carries.
        graph: the body.
        start: what it carries into the first iteration.
        body: imports it.

    Raises:
        RefusedError: how often it runs is not known.
    """
    trips, condition = node.optional(0), node.optional(1)
    carried = list(start)
    count = len(carried)
    if len(graph.input) != 2 + count or len(graph.output) < 1 + count:
        raise ModelError(f"{node.origin}: its body does not fit what it carries")
    limit = _number(trips, "its trip count")
    goes_on = _truth(condition)
    collected: list[list[Carried]] = [[] for _ in range(len(graph.output) - 1 - count)]
    turn = 0
    while goes_on and (limit is None or turn < limit):
        if turn == MAX_ITERATIONS:
            raise RefusedError(f"it runs more than {MAX_ITERATIONS} times")
        number = Known(f"{node.name}.iteration", np.asarray(turn, np.int64))
        truth = Known(f"{node.name}.condition", np.asarray(True))
        results = body([number, truth, *carried], turn)
        goes_on = _truth(results[0])
        carried = results[1 : 1 + count]
        for rows, item in zip(collected, results[1 + count :], strict=True):
            rows.append(item)
        turn += 1
    return [*carried, *(_stacked(node, rows, 0, is_reversed=False) for rows in collected)]


def unroll_scan(node: OnnxNode, graph: onnx.GraphProto, body: Body) -> list[Carried]:
    """Scan-9, -11 and later.

    Args:
        node: its inputs are the states, then the sequences.
        graph: the body.
        body: imports it.

    Raises:
        RefusedError: an older form.
    """
    if node.opset < 9:
        raise RefusedError(
            "its body is no plain one, and it is Scan of opset 8 (with a batch axis)"
        )
    sequences = [
        _Sequence.read(node, place, place - len(node.inputs) + node.integer("num_scan_inputs", 0))
        for place in range(len(node.inputs))
        if place >= len(node.inputs) - node.integer("num_scan_inputs", 0)
    ]
    count = len(node.inputs) - len(sequences)
    states: list[Carried] = [node.operand(index) for index in range(count)]
    lengths = {each.length for each in sequences}
    if len(lengths) != 1:
        raise ModelError(f"{node.origin}: its sequences have the lengths {sorted(lengths)}")
    (length,) = lengths
    if length > MAX_ITERATIONS:
        raise RefusedError(f"it runs more than {MAX_ITERATIONS} times")
    collected: list[list[Carried]] = [[] for _ in range(len(graph.output) - len(states))]
    for turn in range(length):
        results = body([*states, *(each.frame(node, turn) for each in sequences)], turn)
        for rows, item in zip(collected, results[len(states) :], strict=True):
            rows.append(item)
        states = results[: len(states)]
    axes = node.int_list("scan_output_axes") or (0,) * len(collected)
    directions = node.int_list("scan_output_directions") or (0,) * len(collected)
    return [
        *states,
        *(
            _stacked(node, rows, axis, is_reversed=bool(direction))
            for rows, axis, direction in zip(collected, axes, directions, strict=True)
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """An input that a Scan walks along an axis."""

    operand: Operand
    axis: int
    is_reversed: bool

    @classmethod
    def read(cls, node: OnnxNode, place: int, from_end: int) -> _Sequence:
        operand = node.operand(place)
        count = node.integer("num_scan_inputs", 0)
        axes = node.int_list("scan_input_axes") or (0,) * count
        directions = node.int_list("scan_input_directions") or (0,) * count
        axis = node.axis(axes[from_end], len(shape_of(operand)))
        extent = node.extents(operand)[axis]
        if extent is None or not extent.is_fixed:
            raise FramesDecideError("it walks along the frames, and their number is unknown")
        return cls(operand, axis, bool(directions[from_end]))

    @property
    def length(self) -> int:
        return shape_of(self.operand)[self.axis]

    def frame(self, node: OnnxNode, turn: int) -> Operand:
        """What the body gets in a turn, without the axis."""
        at = self.length - 1 - turn if self.is_reversed else turn
        taken = take_range(node, self.operand, self.axis, range(at, at + 1))
        shape = shape_of(taken)
        return node.reshape(taken, (*shape[: self.axis], *shape[self.axis + 1 :]))


def _stacked(node: OnnxNode, found: list[Carried], axis: int, *, is_reversed: bool) -> Operand:
    """One result an iteration, side by side along a new axis."""
    rows = [item for item in found if not isinstance(item, TensorList)]
    if not rows:
        raise RefusedError("it never runs, and what it collects has no elements")
    if len(rows) < len(found):
        raise RefusedError("it collects sequences of tensors")
    axis = node.axis(axis, len(shape_of(rows[0])) + 1)
    parts = [
        node.reshape(row, (*shape_of(row)[:axis], 1, *shape_of(row)[axis:]))
        for row in (reversed(rows) if is_reversed else rows)
    ]
    known = [part.data for part in parts if isinstance(part, Known)]
    if len(known) == len(parts):
        return Known(f"{node.name}.collected", np.concatenate(known, axis))
    return parts[0] if len(parts) == 1 else node.emit(Concat(axis), *parts)


def _number(operand: Carried | None, what: str) -> int | None:
    """A number that is known, or None where there is none."""
    if operand is None:
        return None
    if not isinstance(operand, Known):
        raise RefusedError(f"{what} is computed at run time; only a known number is supported")
    return int(operand.data.reshape(()))


def _truth(operand: Carried | None) -> bool:
    if operand is None:
        return True
    if not isinstance(operand, Known):
        raise RefusedError(
            "its condition is computed at run time: only loops that walk a sequence are supported"
        )
    return bool(operand.data.reshape(()))
