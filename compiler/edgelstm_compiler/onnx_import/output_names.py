"""Outputs called as the framework calls them; exporters write `Identity:0`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from edgelstm_compiler.ir.names import unique_name


def with_output_names(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy with other names for its outputs.

    Args:
        model: as it was exported.
        names: in the order of its outputs, which keep theirs where there are fewer; one that
            something else in the model has gets a number behind it.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    taken = names_of_values(graph)
    for item, wish in zip(graph.output, names, strict=False):
        if item.name != wish:
            name = unique_name(wish, taken)
            graph.node.append(onnx.helper.make_node("Identity", [item.name], [name]))
            item.name = name
    return changed


def names_of_values(graph: onnx.GraphProto) -> set[str]:
    """Those that a further value must not have."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    return taken | {item.name for item in (*graph.input, *graph.output, *graph.initializer)}
