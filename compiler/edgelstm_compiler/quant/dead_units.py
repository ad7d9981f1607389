"""Drops units of dense layers that pruning left without inputs or without readers.

A unit without inputs is a constant, which the layers behind take into their biases. Left in, it
costs its products and, where a tensor has one scale, may widen the range of all the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgelstm.numerics.activations import activate
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.graph import StepGraph, constant_data, consumers, result_values
from edgelstm_compiler.ir.ops import Dense, Recurrent, Unary
from edgelstm_compiler.ir.ops.recurrent import B, W, X
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.scheme import Scheme


def drop_dead_units(
    graph: StepGraph, calibration: Calibration | None, schemes: Mapping[str, Scheme]
) -> tuple[StepGraph, Calibration | None]:
    """Narrow every quantized dense layer that only layers read, and those layers with it.

    Returns:
        The SAME graph where there is nothing to drop.
    """
    for node in graph.nodes:
        found = _narrowed(graph, node, schemes)
        if found is None:
            continue
        graph, old, new, live = found
        if calibration is not None:
            ranges = calibration.value(old.name).selected(live)
            values = {**calibration.values, new.name: ranges}
            readers = {reader.name for reader in graph.nodes if new in reader.inputs}
            moments = {
                name: known.selected(live) if name in readers else known
                for name, known in calibration.moments.items()
            }
            calibration = dataclasses.replace(calibration, values=values, moments=moments)
        return drop_dead_units(graph, calibration, schemes)
    return graph, calibration


def _narrowed(
    graph: StepGraph, node: Node, schemes: Mapping[str, Scheme]
) -> tuple[StepGraph, Value, Value, Array] | None:
    data, (y,) = constant_data(graph), node.outputs[:1]
    if not isinstance(node.op, Dense) or schemes.get(node.name, Scheme.FP32) is Scheme.FP32:
        return None
    readers = consumers(graph).get(y, [])
    if y in result_values(graph) or not readers or node.inputs[W] not in data:
        return None
    if not all(_is_layer_on(reader, y, data) for reader in readers):
        return None
    weights = _constant(node, W, data)
    assert weights is not None
    has_inputs = weights.any(axis=0)
    is_read = np.any([_columns(reader, data).any(axis=0) for reader in readers], axis=0)
    live = has_inputs & is_read
    if not live.any():
        live[0] = True
    if live.all():
        return None
    bias = _constant(node, 2, data)
    fixed = np.zeros(len(live)) if bias is None else bias.astype(np.float64)
    if node.op.activation is not None:
        fixed = activate(op_fields(Unary(node.op.activation))["activation"], fixed)
    fixed = np.where(live | ~is_read, 0.0, fixed)
    kind = dataclasses.replace(y.type, shape=(*y.type.shape[:-1], int(live.sum())))
    new = Value(f"{y.name}.live", kind)
    constants = [Constant.of(f"{node.name}.W.live", weights[:, live])]
    inputs = [node.inputs[0], constants[0].value]
    if bias is not None:
        constants.append(Constant.of(f"{node.name}.B.live", bias[live]))
        inputs.append(constants[1].value)
    replaced = {node: Node(node.op, tuple(inputs), (new,), node.name, node.origin)}
    for reader in readers:
        replaced[reader], added = _on_live(reader, new, live, fixed, data)
        constants += added
    narrowed = dataclasses.replace(
        graph,
        nodes=tuple(replaced.get(other, other) for other in graph.nodes),
        constants=(*graph.constants, *constants),
    )
    return eliminate_unused(narrowed), y, new, live


def _is_layer_on(reader: Node, y: Value, data: Mapping[Value, Array]) -> bool:
    if not isinstance(reader.op, (Dense, Recurrent)) or reader.inputs.count(y) != 1:
        return False
    position = 2 if isinstance(reader.op, Dense) else B
    bias = reader.inputs[position] if len(reader.inputs) > position else None
    is_known = reader.inputs[W] in data and (bias is None or bias in data)
    return reader.inputs[X] is y and is_known


def _on_live(
    reader: Node, new: Value, live: Array, fixed: Array, data: Mapping[Value, Array]
) -> tuple[Node, list[Constant]]:
    """The layer on the live units, with the constants of the others in its bias."""
    weights = _constant(reader, W, data)
    assert weights is not None
    padded = [*reader.inputs, *([None] * (4 - len(reader.inputs)))]
    if isinstance(reader.op, Dense):
        position, kept, change = 2, weights[live], fixed @ weights.astype(np.float64)
        bias = change
        padded = padded[:3]
    else:
        assert isinstance(reader.op, Recurrent)
        position, kept, change = B, weights[..., live], weights.astype(np.float64) @ fixed
        bias = np.concatenate([change, np.zeros_like(change)], axis=-1)
    old = _constant(reader, position, data)
    constants = [Constant.of(f"{reader.name}.W.live", np.ascontiguousarray(kept))]
    if old is not None or change.any():
        total = bias + (0.0 if old is None else old)
        constants.append(Constant.of(f"{reader.name}.B.live", total.astype(np.float32)))
        padded[position] = constants[1].value
    padded[X], padded[W] = new, constants[0].value
    return dataclasses.replace(reader, inputs=tuple(padded)), constants


def _columns(reader: Node, data: Mapping[Value, Array]) -> Array:
    """The weights of a layer as (rows, units in front)."""
    weights = _constant(reader, W, data)
    assert weights is not None
    is_dense = isinstance(reader.op, Dense)
    return weights.T if is_dense else weights.reshape(-1, weights.shape[-1])


def _constant(node: Node, position: int, data: Mapping[Value, Array]) -> Array | None:
    value = node.inputs[position] if len(node.inputs) > position else None
    return None if value is None else data[value]
