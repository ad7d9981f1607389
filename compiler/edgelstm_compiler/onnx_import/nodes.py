"""Which nodes of an ONNX graph are needed, and their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from edgelstm_compiler.onnx_import.order import node_reads


def live_nodes(graph: onnx.GraphProto, wanted: Sequence[str]) -> list[int]:
    """Indices, in order, of the nodes that some values need."""
    needed = set(wanted)
    live = []
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if not needed.isdisjoint(node.output):
            live.append(index)
            needed |= node_reads(node)
    return live[::-1]


def read_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name; graphs are left out."""
    kinds = onnx.AttributeProto
    return {
        item.name: onnx.helper.get_attribute_value(item)
        for item in node.attribute
        if item.type not in (kinds.GRAPH, kinds.GRAPHS)
    }
