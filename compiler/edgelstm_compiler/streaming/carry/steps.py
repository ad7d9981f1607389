"""The step of a model whose states are inputs and outputs: one call of it, its states hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgelstm_compiler.ir.graph import Graph, Output, State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.ops import Concat, Reshape, Slice
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, Value
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.carry.pairing import Pair
from edgelstm_compiler.streaming.carry.wiring import Wiring

CONTEXT = ".context"
"""Ends the name of the state that holds the newest elements of an input."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The newest elements of an input that stand in front of its next chunk, too.

    Args:
        name: of the input.
        axis: of the model's tensor.
        count: how many; zeros before the first chunk.
    """

    name: str
    axis: int
    count: int


@dataclass(frozen=True, slots=True)
class CarriedState:
    """A pair and its value before the first step."""

    pair: Pair
    initial: Array = field(repr=False)
    is_from_file: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """How a model becomes a step.

    Args:
        states: what is fed back.
        overlaps: what of the inputs is kept.
    """

    states: tuple[CarriedState, ...]
    overlaps: tuple[Overlap, ...] = ()

    @property
    def by_input(self) -> Mapping[str, str]:
        """Output by input."""
        return {state.pair.before: state.pair.after for state in self.states}

    def to_json(self) -> dict[str, Any]:
        """Entries of a manifest's options, see `request_of`."""
        found: dict[str, Any] = {}
        if self.states:
            found["carry"] = dict(self.by_input)
        if self.overlaps:
            found["overlap"] = {f"{x.name}@{x.axis}": x.count for x in self.overlaps}
        return found

    def shown(self, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        """The outputs that a caller sees: those that are no states, or all where there are none."""
        hidden = set(self.by_input.values())
        rest = tuple(output for output in outputs if output.name not in hidden)
        return rest or outputs


def carry_steps(graph: Graph, carried: Carried) -> StepGraph:
    """One call of the network as a step, its pairs and overlaps as states.

    Args:
        graph: the network with its states as inputs and outputs.
        carried: which they are.
    """
    return _Steps(graph, carried).build()


def chunk_axes(graph: Graph, carried: Carried) -> dict[str, int]:
    """By input and output the axis of the model's tensor that holds several frames of one step.

    It is what the cells that carry a state walk along, what a carried cache is put in front of, or
    what the caller says has an overlap.
    """
    wiring = Wiring(graph)
    hidden = set(carried.by_input)
    cells = frozenset(
        slot.node for v in graph.inputs if v.name in hidden for slot in wiring.slots_from(v)
    )
    axes = AxisClasses(graph, cells)
    found: dict[str, int] = {}
    named = [(v.name, v) for v in graph.inputs if v.name not in hidden]
    named += [(output.name, output.value) for output in carried.shown(graph.outputs)]
    behind = _behind_caches(graph, carried)
    for name, value in named:
        times = {axis for axis in axes.time_axes(value) if value.type.shape[axis] > 1}
        for joined, axis in behind:
            times.update(axes.axes_like(value, joined, axis))
        if len(times) == 1 and value.type.shape[min(times)] > 1:
            found[name] = min(times)
    found.update({item.name: item.axis for item in carried.overlaps})
    return found


def _behind_caches(graph: Graph, carried: Carried) -> list[tuple[Value, int]]:
    """Values that a carried state is put in front of, and along which axis."""
    wiring = Wiring(graph)
    moved = {
        value
        for state in graph.inputs
        if state.name in carried.by_input
        for value in wiring.moved_from(state)
    }
    return [
        (value, node.op.axis)
        for node in graph.nodes
        if isinstance(node.op, Concat) and node.inputs[0] in moved
        for value in node.inputs[1:]
        if value is not None and value not in moved
    ]


class _Steps:
    """The step graph while it is built."""

    def __init__(self, graph: Graph, carried: Carried) -> None:
        self._graph, self._carried = graph, carried
        self._names = {value.name for value in graph.inputs}
        self._names |= {constant.value.name for constant in graph.constants}
        self._names |= {value.name for node in graph.nodes for value in node.outputs}
        self._node_names = {node.name for node in graph.nodes}
        self._inners: dict[Value, Value] = {}
        self._before: list[Node] = []
        self._after: list[Node] = []
        self._axes = AxisClasses(graph, self._cells())

    def build(self) -> StepGraph:
        """The step graph."""
        graph, by_input = self._graph, self._carried.by_input
        values = {value.name: value for value in graph.inputs}
        shown = {output.name: output.value for output in graph.outputs}
        states = []
        for state in self._carried.states:
            read = values[state.pair.before]
            write = self._reshaped(shown[state.pair.after], read.type.shape, self._after)
            data = Constant.of("", state.initial.reshape(read.type.shape)).data
            states.append(State(state.pair.before, read.type, data, read, write))
        inputs = []
        for value in graph.inputs:
            if value.name in by_input:
                continue
            overlaps = [item for item in self._carried.overlaps if item.name == value.name]
            inner = self._inner(value) if any(item.count for item in overlaps) else value
            source = value
            for overlap in (item for item in overlaps if item.count):
                source, kept = self._keep_newest(inner, overlap)
                states.append(kept)
            inputs.append(self._input(value, source))
        nodes = tuple(self._on_inner(node) for node in graph.nodes)
        outputs = tuple(self._output(output) for output in self._carried.shown(graph.outputs))
        return StepGraph(
            graph.name,
            "stream",
            tuple(inputs),
            outputs,
            (*self._before, *nodes, *map(self._on_inner, self._after)),
            graph.constants,
            tuple(replace(s, write=self._inners.get(s.write, s.write)) for s in states),
        )

    def _inner(self, value: Value) -> Value:
        """What stands in the network where an input of another shape is handed in."""
        return self._inners.setdefault(value, Value(self._fresh(f"{value.name}.whole"), value.type))

    def _renamed(self, value: Value) -> Value:
        """A value that only the nodes in front read, under another name."""
        other = Value(self._fresh(f"{value.name}.new"), value.type)
        self._before = [
            replace(node, inputs=tuple(other if v is value else v for v in node.inputs))
            for node in self._before
        ]
        return other

    def _on_inner(self, node: Node) -> Node:
        if self._inners.keys().isdisjoint(node.inputs):
            return node
        return replace(
            node, inputs=tuple(v if v is None else self._inners.get(v, v) for v in node.inputs)
        )

    def _cells(self) -> frozenset[str]:
        """The cells that carry a state: what they walk along is time."""
        wiring = Wiring(self._graph)
        carried = [v for v in self._graph.inputs if v.name in self._carried.by_input]
        return frozenset(slot.node for value in carried for slot in wiring.slots_from(value))

    def _keep_newest(self, value: Value, overlap: Overlap) -> tuple[Value, State]:
        """The new part of an input, and its context: together the model's own input."""
        axis, count, extent = overlap.axis, overlap.count, value.type.shape[overlap.axis]

        def part(size: int) -> tuple[int, ...]:
            return tuple(size if a == axis else e for a, e in enumerate(value.type.shape))

        name = f"{overlap.name}{CONTEXT}"
        # Without its context it is what the caller knows by the model's own name.
        new = Value(overlap.name, value.type.with_shape(part(extent - count)))
        old = Value(self._fresh(name), value.type.with_shape(part(count)))
        newest = Value(self._fresh(f"{name}.next"), old.type)
        self._before.append(self._node(Concat(axis), (old, new), value, f"{name}.join"))
        kept = Slice(axis, extent - count, 1, count)
        self._after.append(self._node(kept, (value,), newest, f"{name}.keep"))
        zeros = Constant.of("", np.zeros(old.type.shape, old.type.dtype.numpy)).data
        return new, State(name, old.type, zeros, old, newest)

    def _input(self, value: Value, source: Value) -> StepInput:
        """The input as a frame; a tensor without an axis for it gets one."""
        shape = source.type.shape
        time, batch = self._frame_axes(value, shape)
        if time is None:
            # One name, one value: what the network reads bears another one.
            source = self._inner(value) if source is value else self._renamed(source)
            framed = Value(value.name, source.type.with_shape((1, *shape)))
            self._before.insert(0, self._node(Reshape(shape), (framed,), source, value.name))
            return StepInput(framed, 0, None if batch is None else batch + 1)
        return StepInput(source, time, batch)

    def _output(self, output: Output) -> StepOutput:
        value = self._inners.get(output.value, output.value)
        time, batch = self._frame_axes(output.value, value.type.shape)
        return StepOutput(output.name, value, time, batch)

    def _frame_axes(self, value: Value, shape: tuple[int, ...]) -> tuple[int | None, int | None]:
        """The axes of extent one that no frame shows: time and batch, or the first ones."""
        times, batch = self._axes.time_axes(value), self._axes.batch_axis(value)
        # The last axis holds features, even if it is a single one.
        ones = next((n for n, extent in enumerate(shape[:-1]) if extent != 1), len(shape[:-1]))
        time = times[0] if len(times) == 1 and shape[times[0]] == 1 else None
        if time is None and ones == 0:
            return None, batch
        if time is None:
            time = 0 if ones == 1 or batch not in (None, 0) else 1
        if batch is None:
            batch = next((axis for axis in range(ones) if axis != time), None)
        return time, None if batch == time else batch

    def _reshaped(self, value: Value, shape: tuple[int, ...], nodes: list[Node]) -> Value:
        if value.type.shape == shape:
            return value
        result = Value(self._fresh(f"{value.name}.state"), value.type.with_shape(shape))
        nodes.append(self._node(Reshape(shape), (value,), result, f"{value.name}.state"))
        return result

    def _node(self, op: Op, inputs: tuple[Value, ...], result: Value, name: str) -> Node:
        return Node(op, inputs, (result,), unique_name(name, self._node_names))

    def _fresh(self, name: str) -> str:
        return unique_name(name, self._names)
