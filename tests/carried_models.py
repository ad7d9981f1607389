"""Random ONNX models whose states are inputs and outputs, as exporters and people write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

SPELLINGS = (
    ("{}0", "{}n"),
    ("{}_in", "{}_out"),
    ("{}", "{}N"),
    ("prev_{}", "next_{}"),
    ("{}", "new_{}"),
    ("in_{}", "out_{}"),
)
"""How the names of a state before and after a step are made."""


@dataclass(frozen=True)
class CarriedCase:
    """A model and the truth about it.

    Args:
        kind: what it is made of.
        model: the model.
        pairs: output by input.
        data: shapes of the inputs that are no states, and their types.
        shown: the outputs that are no states.
        initial: of states that have a default in the file.
        free: shapes to bind free dimensions with; empty where that is not needed.
    """

    kind: str
    model: onnx.ModelProto
    pairs: Mapping[str, str]
    data: Mapping[str, tuple[int, ...]]
    shown: tuple[str, ...]
    initial: Mapping[str, Array] = field(default_factory=dict)

    def frames(self, steps: int, seed: int = 0) -> dict[str, Array]:
        """Inputs for so many steps, (steps, *shape)."""
        rng = np.random.default_rng(seed)
        return {
            name: rng.standard_normal((steps, *shape)).astype(np.float32)
            for name, shape in self.data.items()
        }

    def replay(self, frames: Mapping[str, Array]) -> dict[str, Array]:
        """ONNX Runtime step by step, the states fed back by hand."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        kept = [x for x in model.graph.initializer if x.name not in self.pairs]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        states: dict[str, Array] = {}
        for item in session.get_inputs():
            if item.name in self.pairs:
                shape = [extent if isinstance(extent, int) else 1 for extent in item.shape]
                kind = np.int64 if "int64" in item.type else np.float32
                states[item.name] = self.initial.get(item.name, np.zeros(shape, kind))
        rows: dict[str, list[Array]] = {}
        names = [item.name for item in session.get_outputs()]
        for index in range(len(next(iter(frames.values())))):
            feed = {name: x[index] for name, x in frames.items()} | states
            found = dict(zip(names, session.run(None, feed), strict=True))
            states = {a: found[b].reshape(states[a].shape) for a, b in self.pairs.items()}
            for name, x in found.items():
                rows.setdefault(name, []).append(x)
        return {name: np.stack(x) for name, x in rows.items()}


