"""Models by hand around one LSTM: what stands in front of it and behind it, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Dim = str | int | None

FEATURES, HIDDEN = 3, 4
TO_THE_END = (1 << 63) - 1


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """An ONNX node."""
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def lstm(x: str = "x", outputs: Sequence[str] = ("Y",), **attributes: Any) -> Any:
    """The layer, with the weights that every model here has."""
    return node("LSTM", [x, "W", "R", "B"], outputs, hidden_size=HIDDEN, **attributes)


def number_of_frames(x: str = "x", axis: str = "zero") -> list[Any]:
    """The scalar `t`: the extent of an axis."""
    return [node("Shape", [x], ["shape"]), node("Gather", ["shape", axis], ["t"])]


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Dim]] | None = None,
    stored: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("out",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of these nodes; `x` has free time where no inputs are given."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        "W": (0.5 * rng.standard_normal((1, 4 * HIDDEN, FEATURES))).astype(np.float32),
        "R": (0.5 * rng.standard_normal((1, 4 * HIDDEN, HIDDEN))).astype(np.float32),
        "B": (0.5 * rng.standard_normal((1, 8 * HIDDEN))).astype(np.float32),
        "zero": np.array(0),
        "one": np.array(1),
        "first_axis": np.array([0]),
        "second_axis": np.array([1]),
        **(stored or {}),
    }
    used = {name for item in nodes for name in item.input}
    graph = helper.make_graph(
        list(nodes),
        "frames",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in (inputs or {"x": ("T", 1, FEATURES)}).items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(data, name) for name, data in arrays.items() if name in used],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def branch(op: str, x: str) -> onnx.GraphProto:
    """A branch of an If: one operator on a value around it."""
    result = helper.make_tensor_value_info(f"{op}_{x}", TensorProto.FLOAT, None)
    return helper.make_graph([node(op, [x], [result.name])], op, [], [result])
