"""Random models with operators on the number of frames in front of, between and behind cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TO_THE_END = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class FrameModel:
    """A model with free time.

    Args:
        model: input `x`, outputs `out0`, ...
        time_axis: of `x`.
        features: of `x`.
        constants: integers that the model compares the number of frames with.
    """

    model: onnx.ModelProto
    time_axis: int
    features: int
    constants: tuple[int, ...]

    def shaped(self, frames: Array) -> Array:
        """Frames (T, F) as the model's input."""
        return np.expand_dims(frames, 1 - self.time_axis)


@dataclass(slots=True)
class _Draw:
    """A model while it is drawn; values are (T, 1, C) inside."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    constants: list[int] = field(default_factory=list)
    count: int = 0
    is_cut: bool = False
    is_behind_cells: bool = False

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; the name of its first output."""
        self.count += 1
        names = [f"v{self.count}_{k}" for k in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=f"n{self.count}", **attributes)
        )
        return names[0]

    def store(self, data: Any, dtype: Any = np.int64) -> str:
        """A constant."""
        self.count += 1
        name = f"c{self.count}"
        self.stored[name] = np.asarray(data, dtype)
        return name

    def weights(self, *shape: int, scale: float = 0.5) -> str:
        """Random weights."""
        return self.store(scale * self.rng.standard_normal(shape), np.float32)

    def one_of(self, *choices: Any) -> Any:
        """One of these."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return bool(self.rng.random() < probability)

    def small(self) -> int:
        """An integer that the number of frames may cross."""
        number = int(self.one_of(1, 2, 3, 5, 8, 13, 30, 50))
        self.constants.append(number)
        return number


def draw(seed: int) -> FrameModel:
    """The model of a seed."""
    d = _Draw(np.random.default_rng(seed))
    features, time_axis = int(d.rng.integers(1, 5)), int(d.rng.integers(2))
    value, width = "x", features
    if time_axis == 1:
        value = d.add("Transpose", "x", perm=[1, 0, 2])
    for stage in range(int(d.rng.integers(1, 3))):
        for _ in range(int(d.rng.integers(0, 2 if stage else 3))):
            value, width = _operator(d, value, width)
        value, width, last = _cell(d, value, width)
    d.is_behind_cells = True
    for _ in range(int(d.rng.integers(0, 3))):
        value, width = _operator(d, value, width)
    outputs = [_head(d, value, last)]
    if d.chance(0.2):
        outputs.append(_head(d, value, last))
    for place, name in enumerate(outputs):
        d.nodes.append(helper.make_node("Identity", [name], [f"out{place}"]))
    shape: list[str | int] = [1, 1, features]
    shape[time_axis] = "T"
    graph = helper.make_graph(
        d.nodes,
        f"frames{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(f"out{k}", TensorProto.FLOAT, None)
            for k in range(len(outputs))
        ],
        [numpy_helper.from_array(data, name) for name, data in d.stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return FrameModel(model, time_axis, features, tuple(sorted(set(d.constants))))


def _cell(d: _Draw, x: str, width: int) -> tuple[str, int, str]:
    op = d.one_of("LSTM", "GRU", "RNN")
    hidden, gates = int(d.rng.integers(1, 5)), GATES[op]
    inputs = [
        x,
        d.weights(1, gates * hidden, width),
        d.weights(1, gates * hidden, hidden),
        d.weights(1, 2 * gates * hidden),
    ]
    if d.chance(0.3):
        # As PyTorch writes it: zeros whose batch is read off the input's shape.
        batch = d.add("Gather", d.add("Shape", x), d.store([1]))
        shape = d.add("Concat", d.store([1]), batch, d.store([hidden]), axis=0)
        inputs += ["", d.add("ConstantOfShape", shape)]
    y = d.add(op, *inputs, outputs=2, hidden_size=hidden)
    last = y.replace("_0", "_1")
    match int(d.rng.integers(3)):
        case 0:
            frames = d.add("Squeeze", y, d.store([1]))
        case 1:
            frames = d.add("Reshape", y, d.store([-1, 1, hidden]))
        case _:
            frames = d.add("Reshape", y, _shape(d, y, [1, hidden]))
    return frames, hidden, last


def _head(d: _Draw, frames: str, last: str) -> str:
    match int(d.rng.integers(7)):
        case 0:
            return d.add("Gather", frames, d.store(-1), axis=0)
        case 1 if not d.is_cut:
            newest = d.add("Sub", _frames(d, frames), d.store(1))
            return d.add("Gather", frames, newest, axis=0)
        case 2:
            return d.add("Slice", frames, d.store([-1]), d.store([TO_THE_END]), d.store([0]))
        case 3:
            return last
        case 4:
            starts = d.store([-1 - d.small()])
            cut = d.add("Slice", frames, starts, d.store([TO_THE_END]), d.store([0]))
            return d.add("Gather", cut, d.store(-1), axis=0)
        case _:
            return frames


def _operator(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """One operator or a few, of which about two thirds do not depend on the number of frames."""
    harmless: list[Callable[[_Draw, str, int], tuple[str, int]]] = [
        _linear,
        _function,
        _there_and_back,
        _repeated,
        _all_of_them,
        _branch,
        _scaled,
        _turned,
    ]
    harmful: list[Callable[[_Draw, str, int], tuple[str, int]]] = [
        _some_frames,
        _positions,
        _branch,
        _scaled,
        _chosen,
    ]
    return d.one_of(*(harmful if d.chance(0.3) else harmless))(d, x, width)


def _frames(d: _Draw, x: str) -> str:
    """The number of frames as a scalar."""
    return d.add("Gather", d.add("Shape", x), d.store(0))


def _integer(d: _Draw, x: str, depth: int = 2) -> str:
    """A scalar computed from the number of frames."""
    t = _frames(d, x)
    for _ in range(int(d.rng.integers(0, depth + 1))):
        match int(d.rng.integers(9)):
            case 0:
                t = d.add("Add", t, d.store(d.small()))
            case 1:
                t = d.add("Mul", t, d.store(d.one_of(2, 3)))
            case 2:
                t = d.add("Div", t, d.store(d.small()))
            case 3:
                t = d.add("Min", t, d.store(d.small()))
            case 4:
                t = d.add("Max", t, d.store(d.small()))
            case 5:
                t = d.add("Sub", t, _frames(d, x))
            case 6:
                t = d.add("Sub", d.store(d.small()), t)
            case 7:
                t = d.add("Abs", t)
            case _:
                t = d.add("Mod", t, d.store(d.small()))
    return t


def _shape(d: _Draw, x: str, rest: list[int]) -> str:
    """The number of frames, and further extents."""
    t = d.add("Unsqueeze", _frames(d, x), d.store([0]))
    return d.add("Concat", t, d.store(rest), axis=0)


def _linear(d: _Draw, x: str, width: int) -> tuple[str, int]:
    units = int(d.rng.integers(1, 5))
    return d.add("MatMul", x, d.weights(width, units)), units


def _function(d: _Draw, x: str, width: int) -> tuple[str, int]:
    return d.add(d.one_of("Tanh", "Sigmoid", "Neg", "Abs"), x), width


def _there_and_back(d: _Draw, x: str, width: int) -> tuple[str, int]:
    flat = d.add("Reshape", x, d.one_of(d.store([-1, width]), _shape(d, x, [width])))
    back = d.one_of(d.store([-1, 1, width]), _shape(d, x, [1, width]), d.store([0, 1, -1]))
    return d.add("Reshape", flat, back), width


def _turned(d: _Draw, x: str, width: int) -> tuple[str, int]:
    turned = d.add("Tanh", d.add("Transpose", x, perm=[1, 2, 0]))
    return d.add("Transpose", turned, perm=[2, 0, 1]), width


def _repeated(d: _Draw, x: str, width: int) -> tuple[str, int]:
    shape = _shape(d, x, [1, width])
    if d.chance(0.5):
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
        made = d.add("ConstantOfShape", shape, value=value)
    else:
        made = d.add("Expand", d.weights(d.one_of(1, width)), shape)
    return d.add(d.one_of("Add", "Mul"), x, made), width


def _all_of_them(d: _Draw, x: str, width: int) -> tuple[str, int]:
    t = d.add("Unsqueeze", _frames(d, x), d.store([0]))
    start = d.one_of(d.store([0]), d.add("Neg", t), d.store([-TO_THE_END]), d.add("Sub", t, t))
    end = d.one_of(t, d.store([TO_THE_END]), d.store([1 << 31]), d.add("Add", t, d.store([3])))
    return d.add("Slice", x, start, end, d.store([0])), width


def _some_frames(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """Slices with a fixed bound, or one computed from the number of frames."""
    bounds = [
        ([-1 - d.small()], [TO_THE_END]),
        ([0], [d.small()]),
        ([d.one_of(0, 1)], [TO_THE_END]),
        ([0], [-1]),
    ]
    # Behind the cells the newest of them is that of all frames: `_head` takes it.
    start, end = bounds[int(d.rng.integers(int(d.is_behind_cells), len(bounds)))]
    d.is_cut = True
    starts = d.store(start)
    if d.chance(0.3):
        starts = d.add("Unsqueeze", _integer(d, x), d.store([0]))
    return d.add("Slice", x, starts, d.store(end), d.store([0])), width


def _positions(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """Frame numbers, or a table of them."""
    t = _frames(d, x)
    numbers = d.add("Range", d.store(0), t, d.store(1))
    floats = d.add("Cast", numbers, to=TensorProto.FLOAT)
    table = d.add("Unsqueeze", d.add("Mul", floats, d.store(0.1, np.float32)), d.store([1, 2]))
    return d.add("Add", x, table), width


def _branch(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """An If on the number of frames; on some conditions always the same branch."""
    condition = d.add(
        d.one_of("Greater", "Less", "GreaterOrEqual", "Equal"),
        _integer(d, x, 1),
        d.store(d.one_of(-1, 0, 0, d.small())),
    )
    branches = {}
    for name, op in (("then_branch", "Tanh"), ("else_branch", "Identity")):
        out = f"{name}{d.count}"
        node = helper.make_node(op, [x], [out])
        result = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [result])
    return d.add("If", condition, **branches), width


def _scaled(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """By a number computed from the number of frames, or one that only looks like it."""
    kind = int(d.rng.integers(4))
    match kind:
        case 0:
            number = _integer(d, x)
        case 1:
            number = d.add("Min", _frames(d, x), d.store(1))
        case 2:
            number = d.add("Sub", _frames(d, x), _frames(d, x))
        case _:
            number = d.add("Gather", d.add("Shape", x), d.store(2))
    factor = d.add("Cast", number, to=TensorProto.FLOAT)
    # Kept small, so that float32 does not blur what is compared; no two of them cancel out.
    factor = d.add("Div", factor, d.store(d.rng.uniform(50, 80), np.float32))
    # Nothing is multiplied by zero: what stands before it would not matter any more.
    return d.add(d.one_of("Add", "Sub") if kind in (0, 2) else "Mul", x, factor), width


def _chosen(d: _Draw, x: str, width: int) -> tuple[str, int]:
    """One of two constants, by the number of frames."""
    condition = d.add("Less", _integer(d, x, 1), d.store(d.one_of(0, d.small())))
    picked = d.add("Where", condition, d.weights(width), d.weights(width))
    return d.add("Add", x, picked), width