class _Model:
    """An ONNX graph in progress."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        made = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, data: Any, kind: type = np.float32) -> str:
        name = self.name("k")
        self.stored.append(numpy_helper.from_array(np.asarray(data, kind), name))
        return name

    def weight(self, *shape: int) -> str:
        scale = 0.6 / np.sqrt(shape[-1])
        return self.constant(self.rng.standard_normal(shape) * scale)

    def take(self, name: str, shape: tuple[Any, ...], kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def show(self, value: str, name: str, kind: int = TensorProto.FLOAT) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, None))

    def cut(self, value: str, start: int, end: int, axis: int) -> str:
        ints = [self.constant([x], np.int64) for x in (start, end, axis)]
        return str(self.add("Slice", value, *ints))

    def build(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "carried", self.inputs, self.outputs, self.stored)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def make_case(seed: int) -> CarriedCase:
    """One of the kinds, all choices by the seed."""
    rng = np.random.default_rng(seed)
    kinds = (cells, cells, packed_cells, convolutions, written_out, averages, unpadded_cell)
    return kinds[int(rng.integers(len(kinds)))](rng)


def cells(rng: np.random.Generator) -> CarriedCase:
    """Recurrent layers with a state each, or one stacked state, as PyTorch exports them."""
    m = _Model(rng)
    op = str(rng.choice(["LSTM", "GRU", "RNN"]))
    layers, hidden = int(rng.integers(1, 4)), int(rng.integers(3, 8))
    features = hidden if rng.random() < 0.3 else int(rng.integers(2, 7))
    steps = int(rng.choice([1, 1, 3, 5]))
    batch_first = bool(rng.integers(2))
    is_stacked = layers > 1 and bool(rng.integers(2))
    is_free = steps == 1 and bool(rng.integers(2))
    batch: Any = "batch" if is_free else 1
    time: Any = "time" if is_free else steps
    shape = (batch, time, features) if batch_first else (time, batch, features)
    x = m.take("x", shape)
    if batch_first:
        x = m.add("Transpose", x, perm=[1, 0, 2])
    before, after = SPELLINGS[int(rng.integers(len(SPELLINGS)))]
    states = ["h", "c"] if op == "LSTM" else ["h"]
    pairs: dict[str, str] = {}
    reads: dict[tuple[str, int], str] = {}
    for state in states:
        if is_stacked:
            name = before.format(state)
            pairs[name] = after.format(state)
            whole = m.take(name, (layers, batch, hidden))
            for layer in range(layers):
                reads[state, layer] = m.cut(whole, layer, layer + 1, 0)
        else:
            for layer in range(layers):
                stem = state if layers == 1 else f"{state}_{layer + 1}"
                pairs[before.format(stem)] = after.format(stem)
                reads[state, layer] = m.take(before.format(stem), (1, batch, hidden))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    writes: dict[tuple[str, int], str] = {}
    for layer in range(layers):
        wide = features if layer == 0 else hidden
        rows = gates * hidden
        given = [m.weight(1, rows, wide), m.weight(1, rows, hidden), m.weight(1, 2 * rows), ""]
        given += [reads[state, layer] for state in states]
        extra = {"linear_before_reset": 1} if op == "GRU" else {}
        y, *finals = m.add(op, x, *given, outputs=1 + len(states), hidden_size=hidden, **extra)
        x = m.add("Squeeze", y, m.constant([1], np.int64))
        writes.update({(s, layer): final for s, final in zip(states, finals, strict=True)})
    if batch_first:
        x = m.add("Transpose", x, perm=[1, 0, 2])
    if rng.random() < 0.7:
        x = m.add("Tanh", m.add("MatMul", x, m.weight(hidden, int(rng.integers(1, 5)))))
    m.show(x, "y")
    for state in states:
        if is_stacked:
            parts = [writes[state, layer] for layer in range(layers)]
            m.show(m.add("Concat", *parts, axis=0), after.format(state))
        else:
            for layer in range(layers):
                stem = state if layers == 1 else f"{state}_{layer + 1}"
                m.show(writes[state, layer], after.format(stem))
    data = {"x": (1, steps, features) if batch_first else (steps, 1, features)}
    return CarriedCase(f"{op} x {layers}", m.build(), pairs, data, ("y",))


def packed_cells(rng: np.random.Generator) -> CarriedCase:
    """H and c of all layers in one tensor, transposed to batch first, as DTLN and Silero do."""
    m = _Model(rng)
    layers, hidden, features = int(rng.integers(1, 4)), int(rng.integers(3, 7)), 5
    x = m.take("frame", (1, 1, features))
    last = bool(rng.integers(2))
    shape = (1, layers, hidden, 2) if last else (2, layers, 1, hidden)
    state = m.take("input_7", shape)
    x = m.add("Transpose", x, perm=[1, 0, 2])
    finals: dict[str, list[str]] = {"h": [], "c": []}
    for layer in range(layers):
        initial = []
        for place in range(2):
            part = m.cut(m.cut(state, layer, layer + 1, 1), place, place + 1, 3 if last else 0)
            initial.append(m.add("Reshape", part, m.constant([1, 1, hidden], np.int64)))
        wide = features if layer == 0 else hidden
        y, h, c = m.add(
            "LSTM", x, m.weight(1, 4 * hidden, wide), m.weight(1, 4 * hidden, hidden),
            m.weight(1, 8 * hidden), "", *initial, outputs=3, hidden_size=hidden,
        )  # fmt: skip
        x = m.add("Squeeze", y, m.constant([1], np.int64))
        for name, final in (("h", h), ("c", c)):
            target = [1, 1, hidden, 1] if last else [1, 1, 1, hidden]
            finals[name].append(m.add("Reshape", final, m.constant(target, np.int64)))
    stacked = [
        m.add("Concat", *finals[name], axis=1) if layers > 1 else finals[name][0]
        for name in ("h", "c")
    ]
    m.show(m.add("Sigmoid", m.add("MatMul", x, m.weight(hidden, features))), "mask")
    m.show(m.add("Concat", *stacked, axis=3 if last else 0), "tf_stack_3")
    pairs = {"input_7": "tf_stack_3"}
    return CarriedCase("packed", m.build(), pairs, {"frame": (1, 1, features)}, ("mask",))


def convolutions(rng: np.random.Generator) -> CarriedCase:
    """Causal convolutions with caches: an own one each, or slices of one tensor."""
    m = _Model(rng)
    layers, channels = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    kernel, frames = int(rng.integers(2, 5)), int(rng.choice([1, 1, 2, 4]))
    dilation = int(rng.integers(1, 3))
    past = (kernel - 1) * dilation
    is_packed = layers > 1 and bool(rng.integers(2))
    x = m.take("mic", (1, channels, frames))
    pairs: dict[str, str] = {}
    caches = []
    before, after = SPELLINGS[int(rng.integers(len(SPELLINGS)))]
    if is_packed:
        pairs[before.format("cache")] = after.format("cache")
        whole = m.take(before.format("cache"), (layers, 1, channels, past))
        for layer in range(layers):
            part = m.cut(whole, layer, layer + 1, 0)
            caches.append(m.add("Squeeze", part, m.constant([0], np.int64)))
    else:
        for layer in range(layers):
            name = f"cache_{layer + 1}"
            pairs[before.format(name)] = after.format(name)
            caches.append(m.take(before.format(name), (1, channels, past)))
    new = []
    for cache in caches:
        joined = m.add("Concat", cache, x, axis=2)
        new.append(m.cut(joined, frames, frames + past, 2))
        y = m.add(
            "Conv", joined, m.weight(channels, channels, kernel), m.weight(channels),
            dilations=[dilation],
        )  # fmt: skip
        x = m.add("Add", x, m.add("Relu", y))
    m.show(x, "enh")
    if is_packed:
        parts = [m.add("Unsqueeze", item, m.constant([0], np.int64)) for item in new]
        m.show(m.add("Concat", *parts, axis=0), after.format("cache"))
    else:
        for layer, item in enumerate(new):
            m.show(item, after.format(f"cache_{layer + 1}"))
    data = {"mic": (1, channels, frames)}
    return CarriedCase("convolutions", m.build(), pairs, data, ("enh",))


def written_out(rng: np.random.Generator) -> CarriedCase:
    """An LSTM or GRU cell of Gemm, Split, Sigmoid and Tanh, as LSTMCell is exported."""
    m = _Model(rng)
    hidden, features = int(rng.integers(3, 7)), int(rng.integers(7, 10))
    x = m.take("x", (1, features))
    before, after = SPELLINGS[int(rng.integers(len(SPELLINGS)))]
    h = m.take(before.format("h"), (1, hidden))
    pairs = {before.format("h"): after.format("h")}
    if rng.random() < 0.5:
        c = m.take(before.format("c"), (1, hidden))
        pairs[before.format("c")] = after.format("c")
        sums = m.add(
            "Add",
            m.add("Gemm", x, m.weight(4 * hidden, features), m.weight(4 * hidden), transB=1),
            m.add("Gemm", h, m.weight(4 * hidden, hidden), m.weight(4 * hidden), transB=1),
        )
        i, f, g, o = m.add("Split", sums, outputs=4, axis=1)
        kept = m.add("Mul", m.add("Sigmoid", f), c)
        c_new = m.add("Add", kept, m.add("Mul", m.add("Sigmoid", i), m.add("Tanh", g)))
        h_new = m.add("Mul", m.add("Sigmoid", o), m.add("Tanh", c_new))
        m.show(m.add("MatMul", h_new, m.weight(hidden, 2)), "y")
        m.show(h_new, after.format("h"))
        m.show(c_new, after.format("c"))
    else:
        a = m.add("Gemm", x, m.weight(3 * hidden, features), m.weight(3 * hidden), transB=1)
        b = m.add("Gemm", h, m.weight(3 * hidden, hidden), m.weight(3 * hidden), transB=1)
        ar, az, an = m.add("Split", a, outputs=3, axis=1)
        br, bz, bn = m.add("Split", b, outputs=3, axis=1)
        r, z = m.add("Sigmoid", m.add("Add", ar, br)), m.add("Sigmoid", m.add("Add", az, bz))
        n = m.add("Tanh", m.add("Add", an, m.add("Mul", r, bn)))
        h_new = m.add("Add", n, m.add("Mul", z, m.add("Sub", h, n)))
        m.show(m.add("MatMul", h_new, m.weight(hidden, 2)), "y")
        m.show(h_new, after.format("h"))
    return CarriedCase("written out", m.build(), pairs, {"x": (1, features)}, ("y",))


def averages(rng: np.random.Generator) -> CarriedCase:
    """Running means and counters, some with a first value in the file."""
    m = _Model(rng)
    features = int(rng.integers(2, 6))
    x = m.take("audio", (1, features))
    mean = m.take("mean_prev", (1, features))
    first = rng.standard_normal((1, features)).astype(np.float32)
    m.stored.append(numpy_helper.from_array(first, "mean_prev"))
    old = m.add("Mul", mean, m.constant(0.9))
    new = m.add("Add", old, m.add("Mul", x, m.constant(0.1)))
    count = m.take("count_in", (1,), TensorProto.INT64)
    later = m.add("Add", count, m.constant([1], np.int64))
    share = m.add("Div", new, m.add("Cast", later, to=TensorProto.FLOAT))
    m.show(m.add("MatMul", m.add("Sub", x, share), m.weight(features, 3)), "y")
    m.show(new, "mean_next")
    m.show(later, "count_out", TensorProto.INT64)
    pairs = {"mean_prev": "mean_next", "count_in": "count_out"}
    return CarriedCase(
        "averages", m.build(), pairs, {"audio": (1, features)}, ("y",), {"mean_prev": first}
    )


def unpadded_cell(rng: np.random.Generator) -> CarriedCase:
    """A step over bare vectors, no axis of one anywhere."""
    m = _Model(rng)
    hidden = int(rng.integers(3, 7))
    x, h = m.take("x", (hidden + 1,)), m.take("hidden", (hidden,))
    both = m.add("Concat", x, h, axis=0)
    z = m.add("Sigmoid", m.add("MatMul", both, m.weight(2 * hidden + 1, hidden)))
    n = m.add("Tanh", m.add("MatMul", both, m.weight(2 * hidden + 1, hidden)))
    new = m.add("Add", h, m.add("Mul", z, m.add("Sub", n, h)))
    m.show(m.add("MatMul", new, m.weight(hidden, 2)), "y")
    m.show(new, "new_hidden")
    pairs = {"hidden": "new_hidden"}
    return CarriedCase("bare vectors", m.build(), pairs, {"x": (hidden + 1,)}, ("y",))


def anonymous(case: CarriedCase, seed: int) -> CarriedCase:
    """The same with names that say nothing, inputs and outputs in another order."""
    rng = np.random.default_rng(seed)
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    inputs, outputs = list(graph.input), list(graph.output)
    rng.shuffle(inputs)
    rng.shuffle(outputs)
    names = {item.name: f"arg{index}" for index, item in enumerate(inputs)}
    names |= {item.name: f"result{index}" for index, item in enumerate(outputs)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for item in (*inputs, *outputs, *graph.initializer):
        item.name = names.get(item.name, item.name)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    return CarriedCase(
        case.kind,
        model,
        {names[a]: names[b] for a, b in case.pairs.items()},
        {names[name]: shape for name, shape in case.data.items()},
        tuple(names[name] for name in case.shown),
        {names[name]: x for name, x in case.initial.items()},
    )
