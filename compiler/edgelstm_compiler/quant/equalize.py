"""Cross-layer equalization: moves scale between dense layers that a ReLU connects.

relu(s x) = s relu(x) for s > 0, so unit j of the first layer may be divided by s_j and the weights
behind it multiplied by s_j, until both layers use their int8 steps alike. Nothing of the kind holds
for recurrent layers: tanh and sigmoid stand between their weights and h, so no scale can be moved
through a cell, and h itself is in [-1, 1] already. Inputs of the model have scales by channel.
Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm_compiler.ir.activations import RELU
from edgelstm_compiler.ir.graph import StepGraph, constant_data, consumers, result_values
from edgelstm_compiler.ir.ops import Dense
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Array, Constant, Node, Value

_LARGEST = 16.0
"""No unit's scale is changed by more than this factor."""


def equalize(graph: StepGraph) -> StepGraph:
    """Equalize every dense layer with ReLU and the only dense layer behind it.

    Returns:
        The same function up to rounding; the SAME object when there is no such pair.
    """
    data, readers = constant_data(graph), consumers(graph)
    results = set(result_values(graph))
    replaced: dict[Node, Node] = {}
    constants: list[Constant] = []
    for node in graph.nodes:
        behind = readers.get(node.outputs[0], [])
        if len(behind) != 1 or node.outputs[0] in results:
            continue
        if not (_is_pair(node, behind[0], data)):
            continue
        first, second = replaced.get(node, node), replaced.get(behind[0], behind[0])
        known = {**data, **{constant.value: constant.data for constant in constants}}
        new_first, new_second, new = _balanced(first, second, known)
        replaced[node], replaced[behind[0]] = new_first, new_second
        constants += new
    if not replaced:
        return graph
    nodes = tuple(replaced.get(node, node) for node in graph.nodes)
    grown = dataclasses.replace(graph, nodes=nodes, constants=(*graph.constants, *constants))
    return eliminate_unused(grown)


def _is_pair(node: Node, behind: Node, data: dict[Value, Array]) -> bool:
    if not isinstance(node.op, Dense) or not isinstance(behind.op, Dense):
        return False
    if node.op.activation != RELU or behind.inputs[0] is not node.outputs[0]:
        return False
    given = (*node.inputs[1:], *behind.inputs[1:])
    return all(value is None or value in data for value in given)


def _balanced(
    first: Node, second: Node, data: dict[Value, Array]
) -> tuple[Node, Node, list[Constant]]:
    w1, w2 = _data(first.inputs[1], data), _data(second.inputs[1], data)
    r1, r2 = np.abs(w1).max(axis=0), np.abs(w2).max(axis=1)
    live = (r1 > 0) & (r2 > 0)
    ratio = np.sqrt(np.where(live, r1, 1.0) / np.where(live, r2, 1.0))
    scale = np.clip(ratio, 1.0 / _LARGEST, _LARGEST)
    new = [
        Constant.of(f"{first.name}.W.equalized", (w1 / scale).astype(np.float32)),
        Constant.of(f"{second.name}.W.equalized.{first.name}", _rows(w2, scale)),
    ]
    inputs = list(first.inputs)
    inputs[1] = new[0].value
    if len(inputs) > 2 and inputs[2] is not None:
        bias = _data(inputs[2], data) / scale
        new.append(Constant.of(f"{first.name}.B.equalized", bias.astype(np.float32)))
        inputs[2] = new[2].value
    behind = (second.inputs[0], new[1].value, *second.inputs[2:])
    return (
        dataclasses.replace(first, inputs=tuple(inputs)),
        dataclasses.replace(second, inputs=behind),
        new,
    )


def _rows(weights: Array, scale: Array) -> Array:
    return (weights * scale[:, None]).astype(np.float32)


def _data(value: Value | None, data: dict[Value, Array]) -> Array:
    assert value is not None
    return data[value].astype(np.float64)
