"""The invariants of each graph stage; run after every pass, a breach is a fault of ours."""

from __future__ import annotations

from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.graph import (
    Graph,
    StepGraph,
    StepInput,
    StepOutput,
    result_values,
    source_values,
)
from edgelstm_compiler.ir.ops import OPERATORS, Direction, Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, P
from edgelstm_compiler.ir.types import Array, TensorType, Value


def verify(graph: Graph | StepGraph) -> None:
    """Check names, order, types and the stage's own rules.

    Raises:
        InvalidGraphError: naming the node or value.
    """
    known = _verify_sources(graph)
    names = {value.name for value in known}
    node_names: set[str] = set()
    for node in graph.nodes:
        where = f"node {node.name!r} ({node.op.kind})"
        if node.name in node_names:
            raise InvalidGraphError(f"{where}: the name is used twice")
        node_names.add(node.name)
        if not isinstance(node.op, (*OPERATORS, Recurrent)):
            raise InvalidGraphError(f"{where}: not an operator of the graph")
        for value in node.inputs:
            if value is not None and value not in known:
                raise InvalidGraphError(f"{where} reads {value.name!r} before it is computed")
        try:
            inferred = node.op.infer([v.type if v is not None else None for v in node.inputs])
        except ValueError as error:
            raise InvalidGraphError(f"{where}: {error}") from error
        found = tuple(value.type for value in node.outputs)
        if inferred != found:
            raise InvalidGraphError(
                f"{where} gives {_types(inferred)}, its outputs say {_types(found)}"
            )
        for value in node.outputs:
            if any(extent < 1 for extent in value.type.shape):
                raise InvalidGraphError(f"{where}: {value.name!r} is empty: {value.type}")
            if value in known or value.name in names:
                raise InvalidGraphError(f"{where}: {value.name!r} is defined twice")
            known.add(value)
            names.add(value.name)
    shown: set[str] = set()
    for output in graph.outputs:
        if output.name in shown:
            raise InvalidGraphError(f"the output {output.name!r} is shown twice")
        shown.add(output.name)
    for value in result_values(graph):
        if value not in known:
            raise InvalidGraphError(f"the result {value.name!r} is not computed")
    if isinstance(graph, StepGraph):
        _verify_step(graph)


def _verify_sources(graph: Graph | StepGraph) -> set[Value]:
    known: set[Value] = set()
    names: set[str] = set()
    for value in source_values(graph):
        if value.name in names:
            raise InvalidGraphError(f"the value {value.name!r} is defined twice")
        if any(extent < 1 for extent in value.type.shape):
            raise InvalidGraphError(f"the value {value.name!r} is empty: {value.type}")
        known.add(value)
        names.add(value.name)
    for constant in graph.constants:
        _verify_data(constant.value.name, constant.data, constant.value.type)
    return known


def _verify_data(name: str, data: Array, expected: TensorType) -> None:
    if TensorType.of(data) != expected:
        raise InvalidGraphError(f"the data of {name!r} is {TensorType.of(data)}, not {expected}")
    if data.flags.writeable:
        raise InvalidGraphError(f"the data of {name!r} is writeable")


def _verify_step(graph: StepGraph) -> None:
    names = set()
    for state in graph.states:
        if state.name in names:
            raise InvalidGraphError(f"the state {state.name!r} is defined twice")
        names.add(state.name)
        _verify_data(state.name, state.init, state.type)
        if state.read.type != state.type or state.write.type != state.type:
            raise InvalidGraphError(
                f"the state {state.name!r} is {state.type} but reads {state.read.type} "
                f"and writes {state.write.type}"
            )
    interface: tuple[StepInput | StepOutput, ...] = (*graph.inputs, *graph.outputs)
    for item in interface:
        for axis in (item.time_axis, item.batch_axis):
            if axis is not None and not 0 <= axis < item.value.type.rank:
                raise InvalidGraphError(f"{item.value.name!r} has no axis {axis}")
    timed = [item for item in graph.inputs if item.time_axis is not None]
    if graph.mode == "call" and graph.states:
        raise InvalidGraphError("a call carries no state")
    carried = {state.read for state in graph.states}
    for node in graph.nodes if timed else ():
        is_backward = isinstance(node.op, Recurrent) and node.op.direction is not Direction.FORWARD
        # Over the units of one frame it may run either way, from a state that is its own.
        if is_backward and not carried.isdisjoint(node.inputs[INITIAL_H:P]):
            raise InvalidGraphError(f"node {node.name!r} carries a state backward in a stream")
    for item in timed:
        if item.value.type.shape[item.time_axis or 0] != 1:
            raise InvalidGraphError(f"the input {item.value.name!r} holds more than one frame")


def _types(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types))
