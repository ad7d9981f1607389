"""Recurrent cells written out in ONNX, by their papers: as Scan, Loop, or frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
FLOAT = TensorProto.FLOAT


@dataclass(slots=True)
class Body:
    """Nodes of one frame, and the weights they read.

    Args:
        features: of a frame x (1, features).
        hidden: units.
    """

    features: int
    hidden: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    seed: int = 0

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or their names."""
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def weights(self, *shape: int) -> str:
        """Seeded weights."""
        name = f"w{len(self.stored)}"
        rng = np.random.default_rng(len(self.stored))
        scale = 1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.3
        self.stored[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        return name

    def number(self, value: float) -> str:
        """A scalar."""
        name = f"w{len(self.stored)}"
        self.stored[name] = np.asarray(value, np.float32)
        return name

    def linear(self, x: str, rows: int, columns: int, *, bias: bool = True) -> str:
        """A product with weights (rows, columns)."""
        y = self.add("MatMul", x, self.weights(rows, columns))
        return str(self.add("Add", y, self.weights(columns)) if bias else y)

    def softplus_rate(self, x: str) -> str:
        """log(1 + e^x)."""
        return str(self.add("Softplus", x))


Step = Callable[[Body, str, Sequence[str]], tuple[Sequence[str], str]]
"""(body, frame, states) -> (states, result)."""


def lstm(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """An LSTM, gates i, f, g, o."""
    h, c = states
    total = body.add(
        "Add",
        body.linear(x, body.features, 4 * body.hidden),
        body.linear(h, body.hidden, 4 * body.hidden, bias=False),
    )
    return _lstm_update(body, total, c)


def layer_norm_lstm(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """The sums of all gates are normalized. Source: arXiv 1607.06450, equation 20."""
    h, c = states
    rows = 4 * body.hidden
    parts = []
    for value, count in ((x, body.features), (h, body.hidden)):
        y = body.linear(value, count, rows, bias=False)
        scale, bias = body.weights(rows), body.weights(rows)
        parts.append(body.add("LayerNormalization", y, scale, bias, axis=-1))
    return _lstm_update(body, body.add("Add", *parts), c)


def _lstm_update(body: Body, total: str, c: str) -> tuple[Sequence[str], str]:
    i, f, g, o = body.add("Split", total, outputs=4, axis=1)
    kept = body.add("Mul", body.add("Sigmoid", f), c)
    entering = body.add("Mul", body.add("Sigmoid", i), body.add("Tanh", g))
    cell = body.add("Add", kept, entering)
    shown = body.add("Mul", body.add("Sigmoid", o), body.add("Tanh", cell))
    return [shown, cell], shown


def min_gru(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """A minGRU. Source: arXiv 2410.01201, section 3.1."""
    z = body.add("Sigmoid", body.linear(x, body.features, body.hidden))
    value = body.linear(x, body.features, body.hidden)
    kept = body.add("Mul", body.add("Sub", body.number(1), z), states[0])
    h = body.add("Add", kept, body.add("Mul", z, value))
    return [h], h


def slstm(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """The sLSTM of xLSTM with its stabilizer. Source: arXiv 2405.04517, equations 8 to 17."""
    h, c, n, m = states
    total = body.add(
        "Add",
        body.linear(x, body.features, 4 * body.hidden),
        body.linear(h, body.hidden, 4 * body.hidden, bias=False),
    )
    i, f, z, o = body.add("Split", total, outputs=4, axis=1)
    forget = body.add("Neg", body.add("Softplus", body.add("Neg", f)))
    moved = body.add("Add", forget, m)
    stable = body.add("Max", moved, i)
    entering = body.add("Exp", body.add("Sub", i, stable))
    kept = body.add("Exp", body.add("Sub", moved, stable))
    cell = body.add(
        "Add",
        body.add("Mul", kept, c),
        body.add("Mul", entering, body.add("Tanh", z)),
    )
    norm = body.add("Add", body.add("Mul", kept, n), entering)
    share = body.add("Div", cell, body.add("Max", body.add("Abs", norm), body.number(1)))
    shown = body.add("Mul", body.add("Sigmoid", o), share)
    return [shown, cell, norm, stable], shown


def lru(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """A linear recurrent unit, real and imaginary parts apart. Source: arXiv 2303.06349."""
    a, b = states
    real, imaginary = body.weights(body.hidden), body.weights(body.hidden)
    first, second = body.add(
        "Split", body.linear(x, body.features, 2 * body.hidden, bias=False), outputs=2, axis=1
    )
    turned = body.add("Sub", body.add("Mul", real, a), body.add("Mul", imaginary, b))
    other = body.add("Add", body.add("Mul", real, b), body.add("Mul", imaginary, a))
    new = [body.add("Add", turned, first), body.add("Add", other, second)]
    both = body.add("Concat", *new, axis=1)
    return new, body.linear(both, 2 * body.hidden, body.hidden, bias=False)


def mamba(body: Body, x: str, states: Sequence[str]) -> tuple[Sequence[str], str]:
    """Mamba's selective state space, 16 states a feature. Source: arXiv 2312.00752, algorithm 2."""
    size, count = 16, body.features
    rate = body.softplus_rate(body.linear(x, count, count))
    column = body.add("Reshape", rate, _shape(body, count, 1))
    decay = body.add("Neg", body.add("Exp", body.weights(count, size)))
    kept = body.add("Exp", body.add("Mul", column, decay))
    driven = body.add("Reshape", body.add("Mul", rate, x), _shape(body, count, 1))
    entering = body.add("Mul", driven, body.linear(x, count, size, bias=False))
    h = body.add("Add", body.add("Mul", kept, states[0]), entering)
    leaving = body.add("Reshape", body.linear(x, count, size, bias=False), _shape(body, size, 1))
    y = body.add("Reshape", body.add("MatMul", h, leaving), _shape(body, 1, count))
    return [h], body.add("Add", y, body.add("Mul", body.weights(count), x))


def _shape(body: Body, *extents: int) -> str:
    name = f"w{len(body.stored)}"
    body.stored[name] = np.asarray(extents, np.int64)  # type: ignore[assignment]
    return name


def state_shapes(step: Step, features: int, hidden: int) -> list[tuple[int, int]]:
    """Shapes of what a cell carries."""
    counts = {lstm: 2, layer_norm_lstm: 2, min_gru: 1, slstm: 4, lru: 2}
    if step is mamba:
        return [(features, 16)]
    return [(1, hidden)] * counts[step]


CELLS: Mapping[str, Step] = {
    "LSTM": lstm,
    "layer-norm LSTM": layer_norm_lstm,
    "minGRU": min_gru,
    "sLSTM": slstm,
    "LRU": lru,
    "Mamba": mamba,
}
"""By name."""


def written(step: Step, form: str, features: int, hidden: int, frames: int) -> onnx.ModelProto:
    """A cell over X (T, 1, I), every frame shown; `form` is Scan, Loop or unrolled."""
    body = Body(features, hidden)
    shapes = state_shapes(step, features, hidden)
    held = [f"s{k}" for k in range(len(shapes))]
    following, shown = step(body, "x", held)
    start = {
        f"{name}_0": np.zeros(shape, np.float32) for name, shape in zip(held, shapes, strict=True)
    }
    width = features if step is mamba else hidden
    stored: dict[str, Any] = {**body.stored, **start}
    make = {"Scan": _scan, "Loop": _loop, "unrolled": _unrolled}[form]
    nodes = make(body, held, shapes, following, shown, frames, stored)
    tensors = [numpy_helper.from_array(np.asarray(data), name) for name, data in stored.items()]
    graph = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("X", FLOAT, [frames, 1, features])],
        [helper.make_tensor_value_info("Y", FLOAT, [frames, 1, width])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _info(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _scan(
    body: Body,
    held: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    following: Sequence[str],
    shown: str,
    frames: int,
    stored: dict[str, Any],
) -> list[onnx.NodeProto]:
    del frames, stored
    names = [f"{name}_new" for name in held]
    nodes = [
        *body.nodes,
        *(helper.make_node("Identity", [a], [b]) for a, b in zip(following, names, strict=True)),
        helper.make_node("Identity", [shown], ["row"]),
    ]
    inner = helper.make_graph(
        nodes,
        "body",
        [
            *(_info(name, FLOAT, shape) for name, shape in zip(held, shapes, strict=True)),
            _info("x", FLOAT, (1, body.features)),
        ],
        [onnx.ValueInfoProto(name=name) for name in (*names, "row")],
    )
    inputs = [*(f"{name}_0" for name in held), "X"]
    outputs = [*(f"{name}_T" for name in held), "Y"]
    return [helper.make_node("Scan", inputs, outputs, body=inner, num_scan_inputs=1)]


def _loop(
    body: Body,
    held: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    following: Sequence[str],
    shown: str,
    frames: int,
    stored: dict[str, Any],
) -> list[onnx.NodeProto]:
    stored |= {"trips": np.asarray(frames, np.int64), "yes": np.asarray(True)}
    names = [f"{name}_new" for name in held]
    nodes = [
        helper.make_node("Gather", ["X", "i"], ["x"], axis=0),
        *body.nodes,
        *(helper.make_node("Identity", [a], [b]) for a, b in zip(following, names, strict=True)),
        helper.make_node("Identity", [shown], ["row"]),
        helper.make_node("Identity", ["going"], ["on"]),
    ]
    inner = helper.make_graph(
        nodes,
        "body",
        [
            _info("i", TensorProto.INT64, ()),
            _info("going", TensorProto.BOOL, ()),
            *(_info(name, FLOAT, shape) for name, shape in zip(held, shapes, strict=True)),
        ],
        [onnx.ValueInfoProto(name=name) for name in ("on", *names, "row")],
    )
    inputs = ["trips", "yes", *(f"{name}_0" for name in held)]
    return [helper.make_node("Loop", inputs, [*(f"{name}_T" for name in held), "Y"], body=inner)]


def _unrolled(
    body: Body,
    held: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    following: Sequence[str],
    shown: str,
    frames: int,
    stored: dict[str, Any],
) -> list[onnx.NodeProto]:
    del shapes
    stored["front"] = np.asarray([0], np.int64)
    nodes, rows = [], []
    states = [f"{name}_0" for name in held]
    for t in range(frames):
        stored[f"t{t}"] = np.asarray(t, np.int64)
        renamed = {"x": f"x_{t}", **dict(zip(held, states, strict=True))}
        nodes.append(helper.make_node("Gather", ["X", f"t{t}"], [f"x_{t}"], axis=0))
        for node in body.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for k, name in enumerate(node.input):
                copy.input[k] = renamed.get(name, name)
            for k, name in enumerate(node.output):
                renamed[name] = copy.output[k] = f"{name}_t{t}"
            nodes.append(copy)
        states = [renamed[name] for name in following]
        nodes.append(helper.make_node("Unsqueeze", [renamed[shown], "front"], [f"row_{t}"]))
        rows.append(f"row_{t}")
    return [*nodes, helper.make_node("Concat", rows, ["Y"], axis=0)]


def operator(features: int, hidden: int, frames: int) -> onnx.ModelProto:
    """The LSTM that `lstm` is, as the operator."""
    body = Body(features, hidden)
    lstm(body, "x", ["h", "c"])
    w, b, r = body.stored.values()
    order = [0, 3, 1, 2]

    def rows(data: Array) -> Array:
        return np.concatenate([np.split(data, 4, axis=-1)[k] for k in order], axis=-1)

    stored = {
        "W": rows(w).T[None],
        "R": rows(r).T[None],
        "B": np.concatenate([rows(b), np.zeros_like(b)])[None],
        "axis": np.asarray([1], np.int64),
    }
    nodes = [
        helper.make_node("LSTM", ["X", "W", "R", "B"], ["all"], hidden_size=hidden),
        helper.make_node("Squeeze", ["all", "axis"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "operator",
        [_info("X", FLOAT, (frames, 1, features))],
        [_info("Y", FLOAT, (frames, 1, hidden))],
        [numpy_helper.from_array(np.ascontiguousarray(x), name) for name, x in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
