"""Folds multiplications and additions by constants into the layer behind them.

Legitimate in integer schemes: a normalization in front of the first layer, or a batch normalization
between layers, costs nothing there and would cost a way through floating point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph, constant_data, consumers, result_values
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, Recurrent
from edgelstm_compiler.ir.ops.recurrent import B, W, X
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Array, Constant, Node, Value

_ARITHMETIC = (Arithmetic.ADD, Arithmetic.SUB, Arithmetic.MUL, Arithmetic.DIV)


def fold_affine(graph: StepGraph, layers: Collection[str]) -> StepGraph:
    """X * a + b in front of these layers becomes part of their weights and biases.

    Args:
        graph: the float step graph.
        layers: names of layers that may take it in.

    Returns:
        The SAME object when there is nothing to fold.
    """
    while True:
        folded = _fold_one(graph, layers)
        if folded is graph:
            return graph
        graph = eliminate_unused(folded)


def _fold_one(graph: StepGraph, layers: Collection[str]) -> StepGraph:
    data, readers = constant_data(graph), consumers(graph)
    results = set(result_values(graph))
    for node in graph.nodes:
        if not isinstance(node.op, Binary) or node.op.arithmetic not in _ARITHMETIC:
            continue
        (y,) = node.outputs
        behind = readers.get(y, [])
        if not behind or y in results or not all(_takes(n, y, layers, data) for n in behind):
            continue
        affine = _affine(node, node.op.arithmetic, data)
        if affine is None:
            continue
        x, factor, offset = affine
        if x.type != y.type:
            continue
        replaced: dict[Node, Node] = {}
        constants: list[Constant] = []
        for layer in behind:
            replaced[layer], new = absorb(layer, x, factor, offset, data)
            constants += new
        nodes = tuple(replaced.get(other, other) for other in graph.nodes)
        return dataclasses.replace(graph, nodes=nodes, constants=(*graph.constants, *constants))
    return graph


def _takes(node: Node, value: Value, layers: Collection[str], data: dict[Value, Array]) -> bool:
    is_layer = node.name in layers and isinstance(node.op, (Dense, Recurrent))
    return is_layer and node.inputs[X] is value and node.inputs[W] in data


def _affine(
    node: Node, arithmetic: Arithmetic, data: dict[Value, Array]
) -> tuple[Value, Array, Array] | None:
    """(x, factor, offset) with the node being x * factor + offset by channel; None if it is not."""
    a, b = node.inputs
    assert a is not None
    assert b is not None
    constant, x = (data.get(b), a) if b in data else (data.get(a), b)
    if constant is None or x in data:
        return None
    columns = x.type.shape[-1]
    if constant.size not in (1, columns) or (constant.size > 1 and constant.shape[-1] != columns):
        return None
    by_channel = np.broadcast_to(constant.reshape(-1), (columns,)).astype(np.float64)
    one, zero = np.ones(columns), np.zeros(columns)
    match arithmetic:
        case Arithmetic.ADD:
            return x, one, by_channel
        case Arithmetic.SUB:
            return (x, one, -by_channel) if x is a else (x, -one, by_channel)
        case Arithmetic.MUL:
            return x, by_channel, zero
        case Arithmetic.DIV if x is a and np.all(by_channel != 0):
            return x, 1.0 / by_channel, zero
    return None


def absorb(
    node: Node, x: Value, factor: Array, offset: Array, data: dict[Value, Array]
) -> tuple[Node, list[Constant]]:
    """The layer on x, with new weights and bias: what it read so far is x * factor + offset.

    Returns:
        The layer, and the constants it reads.
    """
    w_value = node.inputs[W]
    assert w_value is not None
    w = data[w_value].astype(np.float64)
    padded = [*node.inputs, *([None] * (4 - len(node.inputs)))]
    position = 2 if isinstance(node.op, Dense) else B
    old_bias = padded[position]
    if isinstance(node.op, Dense):
        weights, change = w * factor[:, None], offset @ w
        bias = change + (0.0 if old_bias is None else data[old_bias])
        padded = padded[:3]
    else:
        assert isinstance(node.op, Recurrent)
        weights, change = w * factor, w @ offset
        rows = node.op.gates * node.op.hidden
        bias = np.zeros((w.shape[0], 2 * rows))
        if old_bias is not None:
            bias += data[old_bias]
        bias[:, :rows] += change
    new = [
        Constant.of(f"{node.name}.{name}.folded.{x.name}", array.astype(np.float32))
        for name, array in (("W", weights), ("B", bias))
    ]
    padded[X], padded[W], padded[position] = x, new[0].value, new[1].value
    return dataclasses.replace(node, inputs=tuple(padded)), new
