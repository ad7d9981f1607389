"""minGRU as a custom operator: a cell that the package does not know, in one file with its import.

z = sigmoid(Wz x + bz), n = Wn x + bn, h' = (1 - z) h + z n.  Source: Feng, Tung, Ahmed, Bengio,
Hajimirsadeghi: "Were RNNs All We Needed?" (2024), the vanilla form. Nothing is multiplied with h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelstm.numerics.cells import (
    Cell,
    CellPhase,
    Flush,
    Gate,
    Lerp,
    Let,
    Range,
    State,
    StateForm,
    Store,
    Sum,
)
from edgelstm_compiler.ir.activations import SIGMOID
from edgelstm_compiler.ir.cells.terms import of_frame
from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Results

DOMAIN = "edgelstm.test"
OPERATOR = f"{DOMAIN}.MinGRU"


@dataclass(frozen=True, slots=True)
class MinGRU(Recurrent):
    """The cell; its candidate is a sum as it is."""

    why_no_integers: ClassVar[str] = (
        "its candidate is a sum that no function bounds; use int8 for this layer"
    )

    def build(self, *, peepholes: bool) -> Cell:
        """One phase that reads the frame only."""
        del peepholes
        body = (
            Let("z", Gate("z_sum", 0, Range.UNIT)),
            Let("mixed", Lerp("z", "h", "n_sum")),
            Let("new_h", Flush("mixed")),
            Store("h", "new_h"),
        )
        sums = (Sum("z_sum", (of_frame(0),)), Sum("n_sum", (of_frame(1),)))
        states = (State("h", StateForm.FREE),)
        return Cell("minGRU", ("update gate", "candidate"), states, (CellPhase(sums, body),))


def import_mingru(node: OnnxNode) -> Results:
    """Inputs X (T, B, I), W (1, 2*H, I), B (1, 2*H), initial_h; outputs Y, Y_h."""
    w, b = (node.constant(index, what) for index, what in ((1, "W"), (2, "B")))
    op = MinGRU(w.shape[1] // 2, Direction.FORWARD, (SIGMOID,), None)
    bias = Known(f"{node.name}.bias", np.concatenate([b, np.zeros_like(b)], axis=1))
    initial = (None, node.optional(3))
    return list(node.emit_all(op, node.operand(0), node.operand(1), None, bias, *initial))


def mingru_model(
    hidden: int = 8, features: int = 3, layers: int = 2, seed: int = 0
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Layers one upon another over a free number of frames, and their weights."""
    rng = np.random.default_rng(seed)
    nodes, weights, frames = [], {}, "X"
    for layer in range(layers):
        width = features if layer == 0 else hidden
        weights[f"W{layer}"] = rng.standard_normal((1, 2 * hidden, width)) / np.sqrt(width)
        weights[f"B{layer}"] = 0.3 * rng.standard_normal((1, 2 * hidden))
        inputs, outputs = [frames, f"W{layer}", f"B{layer}"], [f"Y{layer}", f"Y_h{layer}"]
        nodes.append(
            helper.make_node("MinGRU", inputs, outputs, name=f"layer_{layer}", domain=DOMAIN)
        )
        frames = f"frames{layer}"
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axis"], [frames]))
    weights = {name: data.astype(np.float32) for name, data in weights.items()}
    constants = {**weights, "axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "min_gru",
        [_info("X", ["T", 1, features])],
        [_info(frames, ["T", 1, hidden])],
        [numpy_helper.from_array(data, name) for name, data in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), weights


def unrolled_model(weights: dict[str, np.ndarray], frames: int, layers: int = 2) -> onnx.ModelProto:
    """The same over a fixed number of frames, in operators of ONNX itself."""
    hidden, features = weights["W0"].shape[1] // 2, weights["W0"].shape[2]
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {"zero": np.zeros((1, hidden), np.float32)}

    def add(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    xs = [add("Gather", ["X", f"t{t}"], f"x{t}", axis=0) for t in range(frames)]
    constants |= {f"t{t}": np.array(t) for t in range(frames)}
    for layer in range(layers):
        halves = np.split(weights[f"W{layer}"][0], 2), np.split(weights[f"B{layer}"][0], 2)
        for gate, w, b in zip("zn", *halves, strict=True):
            constants[f"w{gate}{layer}"], constants[f"b{gate}{layer}"] = w.T.copy(), b
        h, out = "zero", []
        for t, x in enumerate(xs):
            at = f"{layer}_{t}"
            z, n = (
                add("Gemm", [x, f"w{gate}{layer}", f"b{gate}{layer}"], f"{gate}{at}")
                for gate in "zn"
            )
            z = add("Sigmoid", [z], f"s{at}")
            step = add("Sub", [n, h], f"d{at}")
            h = add("Add", [h, add("Mul", [z, step], f"m{at}")], f"h{at}")
            out.append(h)
        xs = out
    shown = [add("Unsqueeze", [h, "axis"], f"u{t}") for t, h in enumerate(xs)]
    constants["axis"] = np.array([0])
    add("Concat", shown, "Y", axis=0)
    graph = helper.make_graph(
        nodes,
        "unrolled",
        [_info("X", [frames, 1, features])],
        [_info("Y", [frames, 1, hidden])],
        [numpy_helper.from_array(data, name) for name, data in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def _info(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
