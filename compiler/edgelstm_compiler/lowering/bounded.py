"""Which int8 values of a graph are never -128; some products are quicker where that is sure."""

from __future__ import annotations

from typing import Any

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


def is_symmetric(op: Any) -> bool:
    """Whether an integer cell makes no -128 of any h in Q0.15."""
    lowest, shift = -32768 * op.output_multiplier, op.output_shift
    return bool((lowest + (1 << shift >> 1)) >> shift >= -127)


def bounded_values(graph: StepGraph) -> frozenset[Value]:
    """What symmetric cells give as int8, also where it was moved since."""
    found: set[Value] = set()
    for node in graph.nodes:
        if isinstance(node.op, IntegerRecurrent) and is_symmetric(node.op):
            found.update(value for value in node.outputs if value.type.dtype is DType.I8)
        elif isinstance(node.op, _MOVEMENTS):
            moved = [value for value in node.inputs if value is not None]
            if moved and all(value in found for value in moved):
                found.update(node.outputs)
    return frozenset(found)
