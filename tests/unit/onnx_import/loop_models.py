"""Loops over the frames of X (T, B, I), in every form in which exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T, B, I, H = 7, 2, 3, 4  # noqa: E741 - the field's letters
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def n(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; `_` stands for an absent input."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def info(name: str, kind: int, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    """A typed name."""
    return helper.make_tensor_value_info(name, kind, shape)


def seeded(*shape: int) -> Any:
    """The same numbers for the same shape."""
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def leaky(x: str = "x", h: str = "h", out: str = "h_new") -> list[onnx.NodeProto]:
    """A cell that is no LSTM, GRU or RNN: a third of tanh, two thirds of what it had."""
    return [
        n("MatMul", f"{x} W", "xw"),
        n("MatMul", f"{h} R", "hr"),
        n("Sum", "xw hr b", "s"),
        n("Tanh", "s", "u"),
        n("Sum", f"u {h} {h}", "v"),
        n("Mul", "v third", out),
    ]


WEIGHTS = {
    "W": seeded(I, H),
    "R": seeded(H, H),
    "b": seeded(H),
    "third": np.asarray(1 / 3, np.float32),
}


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str] = ("Y", "h_T"),
    *,
    stored: dict[str, Any] | None = None,
    frames: int | str = T,
    shape: Sequence[int | str] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model on X (T, B, I), with the weights of `leaky`."""
    tensors = {**WEIGHTS, "h_0": np.zeros((B, H), np.float32), **(stored or {})}
    graph = helper.make_graph(
        list(nodes),
        "loop",
        [info("X", FLOAT, shape or [frames, B, I])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in tensors.items()],
    )
    for item in graph.output:
        item.type.tensor_type.elem_type = FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def scan(body: Sequence[onnx.NodeProto] | None = None, **attributes: Any) -> onnx.NodeProto:
    """A Scan over X with one state."""
    nodes = [*(body or leaky()), n("Identity", "h_new", "y")]
    graph = helper.make_graph(
        nodes,
        "body",
        [info("h", FLOAT, [B, H]), info("x", FLOAT, [B, I])],
        [info("h_new", FLOAT, [B, H]), info("y", FLOAT, [B, H])],
    )
    return n("Scan", "h_0 X", "h_T Y", body=graph, num_scan_inputs=1, **attributes)


