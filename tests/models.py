"""Tiny seeded ONNX models: every recurrent cell with every option, stacks of them, and heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm_compiler.onnx_import.peer import SOUND_RNN

Array = NDArray[Any]
Given = Literal["input", "constant"] | None
Lengths = Literal["input"] | tuple[int, ...] | None

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
OUTPUTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h"), "RNN": ("Y", "Y_h")}
TAKES_ALPHA = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
TAKES_BETA = ("Affine", "ScaledTanh", "HardSigmoid")
ACTIVATIONS = (*TAKES_ALPHA, "Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
RNN_ABORTS = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < SOUND_RNN
BATCH_FIRST = (1, 0, 2)
"""Permutation of X, initial_h, initial_c, Y_h and Y_c from layout 0 to layout 1, and back."""


@dataclass(frozen=True)
class CellCase:
    """One recurrent operator with all its options.

    Args:
        op: LSTM, GRU or RNN.
        steps: T of the model; None: dynamic (`T`).
        batch: B of the model; None: dynamic (`B`).
        activations: as in the attribute; None: not given. `alpha` and `beta` the same.
        sequence_lens: "input", the constant lengths, or absent.
        outputs: those that are connected.
        gain: factor on all weights; below 1 where unbounded activations would amplify each frame.
    """

    op: str = "LSTM"
    hidden: int = 4
    features: int = 3
    steps: int | None = 5
    batch: int | None = 1
    direction: str = "forward"
    layout: int = 0
    activations: tuple[str, ...] | None = None
    alpha: tuple[float, ...] | None = None
    beta: tuple[float, ...] | None = None
    clip: float | None = None
    input_forget: bool = False
    linear_before_reset: bool = False
    peepholes: bool = False
    bias: bool = True
    sequence_lens: Lengths = None
    initial_h: Given = None
    initial_c: Given = None
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c")
    opset: int = 17
    gain: float = 1.0
    seed: int = 0

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.direction == "bidirectional" else 1

    @property
    def connected(self) -> tuple[str, ...]:
        """The outputs of the model, in the operator's order."""
        return tuple(name for name in OUTPUTS[self.op] if name in self.outputs)


def lstm_model(**options: Any) -> onnx.ModelProto:
    """One LSTM; options are the fields of `CellCase`."""
    return cell_model(CellCase(op="LSTM", **options))


def gru_model(**options: Any) -> onnx.ModelProto:
    """One GRU; options are the fields of `CellCase`."""
    return cell_model(CellCase(op="GRU", **options))


def rnn_model(**options: Any) -> onnx.ModelProto:
    """One RNN; options are the fields of `CellCase`."""
    return cell_model(CellCase(op="RNN", **options))


def cell_model(case: CellCase) -> onnx.ModelProto:
    """A model of one recurrent operator; inputs and outputs have the operator's own names."""
    arrays = cell_weights(case)
    inputs = [_info("X", _permuted(case, (case.steps or "T", case.batch or "B", case.features)))]
    names = ["X", "W", "R", "B" if case.bias else "", "", "", "", ""]
    if case.sequence_lens is not None:
        names[4] = "sequence_lens"
        if case.sequence_lens == "input":
            lens = helper.make_tensor_value_info(
                "sequence_lens", TensorProto.INT32, [case.batch or "B"]
            )
            inputs.append(lens)
    for place, (name, given) in enumerate(_initial_states(case), start=5):
        names[place] = name if given else ""
        if given == "input":
            shape = (case.directions, case.batch or "B", case.hidden)
            inputs.append(_info(name, _permuted(case, shape)))
    if case.op == "LSTM" and case.peepholes:
        names[7] = "P"
    while not names[-1]:
        names.pop()
    node = helper.make_node(
        case.op,
        names,
        [name if name in case.outputs else "" for name in OUTPUTS[case.op]],
        name=f"{case.op.lower()}_1",
        **cell_attributes(case),
    )
    outputs = [_info(name, _output_shape(case, name)) for name in case.connected]
    return make_model([node], inputs, outputs, arrays, opset=case.opset)


def cell_attributes(case: CellCase) -> dict[str, Any]:
    """The attributes of the operator; those at their default are left out."""
    attributes: dict[str, Any] = {"hidden_size": case.hidden, "direction": case.direction}
    optional = {
        "activations": case.activations,
        "activation_alpha": case.alpha,
        "activation_beta": case.beta,
        "clip": case.clip,
    }
    attributes.update({name: value for name, value in optional.items() if value is not None})
    if case.layout:
        attributes["layout"] = case.layout
    if case.op == "LSTM" and case.input_forget:
        attributes["input_forget"] = 1
    if case.op == "GRU" and case.linear_before_reset:
        attributes["linear_before_reset"] = 1
    return attributes


