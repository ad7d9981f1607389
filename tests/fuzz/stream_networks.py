"""Random causal networks as ONNX models; ONNX Runtime says what a stream of them must give.

Each is a few layers over (batch, channels, time) or (batch, time, features): convolutions with any
padding, stride and dilation, pooling, padding and slices along time, cells, branches of different
delay that are added or concatenated, reductions over time at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = Any

OPSET = 18


@dataclass
class Network:
    """A model under construction, with channels before time: (1, C, T)."""

    rng: np.random.Generator
    strides: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self, what: str = "v") -> str:
        """A new name."""
        self.count += 1
        return f"{what}{self.count}"

    def constant(self, data: Array, what: str = "c") -> str:
        """An initializer."""
        name = self.fresh(what)
        self.weights.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def normal(self, *shape: int) -> str:
        """Normal random weights, small enough that signals stay tame."""
        scale = 0.7 / max(1.0, np.sqrt(np.prod(shape[1:]))) if len(shape) > 1 else 0.3
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32), "w")

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; its first output."""
        names = [self.fresh() for _ in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, self.fresh(kind.lower()), **attributes)
        )
        return names[0]

    def pick(self, *items: Any) -> Any:
        """One of them."""
        return items[self.rng.integers(len(items))]


@dataclass(frozen=True)
class Signal:
    """A value along time: name, channels, and frames for each of the model's."""

    name: str
    channels: int
    stride: int
    padding: int
    """What its length differs by from that of the input over the stride: equal ones fit."""