def loop(
    nodes: Sequence[onnx.NodeProto],
    carried: Sequence[tuple[str, int, Sequence[int] | None]],
    outputs: Sequence[str],
    inputs: str,
    results: str,
) -> onnx.NodeProto:
    """A Loop.

    Args:
        nodes: of its body, which reads `i` and `going`.
        carried: name, type and shape of what it carries.
        outputs: of its body: the condition, what it carries, what it collects.
        inputs: of the node.
        results: of the node.
    """
    body = helper.make_graph(
        list(nodes),
        "body",
        [info("i", INT64, []), info("going", BOOL, []), *(info(*item) for item in carried)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    return n("Loop", inputs, results, body=body)


STATE = [("h", FLOAT, [B, H])]


def counted_loop(frames: int | str = T) -> onnx.ModelProto:
    """The trip count alone, the iteration number as index, frames collected."""
    stored = {"T": np.asarray(T)} if isinstance(frames, int) else {}
    front = [] if stored else [n("Shape", "X", "S", end=1), n("Squeeze", "S", "T")]
    body = [n("Gather", "X i", "x", axis=0), *leaky(), n("Identity", "h_new", "y")]
    body.append(n("Identity", "going", "on"))
    node = loop(body, STATE, ["on", "h_new", "y"], "T _ h_0", "h_T Y")
    return model([*front, node], stored=stored, frames=frames)


def tensorflow_loop() -> onnx.ModelProto:
    """As tf2onnx writes it: two counters, a condition, weights carried unchanged."""
    carried = [
        ("time", INT64, []),
        ("count", INT64, []),
        ("h", FLOAT, [B, H]),
        ("w", FLOAT, [I, H]),
    ]
    body = [
        n("Gather", "X time", "x", axis=0),
        n("MatMul", "x w", "xw"),
        *leaky()[1:],
        n("Add", "time one", "time_new"),
        n("Add", "count one", "count_new"),
        n("Less", "time_new T", "more"),
        n("Less", "count_new T", "most"),
        n("And", "more most", "on"),
        n("Identity", "w", "w_new"),
        n("Identity", "h_new", "y"),
    ]
    outputs = ["on", "time_new", "count_new", "h_new", "w_new", "y"]
    node = loop(body, carried, outputs, "most_turns yes zero zero h_0 W", "t_T c_T h_T w_T Y")
    stored = {
        "T": np.asarray(T),
        "one": np.asarray(1),
        "zero": np.asarray(0),
        "most_turns": np.asarray(1 << 40),
        "yes": np.asarray(True),
    }
    return model([node], stored=stored)


def last_state_loop() -> onnx.ModelProto:
    """Nothing is collected: the last state is the result, X is batch-first, read by Slice."""
    body = [
        n("Unsqueeze", "i zero", "from"),
        n("Add", "from one", "to"),
        n("Slice", "X from to one", "frame"),
        n("Squeeze", "frame one", "x"),
        *leaky(),
        n("Identity", "going", "on"),
    ]
    node = loop(body, STATE, ["on", "h_new"], "T _ h_0", "h_T")
    stored = {"T": np.asarray(T), "one": np.array([1]), "zero": np.array([0])}
    return model([node], ["h_T"], stored=stored, shape=[B, T, I])


def reversed_loop() -> onnx.ModelProto:
    """From the last frame to the first."""
    body = [
        n("Sub", "last i", "at"),
        n("Gather", "X at", "x", axis=0),
        *leaky(),
        n("Identity", "h_new", "y"),
        n("Identity", "going", "on"),
    ]
    node = loop(body, STATE, ["on", "h_new", "y"], "T _ h_0", "h_T Y")
    return model([node], stored={"T": np.asarray(T), "last": np.asarray(T - 1)})


def list_loop() -> onnx.ModelProto:
    """Frames and results in sequences of tensors, as torch.jit.script writes them."""
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    body = helper.make_graph(
        [
            n("SequenceAt", "frames i", "x"),
            *leaky(),
            n("SequenceInsert", "done h_new", "done_new"),
            n("Identity", "going", "on"),
        ],
        "body",
        [
            info("i", INT64, []),
            info("going", BOOL, []),
            helper.make_value_info("done", sequence),
            info("h", FLOAT, [B, H]),
        ],
        [
            info("on", BOOL, []),
            helper.make_value_info("done_new", sequence),
            info("h_new", FLOAT, [B, H]),
        ],
    )
    nodes = [
        n("SplitToSequence", "X", "frames", axis=0, keepdims=0),
        n("SequenceEmpty", "", "none"),
        n("Loop", "T yes none h_0", "all h_T", body=body),
        n("ConcatFromSequence", "all", "Y", axis=0, new_axis=1),
    ]
    return model(nodes, stored={"T": np.asarray(T), "yes": np.asarray(True)})


def delayed_loop() -> onnx.ModelProto:
    """A line of delay beside the state, and two collected results."""
    carried = [("h", FLOAT, [B, H]), ("before", FLOAT, [B, I]), ("older", FLOAT, [B, I])]
    body = [
        n("Gather", "X i", "now", axis=0),
        n("Sum", "now before older", "x"),
        *leaky(),
        n("Identity", "now", "before_new"),
        n("Identity", "before", "older_new"),
        n("ReduceSum", "x", "r", keepdims=0),
        n("Identity", "h_new", "y"),
        n("Identity", "going", "on"),
    ]
    outputs = ["on", "h_new", "before_new", "older_new", "y", "r"]
    node = loop(body, carried, outputs, "T _ h_0 d_0 d_0", "h_T d_1 d_2 Y R_T")
    stored = {"T": np.asarray(T), "d_0": np.zeros((B, I), np.float32)}
    return model([node], ["Y", "h_T", "d_2", "R_T"], stored=stored)


def uneven_loop() -> onnx.ModelProto:
    """Every turn adds another number: no body is the same as the next."""
    body = [
        n("Gather", "X i", "x", axis=0),
        n("Cast", "i", "number", to=FLOAT),
        *leaky(out="k"),
        n("Add", "k number", "h_new"),
        n("Identity", "h_new", "y"),
        n("Identity", "going", "on"),
    ]
    node = loop(body, STATE, ["on", "h_new", "y"], "T _ h_0", "h_T Y")
    return model([node], stored={"T": np.asarray(T)})


LOOPS = {
    "counted": counted_loop,
    "tensorflow": tensorflow_loop,
    "last state": last_state_loop,
    "reversed": reversed_loop,
    "lists": list_loop,
    "delayed": delayed_loop,
}
"""Loops that walk, by what is special about them."""
