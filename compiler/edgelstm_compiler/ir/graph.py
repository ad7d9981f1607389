"""The two graph stages: Graph (a sequence network, static shapes) and StepGraph (one chunk)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from edgelstm.signature import Mode
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A result of the network, under the name it has in the model.

    Args:
        name: name of the ONNX output.
        value: the value it shows; one value may be shown by several outputs, or be an input.
    """

    name: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The imported network: constants folded, every shape static, nodes in topological order."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Output, ...]
    nodes: tuple[Node, ...]
    constants: tuple[Constant, ...]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A value carried from chunk to chunk.

    Args:
        name: unique among the states.
        type: of the carried tensor.
        init: its value before the first chunk.
        read: the graph value that holds it at the start of a chunk (has no producing node).
        write: the graph value that holds it at the end.
    """

    name: str
    type: TensorType
    init: Array
    read: Value
    write: Value


@dataclass(frozen=True, slots=True, eq=False)
class StepInput:
    """An input of a chunk and where time and batch stand in it (None: no such axis)."""

    value: Value
    time_axis: int | None = None
    batch_axis: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """An output of a chunk.

    Args:
        name: name of the ONNX output.
        value: the value it shows.
        time_axis: where time stands; None for an any-time output (last hidden state, ...).
        batch_axis: where batch stands.
        stride: input frames per output frame.
        delay: frames by which the output lags.
        warm_up: frames before it is defined.
        tail: steps behind the last frame in which it still gives something.
        reach: frames of the input that a row depends on; 0: all so far.
    """

    name: str
    value: Value
    time_axis: int | None = None
    batch_axis: int | None = None
    stride: int = 1
    delay: int = 0
    warm_up: int = 0
    tail: int = 0
    reach: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StepGraph:
    """One chunk of a network: the step of a stream, or a whole call (mode "call", no states).

    Args:
        most_frames: after how many frames the stream ends; None: never.
    """

    name: str
    mode: Mode
    inputs: tuple[StepInput, ...]
    outputs: tuple[StepOutput, ...]
    nodes: tuple[Node, ...]
    constants: tuple[Constant, ...]
    states: tuple[State, ...] = ()
    most_frames: int | None = None


AnyGraph = TypeVar("AnyGraph", Graph, StepGraph)


def input_values(graph: Graph | StepGraph) -> tuple[Value, ...]:
    """The values that come from outside, without states and constants."""
    if isinstance(graph, Graph):
        return graph.inputs
    return tuple(item.value for item in graph.inputs)


def source_values(graph: Graph | StepGraph) -> Iterator[Value]:
    """Every value that no node produces: inputs, states at the start, constants."""
    yield from input_values(graph)
    if isinstance(graph, StepGraph):
        yield from (state.read for state in graph.states)
    yield from (constant.value for constant in graph.constants)


def result_values(graph: Graph | StepGraph) -> Iterator[Value]:
    """Every value that must be computed: outputs and states at the end."""
    yield from (output.value for output in graph.outputs)
    if isinstance(graph, StepGraph):
        yield from (state.write for state in graph.states)


def consumers(graph: Graph | StepGraph) -> dict[Value, list[Node]]:
    """The nodes that read each value."""
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None:
                readers.setdefault(value, []).append(node)
    return readers


def producers(graph: Graph | StepGraph) -> dict[Value, Node]:
    """The node that computes each value."""
    return {value: node for node in graph.nodes for value in node.outputs}


def constant_data(graph: Graph | StepGraph) -> dict[Value, Array]:
    """The data of each constant value."""
    return {constant.value: constant.data for constant in graph.constants}
