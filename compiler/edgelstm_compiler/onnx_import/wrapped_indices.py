"""Indices that a framework wraps by itself: i + N where i is negative, as Gather does anyway.

Keras' embedding writes this out, as a choice or as a sum of products, and native code has to know
that an index stays within bounds. It is told by evaluation at every index that there is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import Binary, Cast, Compare, Logic, Not, Unary, Where
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.onnx_import.builder import GraphBuilder

_ELEMENTWISE = (Binary, Cast, Compare, Logic, Not, Unary, Where)

MOST_INDICES = 1 << 22
MOST_NODES = 32


def unwrapped(builder: GraphBuilder, indices: Value, extent: int) -> Value:
    """The integers that the indices of an axis are wrapped from; themselves where they are not."""
    if extent > MOST_INDICES:
        return indices
    found = indices
    for source in _sources(builder, indices):
        every = np.arange(-extent, extent)
        wrapped = _computed(builder, indices, source, every)
        if wrapped is not None and np.array_equal(
            wrapped, np.where(every < 0, every + extent, every)
        ):
            found = source
    return found


def _sources(builder: GraphBuilder, indices: Value) -> list[Value]:
    """Integers of the same shape that the indices may be a function of, the nearest first."""
    found: list[Value] = []
    waiting, seen = [indices], {indices}
    while waiting and len(seen) <= MOST_NODES:
        node = builder.producer(waiting.pop(0))
        if node is None or not isinstance(node.op, _ELEMENTWISE):
            continue
        for value in node.inputs:
            if value is None or value in seen or builder.data_of(value) is not None:
                continue
            seen.add(value)
            waiting.append(value)
            is_index = value.type.dtype.numpy in (np.int32, np.int64)
            if is_index and value.type.shape == indices.type.shape:
                found.append(value)
    return found


def _computed(builder: GraphBuilder, wanted: Value, source: Value, x: Array) -> Array | None:
    """What a value is where the source is x; None where it depends on something else."""
    known: dict[Value, Array | None] = {source: x.astype(source.type.dtype.numpy)}

    def value_of(value: Value) -> Array | None:
        if value not in known:
            data = builder.data_of(value)
            if data is not None:
                known[value] = data.reshape(()) if data.size == 1 else None
            else:
                node = builder.producer(value)
                is_far = len(known) > MOST_NODES
                known[value] = None if node is None or is_far else _applied(node, value_of)
        return known[value]

    return value_of(wanted)


def _applied(node: Node, value_of: Callable[[Value], Array | None]) -> Array | None:
    if not isinstance(node.op, _ELEMENTWISE):
        return None
    inputs = [None if item is None else value_of(item) for item in node.inputs]
    if any(item is None for item in inputs):
        return None
    return apply(node.op.kind, op_fields(node.op), inputs)[0]
