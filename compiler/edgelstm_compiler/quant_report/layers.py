"""One row per layer: scheme, bytes, noise, and how much of it is saturated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.numerics.cells import StateForm
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.ops import (
    Int8Dense,
    Int8Recurrent,
    IntegerDense,
    IntegerRecurrent,
)
from edgelstm_compiler.ir.ops.quantized_int8 import X_INVERSE
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.gates import is_cell
from edgelstm_compiler.quant_report.restore import Restored
from edgelstm_compiler.quant_report.tensors import (
    as_float,
    counterpart,
    observe,
    shown_values,
)

LAYER_KINDS = (*(cell.__name__ for cell in CELLS), "Dense")
_FLOAT_BYTES = 4


def layer_rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers of an artifact in program order; those left in float32 too."""
    record = manifest.get("quantization") or {"layers": []}
    quantized = {layer["name"]: dict(layer) for layer in record["layers"]}
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for layer in manifest["layers"]:
        name = layer["name"]
        if name in quantized and name not in seen:
            rows.append({**quantized[name], "macs": layer["macs"]})
            seen.add(name)
        elif layer["kind"] in LAYER_KINDS and layer["params"]:
            size = _FLOAT_BYTES * layer["params"]
            rows.append(
                {
                    "name": name,
                    "origin": layer["origin"],
                    "kind": layer["kind"],
                    "scheme": "fp32",
                    "bytes_before": size,
                    "bytes_after": size,
                    "weight_sqnr_db": None,
                    "output_sqnr_db": None,
                    "macs": layer["macs"],
                }
            )
    # A layer whose node has another name now (an integer layer keeps its own) goes to the end.
    rows += [{**layer, "macs": 0} for name, layer in quantized.items() if name not in seen]
    return rows


def measure_saturation(
    restored: Restored, recordings: Sequence[Recording]
) -> dict[str, dict[str, float]]:
    """By layer the shares of values at the end of their range.

    Returns:
        input: quantized inputs that are cut off; cell_state: c of int8-full at its limit;
        output: dense outputs of int8-full at theirs; gates: pre-activations beyond +-6, where
        sigmoid and tanh are flat. Only what the layer has.
    """
    graph = restored.graph
    layers = [node for node in graph.nodes if is_cell(node) or node.op.kind.endswith("Dense")]
    names = [
        value.name
        for node in layers
        for value in (node.inputs[0], *node.outputs)
        if value is not None
    ]
    found = observe(graph, names, recordings)
    constants = {constant.value: constant.data for constant in graph.constants}
    shares: dict[str, dict[str, float]] = {}
    for node in layers:
        shares[node.name] = _of_layer(node, found.rows, constants)
        trace = found.gates.get(node.outputs[0].name)
        if trace is not None:
            shares[node.name]["gates"] = _rounded(trace.saturated)
    return shares


def measure_layer_noise(
    restored: Restored, recordings: Sequence[Recording]
) -> dict[str, float | None]:
    """Signal to noise of each quantized layer's output against float32, by name of the layer."""
    if restored.converted is None:
        return {}
    layers = {layer.name for layer in restored.converted.layers}
    pairs: dict[str, tuple[str, str]] = {}
    for node, value in shown_values(restored.float_graph):
        if node.name in layers and node.name not in pairs:
            other = counterpart(value.name, restored.graph, restored.converted)
            if other is not None:
                pairs[node.name] = (value.name, other)
    wanted = observe(restored.float_graph, [name for name, _ in pairs.values()], recordings).rows
    found = observe(restored.graph, [other for _, other in pairs.values()], recordings).rows
    noise: dict[str, float | None] = {}
    for layer, (name, other) in pairs.items():
        data = as_float(name, found[other], restored.converted)
        noise[layer] = measure(wanted[name], data.reshape(wanted[name].shape)).to_json()["sqnr_db"]
    return noise


def _of_layer(
    node: Node, rows: Mapping[str, Array], constants: Mapping[Value, Array]
) -> dict[str, float]:
    source = node.inputs[0]
    assert source is not None
    x = rows[source.name] if source.name in rows else constants[source]
    match node.op:
        case Int8Recurrent() | Int8Dense():
            place = X_INVERSE if isinstance(node.op, Int8Recurrent) else 4
            inverse = node.inputs[place]
            assert inverse is not None
            zero_point = node.op.x_zero_point
            limits = np.iinfo(node.op.x_dtype.numpy)  # type: ignore[type-var]
            q = np.rint(x * constants[inverse]) + zero_point
            return {"input": _rounded(np.mean((q < limits.min) | (q > limits.max)))}
        case IntegerRecurrent():
            shares = {"input": _at_limits(x)}
            states = zip(node.op.cell.cell().states, node.outputs[1:], strict=True)
            for value in (value for state, value in states if state.form is StateForm.FREE):
                c = rows[value.name]
                shares["cell_state"] = _rounded(np.mean(np.abs(c.astype(np.int32)) >= 32767))
            return shares
        case IntegerDense():
            y = rows[node.outputs[0].name]
            is_linear = node.op.high == np.iinfo(y.dtype).max and not node.op.is_unit
            shares = {"input": _at_limits(x)}
            return {**shares, "output": _at_limits(y)} if is_linear else shares
        case _:
            return {}


def _at_limits(q: Array) -> float:
    """Share of integers at the ends of their type; an h of exactly 1 is none of them."""
    limits = np.iinfo(q.dtype)
    if q.dtype == np.int8:
        return _rounded(np.mean(q == limits.min))
    return _rounded(np.mean((q == limits.min) | (q == limits.max)))


def _rounded(share: Any) -> float:
    return float(f"{float(share):.4g}")