def cell_weights(case: CellCase) -> dict[str, Array]:
    """The constants of a case by the operator's input names, in the case's layout."""
    rng = np.random.default_rng(case.seed)
    count, rows, gain = case.directions, GATES[case.op] * case.hidden, case.gain
    arrays = {
        "W": _normal(rng, (count, rows, case.features), gain / np.sqrt(case.features)),
        "R": _normal(rng, (count, rows, case.hidden), 0.7 * gain / np.sqrt(case.hidden)),
    }
    if case.bias:
        arrays["B"] = _normal(rng, (count, 2 * rows), 0.4 * gain)
    if case.op == "LSTM" and case.peepholes:
        arrays["P"] = _normal(rng, (count, 3 * case.hidden), 0.5 * gain)
    if isinstance(case.sequence_lens, tuple):
        arrays["sequence_lens"] = np.array(case.sequence_lens, np.int32)
    for name, given in _initial_states(case):
        if given == "constant":
            if case.batch is None:
                raise ValueError("a constant initial state needs a static batch")
            state = _normal(rng, (count, case.batch, case.hidden), 0.7)
            arrays[name] = state.transpose(BATCH_FIRST) if case.layout else state
    return arrays


def stacked_model(
    *,
    ops: Sequence[str] = ("LSTM", "LSTM"),
    hidden: int = 8,
    features: int = 3,
    steps: int | None = 5,
    batch: int | None = 1,
    direction: str = "forward",
    head: Literal["sequence", "last_step", "final_state"] | None = None,
    classes: int = 5,
    seed: int = 0,
) -> onnx.ModelProto:
    """Recurrent layers one upon another, and a classifier on top.

    The head "sequence" gives probabilities for each frame, "last_step" for the last frame (by
    Gather), "final_state" the same from Y_h; None shows the frames of the last layer. Sizes are
    those of `CellCase`, the same for every layer.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, Array] = {}
    frames, width = "X", features
    count = 2 if direction == "bidirectional" else 1
    arrays["axis_1"] = np.array([1], np.int64)
    arrays["merged"] = np.array([0, 0, -1], np.int64)
    for layer, op in enumerate(ops, start=1):
        case = CellCase(
            op=op, hidden=hidden, features=width, direction=direction, seed=seed + 100 * layer
        )
        arrays.update({f"{key}_{layer}": data for key, data in cell_weights(case).items()})
        names = [frames, *(f"{key}_{layer}" for key in ("W", "R", "B"))]
        results = [f"Y_{layer}", f"Y_h_{layer}"]
        nodes.append(
            helper.make_node(op, names, results, name=f"layer_{layer}", **cell_attributes(case))
        )
        frames, width = f"frames_{layer}", count * hidden
        nodes += _merge_directions(results[0], frames, count)
    nodes += _head_nodes(head, frames, f"Y_h_{len(ops)}", count)
    if head is None:
        shape: tuple[int | str, ...] = (steps or "T", batch or "B", width)
    else:
        arrays["head_w"] = _normal(rng, (width, classes), 1 / np.sqrt(width))
        arrays["head_b"] = _normal(rng, (classes,), 0.3)
        arrays["last"] = np.array(-1, np.int64)
        shape = (batch or "B", classes)
        shape = (steps or "T", *shape) if head == "sequence" else shape
    x = _info("X", (steps or "T", batch or "B", features))
    used = {name for node in nodes for name in node.input}
    arrays = {name: data for name, data in arrays.items() if name in used}
    return make_model(nodes, [x], [_info("Z", shape)], arrays)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, Array],
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A checked model of these nodes; constants become initializers."""
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(data).reshape(data.shape), name)
        for name, data in constants.items()
    ]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@st.composite