def conv(net: Network, x: Signal) -> Signal:
    k, dil = int(net.rng.integers(1, 5)), int(net.pick(1, 1, 2, 3))
    stride = int(net.pick(1, 1, 1, 2, 3)) if net.strides else 1
    reach = dil * (k - 1) + 1
    style = net.pick("causal", "same", "valid", "any", "any")
    if style == "causal":
        pads = [reach - 1, 0]
    elif style == "same":
        pads = [(reach - 1) // 2, (reach - 1) - (reach - 1) // 2]
    elif style == "valid":
        pads = [0, 0]
    else:
        pads = [int(net.rng.integers(0, 2 * reach)), int(net.rng.integers(0, reach + 2))]
    group = int(net.pick(1, 1, x.channels))
    out = x.channels * int(net.pick(1, 2)) if group > 1 else int(net.rng.integers(1, 5))
    w = net.normal(out, x.channels // group, k)
    args = [x.name, w] + ([net.normal(out)] if net.rng.random() < 0.7 else [])
    y = net.op(
        "Conv", *args, kernel_shape=[k], strides=[stride], dilations=[dil], pads=pads, group=group
    )
    return _moved(net, x, y, out, stride, reach, sum(pads))


def pool(net: Network, x: Signal) -> Signal:
    k = int(net.rng.integers(1, 5))
    stride = int(net.pick(1, 1, 2, k)) if net.strides else 1
    pads = [int(net.rng.integers(0, k)), int(net.rng.integers(0, k))]
    kind = net.pick("MaxPool", "AveragePool", "AveragePool")
    extra = {"count_include_pad": int(net.pick(0, 1))} if kind == "AveragePool" else {}
    y = net.op(kind, x.name, kernel_shape=[k], strides=[stride], pads=pads, **extra)
    return _moved(net, x, y, x.channels, stride, k, sum(pads))


def _moved(
    net: Network, x: Signal, y: str, channels: int, stride: int, reach: int, pads: int
) -> Signal:
    return Signal(y, channels, x.stride * stride, x.padding + x.stride * (pads - reach + 1))


def pad(net: Network, x: Signal) -> Signal:
    before, behind = int(net.rng.integers(0, 4)), int(net.rng.integers(0, 4))
    mode = net.pick("constant", "edge", "reflect")
    pads = net.constant(np.array([0, 0, before, 0, 0, behind]), "pads")
    value = net.constant(np.float32(net.pick(0.0, 0.5, -1.0)), "fill")
    y = net.op("Pad", x.name, pads, value, mode=mode)
    return Signal(y, x.channels, x.stride, x.padding + x.stride * (before + behind))


def crop(net: Network, x: Signal) -> Signal:
    first, last = int(net.rng.integers(0, 3)), int(net.rng.integers(0, 3))
    step = int(net.pick(1, 1, 2)) if net.strides else 1
    end = -last if last else np.iinfo(np.int64).max
    bounds = [net.constant(np.array([n])) for n in (first, end, 2, step)]
    y = net.op("Slice", x.name, *bounds)
    padding = x.padding - x.stride * (first + last)
    return Signal(y, x.channels, x.stride * step, padding)


def table(net: Network, x: Signal) -> Signal:
    """Rows of zeros around, by Concat with constants that differ."""
    before = int(net.rng.integers(0, 3))
    parts = [x.name]
    if before:
        parts.insert(0, net.constant(net.rng.standard_normal((1, x.channels, before)).astype("f4")))
    behind = int(net.rng.integers(0, 3))
    if behind:
        parts.append(net.constant(net.rng.standard_normal((1, x.channels, behind)).astype("f4")))
    if len(parts) == 1:
        return x
    y = net.op("Concat", *parts, axis=2)
    return Signal(y, x.channels, x.stride, x.padding + x.stride * (before + behind))


def pointwise(net: Network, x: Signal) -> Signal:
    kind = net.pick("Tanh", "Relu", "Sigmoid", "bias", "scale")
    if kind in ("Tanh", "Relu", "Sigmoid"):
        y = net.op(kind, x.name)
    elif kind == "bias":
        y = net.op("Add", x.name, net.normal(x.channels, 1))
    else:
        y = net.op("Mul", x.name, net.normal(x.channels, 1))
    return Signal(y, x.channels, x.stride, x.padding)


def cumulative(net: Network, x: Signal) -> Signal:
    axis = net.constant(np.array(2))
    y = net.op("CumSum", x.name, axis, exclusive=int(net.pick(0, 1)))
    small = net.op("Mul", y, net.constant(np.float32(0.1)))
    return Signal(small, x.channels, x.stride, x.padding)


def cell(net: Network, x: Signal) -> Signal:
    kind, gates = net.pick(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    hidden = int(net.rng.integers(1, 5))
    frames = net.op("Transpose", x.name, perm=[2, 0, 1])
    w, r = net.normal(1, gates * hidden, x.channels), net.normal(1, gates * hidden, hidden)
    b = net.normal(1, 2 * gates * hidden)
    y = net.op(kind, frames, w, r, b, outputs=2, hidden_size=hidden)
    net.outputs += [net.nodes[-1].output[1]] if net.rng.random() < 0.3 else []
    flat = net.op("Squeeze", y, net.constant(np.array([1])))
    back = net.op("Transpose", flat, perm=[1, 2, 0])
    return Signal(back, hidden, x.stride, x.padding)


def reduce(net: Network, x: Signal) -> str:
    kind = net.pick(
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"),
        *("ReduceProd", "ReduceLogSumExp", "attention"),
        *("ArgMax", "last", "newest", "GlobalAveragePool", "GlobalMaxPool"),
    )
    if kind == "ArgMax":
        return net.op("ArgMax", x.name, axis=2, keepdims=int(net.pick(0, 1)))
    if kind == "last":
        return net.op("Gather", x.name, net.constant(np.array(-1)), axis=2)
    if kind == "newest":
        k = int(net.rng.integers(1, 4))
        bounds = [net.constant(np.array([n])) for n in (-k, np.iinfo(np.int64).max, 2)]
        return net.op("Slice", x.name, *bounds)
    if kind == "attention":
        scores = net.op("Conv", x.name, net.normal(1, x.channels, 1), kernel_shape=[1])
        weighted = net.op("Mul", x.name, net.op("Softmax", scores, axis=2))
        return net.op("ReduceSum", weighted, net.constant(np.array([2])), keepdims=0)
    if kind.startswith("Global"):
        return net.op(kind, x.name)
    axes = net.constant(np.array([2] if net.rng.random() < 0.7 else [1, 2]))
    return net.op(kind, x.name, axes, keepdims=int(net.pick(0, 1)))


LAYERS = (conv, conv, conv, pool, pad, crop, table, pointwise, cell, cell, cumulative)


def random_network(
    seed: int, *, strides: bool = True, frames: int | None = None
) -> onnx.ModelProto:
    """A model of a few random layers; time is free where no number of frames is given."""
    rng = np.random.default_rng(seed)
    net = Network(rng, strides)
    channels = int(rng.integers(1, 4))
    x = Signal("x", channels, 1, 0)
    known = [x]
    for _ in range(int(rng.integers(1, 7))):
        source = known[-1] if rng.random() < 0.7 else net.pick(*known)
        known.append(net.pick(*LAYERS)(net, source))
        if rng.random() < 0.3:
            _branch(net, known)
    if not any(node.op_type in ("LSTM", "GRU", "RNN", "Conv") for node in net.nodes):
        known.append(cell(net, known[-1]))
    shown = known[-1].name
    results = [] if shown in net.outputs else [shown]
    if rng.random() < 0.5:
        results.append(reduce(net, net.pick(*known[1:])))
    if rng.random() < 0.3:
        results.append(net.pick(*known[1:]).name)
    results = list(dict.fromkeys([*results, *net.outputs]))
    kinds = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if _is_index(net, name) else TensorProto.FLOAT, None
        )
        for name in results
    ]
    shape = [1, channels, "T" if frames is None else frames]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(net.nodes, "net", given, kinds, net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    return model


def _is_index(net: Network, name: str) -> bool:
    return any(node.op_type == "ArgMax" and name in node.output for node in net.nodes)


def _branch(net: Network, known: list[Signal]) -> None:
    """Join the newest signal with another one of its rate and length."""
    x = known[-1]
    others = [s for s in known[:-1] if (s.stride, s.padding) == (x.stride, x.padding)]
    if not others:
        return
    other = net.pick(*others)
    if other.channels == x.channels and net.rng.random() < 0.5:
        kind = net.pick("Add", "Mul", "Sub")
        known.append(Signal(net.op(kind, x.name, other.name), x.channels, x.stride, x.padding))
    else:
        joined = net.op("Concat", x.name, other.name, axis=1)
        known.append(Signal(joined, x.channels + other.channels, x.stride, x.padding))
