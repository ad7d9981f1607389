"""Names and order of the nodes of an ONNX graph: one producer per value, no cycle, sorted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

from edgelstm.errors import ModelError


def describe_node(node: onnx.NodeProto, index: str) -> str:
    """How messages call a node: its operator and its name, or its place where it has none."""
    operator = (
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    )
    return f"{operator} '{node.name}'" if node.name else f"{operator} #{index}"


def sub_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a control-flow node holds."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def outer_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a sub-graph takes from the graphs around it."""
    own = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    used = {item.name for item in graph.output}
    for node in graph.node:
        used |= node_reads(node)
    return used - own


def node_reads(node: onnx.NodeProto) -> set[str]:
    """Every name that a node reads, those of its sub-graphs included."""
    names = {name for name in node.input if name}
    for graph in sub_graphs(node):
        names |= outer_names(graph)
    return names


def sort_graph(
    graph: onnx.GraphProto, outside: frozenset[str] = frozenset(), path: str = ""
) -> None:
    """Check the names of a graph and put its nodes into topological order, sub-graphs included.

    Raises:
        ModelError: a name given twice, a value nobody produces, or a cycle, with the nodes' names.
    """
    labels = [describe_node(node, f"{path}{index}") for index, node in enumerate(graph.node)]
    sources = {item.name for item in graph.input} | {item.name for item in graph.initializer}
    sources |= {item.values.name for item in graph.sparse_initializer}
    _check_unique("input", (item.name for item in graph.input))
    _check_unique("initializer", (item.name for item in graph.initializer))
    _check_unique("output", (item.name for item in graph.output))
    producer: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if not name:
                continue
            if name in producer or name in sources:
                other = labels[producer[name]] if name in producer else "an input or initializer"
                raise ModelError(
                    f"{labels[index]} produces '{name}', and so does {other}; "
                    "every value needs a name of its own"
                )
            producer[name] = index
    visible = outside | sources | producer.keys()
    reads = [node_reads(node) for node in graph.node]
    for index, names in enumerate(reads):
        unknown = sorted(names - visible)
        if unknown:
            raise ModelError(
                f"{labels[index]} reads '{unknown[0]}', which no node, input or initializer of "
                "the graph provides; the file is damaged or was cut by hand"
            )
    for output in graph.output:
        if output.name not in visible:
            raise ModelError(f"output '{output.name}' is produced by no node of the graph")
    needs = [{producer[name] for name in names if name in producer} for names in reads]
    order = _topological_order(needs, labels)
    if order != list(range(len(order))):
        sorted_nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(sorted_nodes)
    for index, node in zip(order, graph.node, strict=True):
        for inner in sub_graphs(node):
            sort_graph(inner, frozenset(visible), f"{path}{index}.")


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise ModelError(f"an {what} of the graph has no name")
        if name in seen:
            raise ModelError(f"the {what} '{name}' is declared twice; every value needs one name")
        seen.add(name)


def _topological_order(needs: Sequence[set[int]], labels: Sequence[str]) -> list[int]:
    """Indices with every node behind those it needs, otherwise in the given order."""
    order: list[int] = []
    state = [0] * len(needs)  # 0 not seen, 1 on the path, 2 placed
    for root in range(len(needs)):
        stack = [(root, iter(sorted(needs[root])))] if state[root] == 0 else []
        if stack:
            state[root] = 1
        while stack:
            index, pending = stack[-1]
            following = next((i for i in pending if state[i] != 2), None)
            if following is None:
                state[index] = 2
                order.append(index)
                stack.pop()
            elif state[following] == 1:
                members = [i for i, _ in stack]
                ring = [labels[i] for i in members[members.index(following) :]]
                raise ModelError(
                    f"the graph has a cycle: {' <- '.join([*ring, ring[0]])}; "
                    "a recurrence has to stand inside LSTM, GRU, RNN, Scan or Loop"
                )
            else:
                state[following] = 1
                stack.append((following, iter(sorted(needs[following]))))
    return order
