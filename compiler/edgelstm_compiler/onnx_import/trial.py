"""A loop's body imported for a few turns, and what is the same and what moves between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgelstm_compiler.ir.ops import Gather, Recurrent, Slice
from edgelstm_compiler.ir.types import Array, Node, Op, Value
from edgelstm_compiler.onnx_import.sequences import Carried, TensorList
from edgelstm_compiler.onnx_import.source import Known


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The body in one turn.

    Args:
        nodes: those that its results need, in order.
        constants: data of the constants among what they read.
        results: what the body gives.
    """

    nodes: tuple[Node, ...]
    constants: dict[Value, Array]
    results: tuple[Carried, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A place that moves with the turns: frame `start + turn * step` of a value from outside.

    Args:
        source: the value.
        axis: along which it is read.
        start: the place in turn 0.
        step: places from turn to turn.
    """

    source: Value
    axis: int
    start: int
    step: int


@dataclass(slots=True, eq=False)
class Pattern:
    """What all turns have in common.

    Args:
        trial: the body in the first of them.
        readings: by number of the node in `trial.nodes`.
    """

    trial: Trial
    readings: dict[int, Reading] = field(default_factory=dict)


def find_pattern(
    trials: Sequence[Trial], turns: Sequence[int], inside: set[Value]
) -> Pattern | None:
    """What the turns have in common; None where they differ in more than the frames they read.

    Args:
        trials: one a turn.
        turns: their numbers.
        inside: what the body is given anew in each turn.
    """
    first = trials[0]
    if any(isinstance(node.op, Recurrent) for node in first.nodes):
        return None
    pattern = Pattern(first)
    made = {value for trial in trials for node in trial.nodes for value in node.outputs} | inside
    same = [dict[Value, Value]() for _ in trials]
    if any(len(trial.nodes) != len(first.nodes) for trial in trials):
        return None
    for number, nodes in enumerate(zip(*(trial.nodes for trial in trials), strict=True)):
        reading = _reading(nodes, trials, turns, made)
        if reading is not None:
            pattern.readings[number] = reading
        elif not _is_same(nodes, trials, same):
            return None
        for mapping, node in zip(same, nodes, strict=True):
            mapping.update(zip(node.outputs, nodes[0].outputs, strict=True))
    for results in zip(*(trial.results for trial in trials), strict=True):
        for item, trial, mapping in zip(results, trials, same, strict=True):
            if not _is_same_result(results[0], item, mapping):
                return None
            del trial
    return pattern


def _reading(
    nodes: Sequence[Node], trials: Sequence[Trial], turns: Sequence[int], made: set[Value]
) -> Reading | None:
    """Whether these nodes take one place of a value from outside that moves with the turns."""
    (op, source), *_ = ((node.op, node.inputs[0]) for node in nodes)
    if source is None or source in made or source in trials[0].constants:
        return None
    if any(node.inputs[0] is not source for node in nodes):
        return None
    places = [_place(node, trial) for node, trial in zip(nodes, trials, strict=True)]
    if any(place is None for place in places):
        return None
    numbers = [place for place in places if place is not None]
    assert isinstance(op, (Slice, Gather))
    if len(numbers) == 1:
        # A single frame: the only place there is.
        is_only = source.type.shape[op.axis] == 1
        return Reading(source, op.axis, 0, 1) if is_only else None
    steps = {
        (b - a) / (later - turn)
        for a, b, turn, later in zip(numbers, numbers[1:], turns, turns[1:], strict=False)
    }
    step = steps.pop()
    if steps or step != int(step) or step == 0:
        return None
    if any(_without_place(node.op) != _without_place(op) for node in nodes):
        return None
    return Reading(source, op.axis, numbers[0] - int(step) * turns[0], int(step))


def _place(node: Node, trial: Trial) -> int | None:
    """The one place that a Slice or Gather takes, counted from the front."""
    if isinstance(node.op, Slice) and node.op.count == 1:
        return node.op.start
    if isinstance(node.op, Gather) and node.inputs[1] in trial.constants:
        source, indices = node.inputs[0], trial.constants[node.inputs[1]]
        assert source is not None
        if indices.size == 1:
            at = int(indices.reshape(-1)[0])
            return at if at >= 0 else at + source.type.shape[node.op.axis]
    return None


def _without_place(op: Op) -> Op:
    return replace(op, start=0, step=1) if isinstance(op, Slice) else op


def _is_same(
    nodes: Sequence[Node], trials: Sequence[Trial], same: Sequence[dict[Value, Value]]
) -> bool:
    """Whether nodes do the same with the same."""
    first = nodes[0]
    for node, trial, mapping in zip(nodes, trials, same, strict=True):
        if node.op != first.op or len(node.inputs) != len(first.inputs):
            return False
        for own, other in zip(node.inputs, first.inputs, strict=True):
            if own is None or other is None:
                if own is not other:
                    return False
            elif own in trial.constants and other in trials[0].constants:
                a, b = trial.constants[own], trials[0].constants[other]
                if a is not b and not _same_bits(a, b):
                    return False
            elif mapping.get(own, own) is not other:
                return False
    return True


def _is_same_result(first: Carried, item: Carried, mapping: dict[Value, Value]) -> bool:
    if isinstance(first, TensorList) or isinstance(item, TensorList):
        if not (isinstance(first, TensorList) and isinstance(item, TensorList)):
            return False
        return len(first.items) == len(item.items) and all(
            _is_same_result(a, b, mapping) for a, b in zip(first.items, item.items, strict=True)
        )
    if isinstance(first, Known) or isinstance(item, Known):
        # What is known may count; the caller looks at that.
        return isinstance(first, Known) and isinstance(item, Known)
    return mapping.get(item, item) is first


def _same_bits(a: Array, b: Array) -> bool:
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.array_equal(
            np.ascontiguousarray(a).reshape(-1).view(np.uint8),
            np.ascontiguousarray(b).reshape(-1).view(np.uint8),
        )
    )
