"""Which int8 values of a graph are never -128; some products are quicker where that is sure."""

from __future__ import annotations

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Broadcast,
    Concat,
    IntegerRecurrent,
    Reshape,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.types import Value

_MOVEMENTS = (Broadcast, Concat, Reshape, Slice, Transpose)


def bounded_values(graph: StepGraph) -> frozenset[Value]:
    """What integer cells give as int8, within +-127, also where it was moved since."""
    found: set[Value] = set()
    for node in graph.nodes:
        if isinstance(node.op, IntegerRecurrent):
            found.update(value for value in node.outputs if value.type.dtype is DType.I8)
        elif isinstance(node.op, _MOVEMENTS):
            moved = [value for value in node.inputs if value is not None]
            if moved and all(value in found for value in moved):
                found.update(node.outputs)
    return frozenset(found)
