"""How the inputs of a graph are wired to its outputs: through cells, and through moved elements."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm_compiler.ir.graph import Graph, consumers, producers
from edgelstm_compiler.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Concat,
    Direction,
    Gather,
    GatherElements,
    GatherND,
    Recurrent,
    Reshape,
    ScatterElements,
    ScatterND,
    Slice,
    Transpose,
    Unary,
    Where,
)
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H
from edgelstm_compiler.ir.types import Node, Value

MOVES = (Reshape, Transpose, Slice, Gather, GatherElements, GatherND, Broadcast, Cast)
"""Operators that hand on elements of their first input."""

MERGES = (Concat, ScatterND, ScatterElements)
"""Operators that hand on elements of several inputs."""

ELEMENTWISE = (Binary, Unary, Where)


@dataclass(frozen=True, slots=True)
class Slot:
    """One state of one cell.

    Args:
        node: the cell's name.
        state: 0 for h, 1 for c.
        is_backward: the cell runs from the last frame back.
    """

    node: str
    state: int
    is_backward: bool


class Wiring:
    """What may be asked about the paths of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._readers = consumers(graph)
        self._makers = producers(graph)

    def slots_from(self, value: Value) -> frozenset[Slot]:
        """The initial states of cells that the value's elements reach by being moved alone."""
        found: set[Slot] = set()
        seen, waiting = {value}, [value]
        while waiting:
            source = waiting.pop()
            for node in self._readers.get(source, []):
                if isinstance(node.op, Recurrent):
                    found.update(_initial_slots(node, source))
                elif _hands_on(node, source):
                    waiting += [each for each in node.outputs if each not in seen]
                    seen.update(node.outputs)
        return frozenset(found)

    def moved_from(self, value: Value) -> frozenset[Value]:
        """The value, and what hands on its elements alone: no other input is merged in."""
        seen, waiting = {value}, [value]
        while waiting:
            source = waiting.pop()
            for node in self._readers.get(source, []):
                if isinstance(node.op, MOVES) and node.inputs[0] is source:
                    waiting += [each for each in node.outputs if each not in seen]
                    seen.update(node.outputs)
        return frozenset(seen)

    def slots_to(self, value: Value) -> frozenset[Slot]:
        """The cells whose final states the value's elements are, moved alone."""
        found: set[Slot] = set()
        seen, waiting = {value}, [value]
        while waiting:
            target = waiting.pop()
            node = self._makers.get(target)
            if node is None:
                continue
            if isinstance(node.op, Recurrent):
                place = node.outputs.index(target)
                found.add(_slot(node, max(place - 1, 0)))
                continue
            for source in _handed_on(node):
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return frozenset(found)

    def is_sequence_output(self, value: Value) -> bool:
        """Whether the value shows the hidden states of all frames and no final state."""
        target: Value | None = value
        while target is not None:
            node = self._makers.get(target)
            if node is None:
                return False
            if isinstance(node.op, Recurrent):
                return node.outputs[0] is target
            sources = list(_handed_on(node))
            target = sources[0] if len(sources) == 1 else None
        return False

    def distances_from(self, value: Value) -> dict[Value, int]:
        """Everything that is reached by moving and element-wise operators, cells included.

        Returns:
            By value the smallest number of operators on the way that compute.
        """
        found = {value: 0}
        waiting = deque([value])
        while waiting:
            source = waiting.popleft()
            for node in self._readers.get(source, []):
                for target, cost in _reached(node, source):
                    distance = found[source] + cost
                    if target not in found or found[target] > distance:
                        found[target] = distance
                        (waiting.append if cost else waiting.appendleft)(target)
        return found


def _reached(node: Node, source: Value) -> Iterator[tuple[Value, int]]:
    if isinstance(node.op, Recurrent):
        for slot in _initial_slots(node, source):
            shown = (0, 1) if slot.state == 0 else (2,)
            yield from ((node.outputs[place], 1) for place in shown)
    elif isinstance(node.op, ELEMENTWISE):
        yield from ((target, 1) for target in node.outputs)
    elif _hands_on(node, source):
        yield from ((target, 0) for target in node.outputs)


def _hands_on(node: Node, source: Value) -> bool:
    return any(each is source for each in _handed_on(node))


def _handed_on(node: Node) -> Iterator[Value]:
    """The inputs whose elements the node's outputs hold."""
    inputs = node.inputs
    if isinstance(node.op, Concat):
        yield from (value for value in inputs if value is not None)
    elif isinstance(node.op, MERGES):
        yield from (value for value in (inputs[0], inputs[2]) if value is not None)
    elif isinstance(node.op, MOVES) and inputs[0] is not None:
        yield inputs[0]


def _initial_slots(node: Node, source: Value) -> Iterator[Slot]:
    op = node.op
    assert isinstance(op, Recurrent)
    for state in range(op.state_count):
        place = INITIAL_H + state
        if place < len(node.inputs) and node.inputs[place] is source:
            yield _slot(node, state)


def _slot(node: Node, state: int) -> Slot:
    op = node.op
    assert isinstance(op, Recurrent)
    return Slot(node.name, state, op.direction is not Direction.FORWARD)
