"""Random networks of everyday operators around, before and inside of cells, loops included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


class DoesNotFitError(Exception):
    """The operator that was drawn takes no such tensor; another one is drawn."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the network: its name and shape; floats."""

    name: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Network:
    """Nodes and weights so far."""

    rng: np.random.Generator
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    count: int = 0

    def name(self) -> str:
        """A new name."""
        self.count += 1
        return f"{self.prefix}v{self.count}"

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; the name of its first output (the others end in _1, _2, ...)."""
        name = self.name()
        names = [name, *(f"{name}_{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"n_{name}", **attributes))
        return name

    def weights(self, *shape: int, scale: float = 0.4) -> str:
        """Random weights; sometimes stored in eight bits."""
        data = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        if data.size > 4 and self.rng.random() < 0.1:
            return self._in_eight_bits(data)
        return self.constant(data)

    def constant(self, data: Any) -> str:
        """A stored tensor."""
        name = self.name()
        self.stored[name] = np.asarray(data)
        return name

    def _in_eight_bits(self, data: Array) -> str:
        scale = np.float32(np.abs(data).max() / 127)
        codes = np.rint(data / scale).astype(np.int8)
        return self.add("DequantizeLinear", self.constant(codes), self.constant(scale))

    def one_of(self, *choices: Any) -> Any:
        """Any of them."""
        return choices[self.rng.integers(len(choices))]

    def axis(self, x: Tensor) -> int:
        """Any axis of a tensor that has some."""
        if not x.shape:
            raise DoesNotFitError
        return int(self.rng.integers(len(x.shape)))


Maker = Callable[[Network, Tensor], Tensor]


def _shape(x: Tensor) -> Array:
    return np.zeros(x.shape, np.int8)


def function(net: Network, x: Tensor) -> Tensor:
    """A function of single elements."""
    op = net.one_of(
        *("Tanh", "Sigmoid", "Relu", "Softsign", "Softplus", "Elu", "Selu", "LeakyRelu"),
        *("HardSigmoid", "HardSwish", "Erf", "Neg", "Abs", "Celu", "Mish"),
    )
    return Tensor(net.add(op, x.name), x.shape)


def positive_function(net: Network, x: Tensor) -> Tensor:
    """A root, a logarithm or a power of something positive."""
    base = net.add("Add", net.add("Abs", x.name), net.constant(np.float32(0.3)))
    op = net.one_of("Sqrt", "Log", "Reciprocal", "Pow", "Pow")
    if op == "Pow" and net.rng.random() < 0.3:
        return Tensor(net.add("Pow", base, net.add("Tanh", x.name)), x.shape)
    if op == "Pow":
        power = np.float32(net.one_of(2, 3, 0.5, 1.5, -1, -0.5, 0.3, -1.7))
        return Tensor(net.add("Pow", base, net.constant(power)), x.shape)
    return Tensor(net.add(op, base), x.shape)


def arithmetic(net: Network, x: Tensor) -> Tensor:
    """With a constant that is spread, or with itself turned."""
    op = net.one_of("Add", "Sub", "Mul", "Max", "Min")
    shape = [n if net.rng.random() < 0.6 else 1 for n in x.shape]
    other = net.weights(*shape[net.rng.integers(0, len(shape) + 1) :])
    pair = (x.name, other) if net.rng.random() < 0.7 else (other, x.name)
    return Tensor(net.add(op, *pair), x.shape)


def triangle(net: Network, x: Tensor) -> Tensor:
    """A wave of |x| by a remainder: b - m where that is less than m, so that nothing jumps."""
    period = np.abs(net.rng.normal(size=x.shape[-1:])).astype(np.float32) + np.float32(0.2)
    name = net.constant(period)
    rest = net.add("Mod", net.add("Abs", x.name), name, fmod=1)
    return Tensor(net.add("Min", rest, net.add("Sub", name, rest)), x.shape)


def selection(net: Network, x: Tensor) -> Tensor:
    """A comparison, and one of two."""
    op = net.one_of("Less", "Greater", "LessOrEqual")
    is_it = net.add(op, x.name, net.constant(np.float32(net.rng.normal())))
    if net.rng.random() < 0.3:
        is_it = net.add("Not", is_it)
    return Tensor(net.add("Where", is_it, x.name, net.weights(*x.shape[-1:])), x.shape)


def reduction(net: Network, x: Tensor) -> Tensor:
    """Some axes become one, or vanish."""
    op = net.one_of(
        *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceLogSumExp")
    )
    axis, keeps = net.axis(x), int(net.rng.integers(2))
    shape = np.max(_shape(x), axis=axis, keepdims=bool(keeps)).shape
    return Tensor(net.add(op, x.name, axes=[axis], keepdims=keeps), shape)


def normalization(net: Network, x: Tensor) -> Tensor:
    """Softmax, layer normalization, Lp normalization, a running sum."""
    axis = net.axis(x)
    op = net.one_of("Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization", "CumSum")
    if op == "LayerNormalization":
        rest = x.shape[axis:]
        scale, bias = net.weights(*rest), net.weights(*rest)
        return Tensor(net.add(op, x.name, scale, bias, axis=axis, epsilon=0.1), x.shape)
    if op == "CumSum":
        return Tensor(net.add(op, x.name, net.constant(np.int64(axis))), x.shape)
    if op == "LpNormalization":
        shifted = net.add("Add", net.add("Abs", x.name), net.constant(np.float32(0.1)))
        return Tensor(net.add(op, shifted, axis=axis), x.shape)
    return Tensor(net.add(op, x.name, axis=axis), x.shape)


def movement(net: Network, x: Tensor) -> Tensor:
    """Axes in another order, some merged, some added or dropped."""
    rank = len(x.shape)
    match int(net.rng.integers(4)):
        case 0 if rank:
            perm = [int(a) for a in net.rng.permutation(rank)]
            shape = tuple(x.shape[a] for a in perm)
            return Tensor(net.add("Transpose", x.name, perm=perm), shape)
        case 1 if rank > 1:
            at = int(net.rng.integers(rank - 1))
            shape = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
            return Tensor(net.add("Reshape", x.name, net.constant(np.array(shape))), shape)
        case 2 if rank < 4:
            at = int(net.rng.integers(rank + 1))
            shape = (*x.shape[:at], 1, *x.shape[at:])
            return Tensor(net.add("Unsqueeze", x.name, net.constant(np.array([at]))), shape)
        case _:
            axis = net.axis(x)
            repeats = [2 if a == axis else 1 for a in range(rank)]
            shape = tuple(n * r for n, r in zip(x.shape, repeats, strict=True))
            return Tensor(net.add("Tile", x.name, net.constant(np.array(repeats))), shape)


def part(net: Network, x: Tensor) -> Tensor:
    """A slice (strided, from the end), a gather, a half of a split, frames turned around."""
    axis = net.axis(x)
    extent = x.shape[axis]
    rest = (x.shape[:axis], x.shape[axis + 1 :])
    match int(net.rng.integers(4)):
        case 0:
            start, end, step = net.one_of((0, 1 << 40, 2), (-1, -(1 << 40), -1), (-1, 1 << 40, 1))
            taken = np.zeros(extent)[slice(start, end if step > 0 else None, step)].size
            bounds = [net.constant(np.array([k])) for k in (start, end, axis, step)]
            return Tensor(net.add("Slice", x.name, *bounds), (*rest[0], taken, *rest[1]))
        case 1:
            index = net.rng.integers(-extent, extent, net.one_of((), (1,), (3,)))
            shape = (*rest[0], *index.shape, *rest[1])
            return Tensor(net.add("Gather", x.name, net.constant(index), axis=axis), shape)
        case 2 if extent > 1:
            sizes = [extent // 2, extent - extent // 2]
            first = net.add("Split", x.name, net.constant(np.array(sizes)), outputs=2, axis=axis)
            return Tensor(first, (*rest[0], sizes[0], *rest[1]))
        case _:
            pads = np.zeros(2 * len(x.shape), np.int64)
            pads[[axis, axis + len(x.shape)]] = net.rng.integers(0, 3, 2)
            mode = net.one_of("constant", "edge")
            name = net.add("Pad", x.name, net.constant(pads), mode=mode)
            total = int(pads.sum()) + extent
            return Tensor(name, (*rest[0], total, *rest[1]))


def join(net: Network, x: Tensor) -> Tensor:
    """Beside a constant, or beside itself."""
    axis = net.axis(x)
    other = net.weights(*x.shape) if net.rng.random() < 0.5 else net.add("Tanh", x.name)
    shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return Tensor(net.add("Concat", x.name, other, axis=axis), shape)


def product(net: Network, x: Tensor) -> Tensor:
    """With weights, or attention of a tensor to itself."""
    if not x.shape:
        raise DoesNotFitError
    units = int(net.rng.integers(1, 6))
    if len(x.shape) == 3 and net.rng.random() < 0.3:
        weights = net.weights(x.shape[-1], x.shape[-1])
        keys = net.add("Einsum", x.name, weights, equation="btf,fg->btg")
        scores = net.add("MatMul", keys, net.add("Transpose", x.name, perm=[0, 2, 1]))
        return Tensor(net.add("MatMul", net.add("Softmax", scores), x.name), x.shape)
    name = net.add("MatMul", x.name, net.weights(x.shape[-1], units))
    if net.rng.random() < 0.7:
        name = net.add("Add", name, net.weights(units))
    return Tensor(name, (*x.shape[:-1], units))


def convolution(net: Network, x: Tensor) -> Tensor:
    """Along the last axis; plain, dilated, strided, grouped; or a pooling."""
    if len(x.shape) != 3:
        raise DoesNotFitError
    batch, channels, steps = x.shape
    kernel, pad = int(net.rng.integers(1, 4)), int(net.rng.integers(0, 2))
    stride = int(net.rng.integers(1, 3))
    reach = steps + 2 * pad - kernel
    if reach < 0 or pad >= kernel:
        raise DoesNotFitError
    shape = {"kernel_shape": [kernel], "pads": [pad, pad], "strides": [stride]}
    count = reach // stride + 1
    if net.rng.random() < 0.4:
        op = net.one_of("MaxPool", "AveragePool", "LpPool", "Indices")
        if op == "LpPool":
            shape["p"] = net.one_of(1, 2, 3, 4, 5)
        if op == "Indices":
            largest = net.add("MaxPool", x.name, outputs=2, **shape)
            name = net.add("Mul", net.add("Cast", f"{largest}_1", to=FLOAT), net.weights(1))
        else:
            name = net.add(op, x.name, **shape)
        return Tensor(name, (batch, channels, count))
    if net.rng.random() < 0.3:
        weights, group, made = net.weights(channels, 1, kernel), channels, channels
    else:
        made, group = int(net.rng.integers(1, 5)), 1
        weights = net.weights(made, channels, kernel)
    name = net.add("Conv", x.name, weights, net.weights(made), group=group, **shape)
    return Tensor(name, (batch, made, count))


def ranking(net: Network, x: Tensor) -> Tensor:
    """The largest elements, or one of many."""
    axis = net.axis(x)
    count = int(net.rng.integers(1, x.shape[axis] + 1))
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    k = net.constant(np.array([count]))
    return Tensor(net.add("TopK", x.name, k, outputs=2, axis=axis), shape)


def cell(net: Network, x: Tensor) -> Tensor:
    """LSTM, GRU or RNN over three axes, in any direction, its sequence or its last state."""
    if len(x.shape) != 3:
        raise DoesNotFitError
    steps, batch, features = x.shape
    op, gates = net.one_of(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    direction = net.one_of("forward", "forward", "reverse", "bidirectional")
    count, hidden = 1 + (direction == "bidirectional"), int(net.rng.integers(1, 6))
    options: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "GRU":
        options["linear_before_reset"] = int(net.rng.integers(2))
    weights = [
        net.weights(count, gates * hidden, features),
        net.weights(count, gates * hidden, hidden),
        net.weights(count, 2 * gates * hidden),
    ]
    lengths = ""
    if net.rng.random() < 0.2:
        lengths = net.constant(net.rng.integers(1, steps + 1, batch).astype(np.int32))
    name = net.add(op, x.name, *weights, lengths, outputs=2, **options)
    if net.rng.random() < 0.4:
        return Tensor(f"{name}_1", (count, batch, hidden))
    moved = net.add("Transpose", name, perm=[0, 2, 1, 3])
    shape = (steps, batch, count * hidden)
    return Tensor(net.add("Reshape", moved, net.constant(np.array(shape))), shape)


IN_BODIES: tuple[Maker, ...] = (function, arithmetic, normalization, selection, product)
"""What stands inside of loops."""


def body_of(net: Network, frame: Tensor, state: Tensor) -> Tensor:
    """The next state of a random cell: products with frame and state, then some functions."""
    hidden = state.shape[-1]
    total = net.add(
        "Add",
        net.add("MatMul", frame.name, net.weights(frame.shape[-1], hidden)),
        net.add("MatMul", state.name, net.weights(hidden, hidden)),
    )
    found = Tensor(total, state.shape)
    for _ in range(int(net.rng.integers(1, 3))):
        made = grow(net, found, IN_BODIES)
        if made.shape == state.shape:
            found = made
    bounded = net.add("Tanh", found.name)
    if net.rng.random() < 0.5:
        gate = net.add("Sigmoid", net.add("Add", total, net.weights(hidden)))
        kept = net.add("Mul", gate, state.name)
        bounded = net.add("Add", net.add("Sub", bounded, net.add("Mul", gate, bounded)), kept)
    return Tensor(bounded, state.shape)


def loop(net: Network, x: Tensor) -> Tensor:
    """A random cell over the first axis: as Scan, as Loop, or frame by frame."""
    if len(x.shape) != 3:
        raise DoesNotFitError
    steps, batch, features = x.shape
    hidden = int(net.rng.integers(1, 5))
    form = net.one_of("Scan", "Loop", "unrolled")
    first = np.zeros((batch, hidden), np.float32)
    if net.rng.random() < 0.3:
        first = net.rng.standard_normal((batch, hidden)).astype(np.float32)
    start = net.constant(first)
    if form == "unrolled":
        return _unrolled(net, x, Tensor(start, (batch, hidden)))
    inner = Network(net.rng, f"{net.name()}_")
    frame = Tensor(f"{inner.prefix}x", (batch, features))
    state = Tensor(f"{inner.prefix}h", (batch, hidden))
    if form == "Loop":
        index = f"{inner.prefix}i"
        if net.rng.random() < 0.3:
            index = inner.add("Sub", inner.constant(np.int64(steps - 1)), index)
        taken = inner.add("Gather", x.name, index, axis=0)
        frame = Tensor(taken, frame.shape)
    following = body_of(inner, frame, state)
    row = inner.add("Identity", following.name)
    net.stored.update(inner.stored)
    shown = net.rng.random() < 0.6
    if form == "Scan":
        graph = helper.make_graph(
            inner.nodes,
            "body",
            [_info(state.name, FLOAT, state.shape), _info(frame.name, FLOAT, frame.shape)],
            [_info(following.name, FLOAT, state.shape), _info(row, FLOAT, state.shape)],
        )
        options: dict[str, Any] = {"num_scan_inputs": 1}
        if net.rng.random() < 0.3:
            options["scan_input_directions"] = [1]
        name = net.add("Scan", start, x.name, outputs=2, body=graph, **options)
    else:
        going = inner.add("Identity", f"{inner.prefix}going")
        graph = helper.make_graph(
            inner.nodes,
            "body",
            [
                _info(f"{inner.prefix}i", INT64, ()),
                _info(f"{inner.prefix}going", BOOL, ()),
                _info(state.name, FLOAT, state.shape),
            ],
            [
                _info(going, BOOL, ()),
                _info(following.name, FLOAT, state.shape),
                _info(row, FLOAT, state.shape),
            ],
        )
        trips, yes = net.constant(np.int64(steps)), net.constant(np.bool_(True))
        name = net.add("Loop", trips, yes, start, outputs=2, body=graph)
    if shown:
        return Tensor(f"{name}_1", (steps, batch, hidden))
    return Tensor(name, (batch, hidden))


def _unrolled(net: Network, x: Tensor, state: Tensor) -> Tensor:
    steps, batch, features = x.shape
    pattern = Network(net.rng, f"{net.name()}_")
    frame = Tensor("FRAME", (batch, features))
    following = body_of(pattern, frame, Tensor("STATE", state.shape))
    net.stored.update(pattern.stored)
    rows = []
    before = state.name
    for turn in range(steps):
        at = net.add("Gather", x.name, net.constant(np.int64(turn)), axis=0)
        renamed = {"FRAME": at, "STATE": before}
        for node in pattern.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_{turn}"
            for k, name in enumerate(node.input):
                copy.input[k] = renamed.get(name, name)
            for k, name in enumerate(node.output):
                renamed[name] = copy.output[k] = f"{name}_t{turn}"
            net.nodes.append(copy)
        before = renamed[following.name]
        rows.append(net.add("Unsqueeze", before, net.constant(np.array([0]))))
    if net.rng.random() < 0.6:
        return Tensor(net.add("Concat", *rows, axis=0), (steps, *state.shape))
    return Tensor(before, state.shape)


MAKERS: tuple[Maker, ...] = (
    *(function, positive_function, arithmetic, triangle, selection, reduction, normalization),
    *(movement, movement, part, join, product, convolution, ranking),
    *(cell, cell, loop, loop),
)


def grow(net: Network, x: Tensor, makers: Sequence[Maker]) -> Tensor:
    """One operator more, whichever fits."""
    for _ in range(20):
        try:
            made = makers[net.rng.integers(len(makers))](net, x)
        except DoesNotFitError:
            continue
        if 0 < int(np.prod(made.shape)) <= 4000 and len(made.shape) <= 4:
            return made
    return x


def draw(seed: int) -> onnx.ModelProto:
    """A network with one input and some outputs."""
    rng = np.random.default_rng(seed)
    net = Network(rng)
    shape = tuple(int(n) for n in (rng.integers(1, 9), rng.integers(1, 4), rng.integers(1, 6)))
    found = [Tensor("x", shape)]
    for _ in range(int(rng.integers(2, 9))):
        at = found[-1] if rng.random() < 0.8 else found[rng.integers(len(found))]
        found.append(grow(net, at, MAKERS))
    shown = [found[-1], *(item for item in found[1:-1] if rng.random() < 0.2)]
    outputs = [net.add("Identity", item.name) for item in shown]
    graph = helper.make_graph(
        net.nodes,
        f"seed_{seed}",
        [_info("x", FLOAT, shape)],
        [_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(data, name) for name, data in net.stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _info(name: str, kind: int, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