def cell_cases(
    draw: st.DrawFn,
    *,
    ops: Sequence[str] = ("LSTM", "GRU", "RNN"),
    layouts: Sequence[int] = (0, 1),
    directions: Sequence[str] = ("forward", "reverse", "bidirectional"),
) -> CellCase:
    """The whole attribute matrix: every option on its own, all static shapes, odd sizes too."""
    op = draw(st.sampled_from(ops))
    steps, batch = draw(st.integers(1, 6)), draw(st.sampled_from((1, 2, 3, 5)))
    direction = draw(st.sampled_from(directions))
    count = 2 if direction == "bidirectional" else 1
    given: st.SearchStrategy[Given] = st.sampled_from((None, "input", "constant"))
    lengths = st.tuples(*[st.integers(0, steps)] * batch)
    lens: st.SearchStrategy[Lengths] = st.one_of(st.none(), st.just("input"), lengths)
    activations, alpha, beta = None, None, None
    # ONNX Runtime before 1.31 (the last for Python 3.10 is 1.23) may abort the process on RNN
    # activations with parameters: there is nothing to compare with.
    if draw(st.booleans()) and not (op == "RNN" and RNN_ABORTS):
        size = count * FUNCTIONS[op]
        activations = tuple(draw(st.sampled_from(ACTIVATIONS)) for _ in range(size))
        alpha = draw(_parameters(activations, TAKES_ALPHA, 0.125, 0.625))
        beta = draw(_parameters(activations, TAKES_BETA, -0.25, 0.75))
        if op != "RNN":  # ONNX Runtime takes any case of letters, but not in RNN
            lower = tuple(name.lower() for name in activations)
            upper = tuple(name.upper() for name in activations)
            activations = draw(st.sampled_from((activations, lower, upper)))
    names = OUTPUTS[op]
    return CellCase(
        op=op,
        hidden=draw(st.sampled_from((1, 2, 4, 5, 8, 16, 37))),
        features=draw(st.sampled_from((1, 2, 3, 6, 9))),
        steps=steps,
        batch=batch,
        direction=direction,
        layout=draw(st.sampled_from(layouts)),
        activations=activations,
        alpha=alpha,
        beta=beta,
        clip=draw(st.none() | st.sampled_from((0.05, 0.3, 1.0, 5.0))),
        input_forget=op == "LSTM" and draw(st.booleans()),
        linear_before_reset=op == "GRU" and draw(st.booleans()),
        peepholes=op == "LSTM" and draw(st.booleans()),
        bias=draw(st.booleans()),
        sequence_lens=draw(lens),
        initial_h=draw(given),
        initial_c=draw(given) if op == "LSTM" else None,
        outputs=tuple(draw(st.lists(st.sampled_from(names), min_size=1, unique=True))),
        opset=draw(st.sampled_from((14, 17, 22))),
        gain=1.0 if activations is None else 0.3,
        seed=draw(st.integers(0, 1000)),
    )


@st.composite
def _parameters(
    draw: st.DrawFn, activations: tuple[str, ...], takers: tuple[str, ...], low: float, high: float
) -> tuple[float, ...] | None:
    """A value for each function that takes one, for the first of them only, or none at all."""
    wanted = sum(name in takers for name in activations)
    given = draw(st.integers(0, wanted))
    values = [draw(st.floats(low, high, width=32)) for _ in range(given)]
    return tuple(values) or None


def _merge_directions(y: str, frames: str, count: int) -> list[onnx.NodeProto]:
    """From Y (T, D, B, H) to frames (T, B, D*H)."""
    if count == 1:
        return [helper.make_node("Squeeze", [y, "axis_1"], [frames])]
    return [
        helper.make_node("Transpose", [y], [f"{y}_t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{y}_t", "merged"], [frames]),
    ]


def _head_nodes(head: str | None, frames: str, y_h: str, count: int) -> list[onnx.NodeProto]:
    if head is None:
        return [helper.make_node("Identity", [frames], ["Z"])]
    if head == "sequence":
        return [
            helper.make_node("MatMul", [frames, "head_w"], ["logits_0"], name="head_matmul"),
            helper.make_node("Add", ["logits_0", "head_b"], ["logits"], name="head_bias"),
            helper.make_node("Softmax", ["logits"], ["Z"], axis=-1, name="softmax"),
        ]
    if head == "last_step":
        nodes = [helper.make_node("Gather", [frames, "last"], ["newest"], axis=0, name="newest")]
    elif head == "final_state":
        if count != 1:
            raise ValueError("the head on Y_h is for one direction")
        nodes = [helper.make_node("Gather", [y_h, "last"], ["newest"], axis=0, name="newest")]
    else:
        raise ValueError(f"no head {head!r}")
    return [
        *nodes,
        helper.make_node("Gemm", ["newest", "head_w", "head_b"], ["logits"], name="head_gemm"),
        helper.make_node("Softmax", ["logits"], ["Z"], axis=-1, name="softmax"),
    ]


def _initial_states(case: CellCase) -> tuple[tuple[str, Given], ...]:
    states: tuple[tuple[str, Given], ...] = (("initial_h", case.initial_h),)
    return (*states, ("initial_c", case.initial_c)) if case.op == "LSTM" else states


def _output_shape(case: CellCase, name: str) -> tuple[int | str, ...]:
    steps, batch = case.steps or "T", case.batch or "B"
    if name != "Y":
        return _permuted(case, (case.directions, batch, case.hidden))
    if case.layout:
        return (batch, steps, case.directions, case.hidden)
    return (steps, case.directions, batch, case.hidden)


def _permuted(case: CellCase, shape: Sequence[int | str]) -> tuple[int | str, ...]:
    return tuple(shape[axis] for axis in BATCH_FIRST) if case.layout else tuple(shape)


def _info(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return (rng.standard_normal(shape) * scale).astype(np.float32)
