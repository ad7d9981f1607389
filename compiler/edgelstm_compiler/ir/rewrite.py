"""Local rewriting: a rule looks at one node and says what stands in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgelstm_compiler.ir.graph import (
    AnyGraph,
    Graph,
    StepGraph,
    constant_data,
    result_values,
    source_values,
)
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.types import Array, Constant, Node, Value

MAX_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands in the place of a node.

    Args:
        nodes: computed in this order; they may reuse the old node's output values.
        values: old output value -> the value that takes its place, where it is not reused.
        constants: new constants that the nodes read.
    """

    nodes: tuple[Node, ...] = ()
    values: Mapping[Value, Value] = field(default_factory=dict)
    constants: tuple[Constant, ...] = ()


class Scope:
    """What a rule may ask about the graph around a node."""

    def __init__(self, graph: Graph | StepGraph) -> None:
        self._producers: dict[Value, Node] = {}
        self._data = constant_data(graph)
        self._uses: dict[Value, int] = {}
        self._names = {value.name for value in source_values(graph)}
        self._node_names = {node.name for node in graph.nodes}
        for node in graph.nodes:
            self._names.update(value.name for value in node.outputs)
            for value in node.inputs:
                if value is not None:
                    self._uses[value] = self._uses.get(value, 0) + 1
        for value in result_values(graph):
            self._uses[value] = self._uses.get(value, 0) + 1

    def producer(self, value: Value | None) -> Node | None:
        """The node that computes the value, or None for inputs, states and constants."""
        return None if value is None else self._producers.get(value)

    def constant(self, value: Value | None) -> Array | None:
        """The data of a constant, or None."""
        return None if value is None else self._data.get(value)

    def uses(self, value: Value) -> int:
        """How often the value is read by nodes or shown as a result."""
        return self._uses.get(value, 0)

    def is_private(self, value: Value) -> bool:
        """Whether there is just one use of the value."""
        return self.uses(value) == 1

    def fresh_name(self, name: str) -> str:
        """A value name that is not taken, and now is."""
        return unique_name(name, self._names)

    def fresh_node_name(self, name: str) -> str:
        """A node name that is not taken, and now is."""
        return unique_name(name, self._node_names)

    def _define(self, node: Node) -> None:
        for value in node.outputs:
            self._producers[value] = node


Rule = Callable[[Node, Scope], Replacement | None]


def rewrite(graph: AnyGraph, rule: Rule) -> AnyGraph:
    """Apply a rule everywhere until nothing changes; the SAME object when nothing did."""
    for _ in range(MAX_ROUNDS):
        changed = _rewrite_once(graph, rule)
        if changed is graph:
            return graph
        graph = eliminate_unused(changed)
    raise RuntimeError(f"{rule.__name__} does not come to an end")


def _rewrite_once(graph: AnyGraph, rule: Rule) -> AnyGraph:
    scope = Scope(graph)
    renamed: dict[Value, Value] = {}
    nodes: list[Node] = []
    constants = list(graph.constants)
    changed = False
    for original in graph.nodes:
        inputs = tuple(None if v is None else renamed.get(v, v) for v in original.inputs)
        node = original
        if inputs != original.inputs:
            node = dataclasses.replace(original, inputs=inputs)
        replacement = rule(node, scope)
        if replacement is None:
            scope._define(node)
            nodes.append(node)
            continue
        changed = True
        for new in replacement.nodes:
            scope._define(new)
            nodes.append(new)
        constants += replacement.constants
        for old, new_value in replacement.values.items():
            renamed[old] = renamed.get(new_value, new_value)
    if not changed:
        return graph
    return replace_results(
        dataclasses.replace(graph, nodes=tuple(nodes), constants=tuple(constants)), renamed
    )


def replace_results(graph: AnyGraph, renamed: Mapping[Value, Value]) -> AnyGraph:
    """Show other values in the outputs and states."""
    outputs = tuple(
        dataclasses.replace(item, value=renamed.get(item.value, item.value))
        for item in graph.outputs
    )
    if isinstance(graph, Graph):
        return dataclasses.replace(graph, outputs=outputs)
    states = tuple(
        dataclasses.replace(state, write=renamed.get(state.write, state.write))
        for state in graph.states
    )
    return dataclasses.replace(graph, outputs=outputs, states=states)


def eliminate_unused(graph: AnyGraph) -> AnyGraph:
    """Drop nodes and constants that no result depends on; the SAME object when there are none."""
    needed = set(result_values(graph))
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(value in needed for value in node.outputs):
            kept.append(node)
            needed.update(value for value in node.inputs if value is not None)
    constants = tuple(constant for constant in graph.constants if constant.value in needed)
    if len(kept) == len(graph.nodes) and len(constants) == len(graph.constants):
        return graph
    return dataclasses.replace(graph, nodes=tuple(reversed(kept)), constants=constants)
