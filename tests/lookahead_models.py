"""Bidirectional stacks, and ONNX Runtime computing them in chunks with a bounded look-ahead.

The oracle is the model itself, edited with onnx: the forward half of each recurrent node runs
twice, over the N frames of a chunk and from there over those ahead; what the first run ends with is
an output, and an input of the next chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Layer = tuple[str, str]
"""Operator and direction."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN = 3, 4


def make_stack(
    layers: Sequence[Layer],
    *,
    is_dressed: bool = True,
    has_initial: bool = True,
    time: int | str = "T",
    seed: int = 0,
    hidden: int = HIDDEN,
) -> onnx.ModelProto:
    """Recurrent layers from x (T, 1, 3) to y (T, 1, n).

    Args:
        layers: from the input on.
        is_dressed: Dense and Tanh in front, LayerNorm behind the first layer, Dense at the end.
        has_initial: initial states are constants that are not zero.
        time: name of the free number of frames, or the only one.
        seed: of the weights.
        hidden: units of a direction.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    inits: list[onnx.TensorProto] = []

    def constant(name: str, data: Array, kind: Any = np.float32) -> str:
        inits.append(numpy_helper.from_array(np.asarray(data, kind), name))
        return name

    x, width = "x", FEATURES
    if is_dressed:
        nodes += [
            helper.make_node("MatMul", [x, constant("w_in", rng.normal(size=(width, 5)))], ["in"]),
            helper.make_node("Tanh", ["in"], ["in_tanh"]),
        ]
        x, width = "in_tanh", 5
    for index, (op, direction) in enumerate(layers):
        count, rows = 2 if direction == "bidirectional" else 1, GATES[op] * hidden
        inputs = [
            x,
            constant(f"W{index}", 0.6 * rng.normal(size=(count, rows, width))),
            constant(f"R{index}", 0.6 * rng.normal(size=(count, rows, hidden))),
            constant(f"B{index}", 0.3 * rng.normal(size=(count, 2 * rows))),
        ]
        states = "hc" if op == "LSTM" else "h"
        if has_initial:
            shape = (count, 1, hidden)
            inputs += ["", *(constant(f"{s}{index}", 0.5 * rng.normal(size=shape)) for s in states)]
        width = count * hidden
        shape_name = constant(f"shape{index}", np.array([0, 0, width]), np.int64)
        nodes += [
            helper.make_node(
                op,
                inputs,
                [f"Y{index}"],
                name=f"layer{index}",
                hidden_size=hidden,
                direction=direction,
            ),
            helper.make_node("Transpose", [f"Y{index}"], [f"T{index}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"T{index}", shape_name], [f"Z{index}"]),
        ]
        x = f"Z{index}"
        if is_dressed and index == 0:
            scale, bias = (constant(name, rng.normal(size=width)) for name in ("scale", "bias"))
            nodes.append(helper.make_node("LayerNormalization", [x, scale, bias], ["ln"], axis=-1))
            x = "ln"
    if is_dressed:
        weights = constant("w_out", rng.normal(size=(width, 2)))
        nodes.append(helper.make_node("MatMul", [x, weights], ["y"]))
    else:
        nodes.append(helper.make_node("Identity", [x], ["y"]))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [time, 1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        inits,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def whole(model: onnx.ModelProto, x: Array) -> Array:
    """The model over the whole sequence by ONNX Runtime."""
    (y,) = _session(model).run(None, {"x": x})
    return np.asarray(y)


def in_chunks(model: onnx.ModelProto, x: Array, chunk: int, ahead: int) -> Array:
    """ONNX Runtime over chunks of x (T, 1, F), forward states carried from their ends."""
    found: list[Array] = []
    carried: dict[str, Array] | None = None
    edited: dict[bool, _Edited] = {}
    for start in range(0, len(x), chunk):
        frames = x[start : start + chunk + ahead]
        count = min(chunk, len(frames))
        has_more = len(frames) > count
        if has_more not in edited:  # ONNX Runtime aborts on a sequence without frames
            edited[has_more] = _Edited(model, has_more=has_more)
        each = edited[has_more]
        states = each.initial if carried is None else carried
        y, *after = each.session.run(
            None, {"x": frames, "count": np.array([count], np.int64), **states}
        )
        carried = dict(zip(states, after, strict=True))
        found.append(np.asarray(y)[:count])
    return np.concatenate(found)


class _Edited:
    """The model with the states of its forward halves as inputs and outputs."""

    def __init__(self, model: onnx.ModelProto, *, has_more: bool) -> None:
        edited = onnx.ModelProto()
        edited.CopyFrom(model)
        self._graph, self._has_more = edited.graph, has_more
        self._data = {t.name: numpy_helper.to_array(t) for t in self._graph.initializer}
        self.initial: dict[str, Array] = {}
        nodes = list(self._graph.node)
        del self._graph.node[:]
        for name, number in (("zero", 0), ("last", 1 << 30)):
            self._add_constant(name, np.array([number], np.int64))
        self._graph.input.append(helper.make_tensor_value_info("count", TensorProto.INT64, [1]))
        for node in nodes:
            if node.op_type in GATES:
                self._split(node)
            else:
                self._graph.node.append(node)
        used = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        if not has_more:
            edited.graph.node.append(helper.make_node("Identity", ["count"], ["count_is_used"]))
        self.session = _session(edited)

    def _split(self, node: onnx.NodeProto) -> None:
        direction = next((a.s.decode() for a in node.attribute if a.name == "direction"), "forward")
        halves: list[str] = []
        if direction != "reverse":
            halves.append(self._forward(node))
        if direction != "forward":
            halves.append(self._backward(node, 1 if direction == "bidirectional" else 0))
        self._add("Concat", halves, node.output[0], axis=1)

    def _forward(self, node: onnx.NodeProto) -> str:
        name, weights = node.name, self._weights(node, 0)
        begin: list[str] = []
        after: list[str] = []
        count = 2 if node.op_type == "LSTM" else 1
        for place in range(count):
            given = node.input[5 + place] if len(node.input) > 5 + place else ""
            hidden = self._data[node.input[2]].shape[-1]
            first = self._data[given][:1] if given else np.zeros((1, 1, hidden), np.float32)
            begin.append(f"{name}_in{place}")
            after.append(f"{name}_out{place}")
            self.initial[begin[-1]] = first
            shape = list(first.shape)
            info = helper.make_tensor_value_info(begin[-1], TensorProto.FLOAT, shape)
            self._graph.input.append(info)
            info = helper.make_tensor_value_info(after[-1], TensorProto.FLOAT, shape)
            self._graph.output.append(info)
        own, more = f"{name}_own", f"{name}_more"
        self._add("Slice", [node.input[0], "zero", "count", "zero"], f"{own}_x")
        self._cell(node, "forward", [f"{own}_x", *weights, "", *begin], [f"{own}_y", *after])
        if not self._has_more:
            return f"{own}_y"
        self._add("Slice", [node.input[0], "count", "last", "zero"], f"{more}_x")
        self._cell(node, "forward", [f"{more}_x", *weights, "", *after], [f"{more}_y"])
        self._add("Concat", [f"{own}_y", f"{more}_y"], f"{name}_forward", axis=0)
        return f"{name}_forward"

    def _backward(self, node: onnx.NodeProto, d: int) -> str:
        initial = [
            self._add_constant(f"{given}_{d}", self._data[given][d : d + 1])
            for given in node.input[5:7]
            if given
        ]
        inputs = [node.input[0], *self._weights(node, d), "", *initial]
        self._cell(node, "reverse", inputs, [f"{node.name}_backward"])
        return f"{node.name}_backward"

    def _weights(self, node: onnx.NodeProto, d: int) -> list[str]:
        return [
            self._add_constant(f"{name}_{d}", self._data[name][d : d + 1])
            for name in node.input[1:4]
        ]

    def _cell(
        self, node: onnx.NodeProto, direction: str, inputs: list[str], outputs: list[str]
    ) -> None:
        added = helper.make_node(
            node.op_type, inputs, [outputs[0], *outputs[1:]], direction=direction
        )
        added.attribute.extend(a for a in node.attribute if a.name != "direction")
        self._graph.node.append(added)

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._graph.node.append(helper.make_node(op, inputs, [output], **attributes))

    def _add_constant(self, name: str, data: Array) -> str:
        tensor = numpy_helper.from_array(np.ascontiguousarray(data), name)
        self._graph.initializer.append(tensor)
        return name


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)
