"""Scans that are an LSTM, a GRU or an RNN written out become that operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgelstm_compiler.ir.graph import Graph, constant_data
from edgelstm_compiler.ir.ops import Reshape, Scan
from edgelstm_compiler.ir.recognition import FoundCell, find_cell
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value
from edgelstm_compiler.passes.context import PassContext


def recognize_cells(graph: Graph, ctx: PassContext) -> Graph:
    """Recurrent operators in place of the Scans that compute the same."""
    del ctx
    data = constant_data(graph)
    nodes: list[Node] = []
    constants = list(graph.constants)
    changed = False
    for node in graph.nodes:
        found = find_cell(node, data) if isinstance(node.op, Scan) else None
        if found is None:
            nodes.append(node)
        else:
            changed = True
            nodes += _cell(node, found, constants, data)
    if not changed:
        return graph
    return dataclasses.replace(graph, nodes=tuple(nodes), constants=tuple(constants))


def _cell(
    node: Node, found: FoundCell, constants: list[Constant], data: Mapping[Value, Array]
) -> list[Node]:
    """The operator, with reshapes to what the Scan gave."""
    inputs: list[Value | None] = [found.x]
    for name, array in (("W", found.w), ("R", found.r), ("B", found.b)):
        constants.append(Constant.of(f"{node.name}.{name}", array))
        inputs.append(constants[-1].value)
    inputs.append(None)
    nodes: list[Node] = []

    def reshaped(value: Value, target: Value) -> None:
        name = f"{node.name}.{target.name}"
        shape = target.type.shape
        nodes.append(Node(Reshape(shape), (value,), (target,), name, node.origin))

    for place, state in enumerate(found.states):
        kind = state.type.with_shape((1, *state.type.shape))
        if state in data:
            name = f"{node.name}.initial{place}"
            constants.append(Constant.of(name, data[state].reshape(kind.shape)))
            inputs.append(constants[-1].value)
            continue
        initial = Value(f"{node.name}.initial{place}", kind)
        reshaped(state, initial)
        inputs.append(initial)
    types: list[TensorType | None] = [None if value is None else value.type for value in inputs]
    outputs = tuple(
        Value(f"{node.name}.{name}", kind)
        for name, kind in zip(("Y", "Y_h", "Y_c"), found.op.infer(types), strict=False)
    )
    nodes.append(Node(found.op, tuple(inputs), outputs, node.name, node.origin))
    shown = dict(zip(("Y", "Y_h", "Y_c"), outputs, strict=False))
    for place, target in enumerate(node.outputs):
        is_final = place < len(found.finals)
        reshaped(shown[found.finals[place] if is_final else "Y"], target)
    return nodes
