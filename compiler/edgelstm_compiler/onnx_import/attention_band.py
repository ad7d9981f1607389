"""Attention that sees a bounded number of frames: a mask put into the model's nodes.

The model is read as one that was exported with the band: everything behind (import, ONNX Runtime,
verification) sees it. What the model masks itself stays masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.onnx_import.ops.masks import LOWEST
from edgelstm_compiler.onnx_import.order import describe_node
from edgelstm_compiler.onnx_import.output_names import names_of_values
from edgelstm_compiler.onnx_import.read import OnnxModel

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
"""Element types whose lowest number is known."""

OLDEST_OPSET = 11
"""The first with Range."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """A node that weights frames by frames.

    Args:
        origin: the node, as messages call it.
        rank: axes of the scores.
        query: which of them counts the frames that ask.
        key: which counts those that are asked.
    """

    origin: str
    rank: int
    query: int
    key: int


def with_band(model: OnnxModel, weightings: Sequence[Weighting], context: int) -> OnnxModel:
    """The model in which each frame sees itself and those before it, so many in all.

    Args:
        model: as it was read.
        weightings: where its frames see each other.
        context: frames that each sees at most.

    Raises:
        ModelError: one of these nodes cannot be given a mask.
    """
    if model.opset < OLDEST_OPSET:
        raise ModelError(
            f"--attention-context: the model is of opset {model.opset}, and a mask is written in "
            f"{OLDEST_OPSET} or later: export it again"
        )
    body = onnx.ModelProto()
    body.CopyFrom(model.body)
    graph = body.graph
    wanted = {item.origin: item for item in weightings}
    nodes: list[onnx.NodeProto] = []
    found: set[str] = set()
    taken, kinds = names_of_values(graph), _element_types(body)
    for index, node in enumerate(graph.node):
        item = wanted.get(describe_node(node, str(index)))
        if item is not None:
            found.add(item.origin)
            make = _MASKS.get((node.domain if node.domain != "ai.onnx" else "", node.op_type))
            if make is None:
                raise ModelError(
                    f"--attention-context: {item.origin} weights frames by frames, and is no "
                    "Softmax nor an operator of attention: no mask can be put into it"
                )
            masked = _Masked(node, item, context, taken, kinds)
            make(masked)
            nodes += masked.nodes
        nodes.append(node)
    if found != set(wanted):
        missing = ", ".join(sorted(set(wanted) - found))
        raise ModelError(
            f"--attention-context: {missing} stands inside a loop or branch of the model, where no "
            "mask can be put into it"
        )
    del graph.node[:]
    graph.node.extend(nodes)
    return replace(model, proto=body, body=body, attention_context=context)


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Of the values whose type ONNX can tell."""
    try:
        told = onnx.shape_inference.infer_shapes(model).graph
    except Exception:
        told = model.graph
    infos = (*told.input, *told.output, *told.value_info)
    kinds = {item.name: item.type.tensor_type.elem_type for item in infos}
    kinds.update({item.name: item.data_type for item in told.initializer})
    return {name: kind for name, kind in kinds.items() if kind}


class _Masked:
    """A node, and the nodes in front of it that give its mask."""

    def __init__(
        self,
        node: onnx.NodeProto,
        item: Weighting,
        context: int,
        taken: set[str],
        kinds: Mapping[str, int],
    ) -> None:
        self.node, self.item = node, item
        self.nodes: list[onnx.NodeProto] = []
        self._context, self._taken, self._kinds = context, taken, kinds

    def kind(self, name: str) -> int:
        """The element type of a value; float32 where the file does not tell."""
        return self._kinds.get(name, onnx.TensorProto.FLOAT)

    def lowest(self, like: str) -> str:
        """The lowest number of the type of a value."""
        if self.kind(like) not in FLOATS:
            raise ModelError(
                f"--attention-context: the scores or the mask of {self.item.origin} are neither "
                "float16, float32 nor float64: no mask can be put into it"
            )
        dtype = helper.tensor_dtype_to_np_dtype(self.kind(like))
        return self.constant(max(LOWEST, float(np.finfo(dtype).min)), dtype)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output."""
        name = unique_name("attention_context", self._taken)
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def constant(self, data: object, dtype: Any = np.int64) -> str:
        """A constant."""
        value = onnx.numpy_helper.from_array(np.asarray(data, dtype))
        return self.add("Constant", value=value)

    def count(self, x: str, axis: int) -> str:
        """An extent, as a scalar."""
        return self.add("Gather", self.add("Shape", x), self.constant(axis))

    def band(self, queries: str, keys: str) -> str:
        """Which keys each query sees, along the axes of the scores.

        Args:
            queries: their number.
            keys: their number.
        """
        item, zero, one = self.item, self.constant(0), self.constant(1)
        places = []
        for count, axis in ((queries, item.query), (keys, item.key)):
            place = self.add("Range", zero, count, one)
            shape = [-1 if a == axis else 1 for a in range(item.rank)]
            places.append(self.add("Reshape", place, self.constant(shape)))
        back = self.add("Sub", *places)
        is_past = self.add("Less", self.constant(-1), back)
        return self.add("And", is_past, self.add("Less", back, self.constant(self._context)))

    def give(self, place: int, name: str) -> None:
        """Put a value into an input of the node."""
        inputs = [*self.node.input, *([""] * (place + 1 - len(self.node.input)))]
        inputs[place] = name
        del self.node.input[:]
        self.node.input.extend(inputs)


_Mask: TypeAlias = "Callable[[_Masked], None]"


def _softmax(masked: _Masked) -> None:
    """Scores in front of it that are not seen are the lowest number."""
    scores, item = masked.node.input[0], masked.item
    band = masked.band(masked.count(scores, item.query), masked.count(scores, item.key))
    masked.give(0, masked.add("Where", band, scores, masked.lowest(scores)))


def _attention(masked: _Masked) -> None:
    """Attention-23: its mask is of truth values, or is added."""
    node = masked.node
    if any(node.input[4:]):
        raise ModelError(
            f"--attention-context: {masked.item.origin} has keys of earlier calls, or lengths, as "
            "inputs: its frames are not those of the sequence alone"
        )
    band = masked.band(masked.count(node.input[0], -2), masked.count(node.input[1], -2))
    given = node.input[3] if len(node.input) > 3 else ""
    if not given:
        masked.give(3, band)
    elif masked.kind(given) == onnx.TensorProto.BOOL:
        masked.give(3, masked.add("And", band, given))
    else:
        masked.give(3, masked.add("Where", band, given, masked.lowest(given)))


def _contrib(frames: Callable[[onnx.NodeProto], tuple[str, int, str, int]]) -> _Mask:
    """An operator of com.microsoft: what is added to its scores is input 5."""

    def mask(masked: _Masked) -> None:
        node = masked.node
        x, x_axis, y, y_axis = frames(node)
        if any(node.input[6:]) or (node.op_type == "Attention" and any(node.input[4:5])):
            raise ModelError(
                f"--attention-context: {masked.item.origin} has keys of earlier calls as inputs: "
                "its frames are not those of the sequence alone"
            )
        band = masked.band(masked.count(x, x_axis), masked.count(y, y_axis))
        given = node.input[5] if len(node.input) > 5 else ""
        open_ = given or masked.constant(0.0, np.float32)
        masked.give(5, masked.add("Where", band, open_, masked.lowest(given)))

    return mask


def _of_one_input(node: onnx.NodeProto) -> tuple[str, int, str, int]:
    return node.input[0], 1, node.input[0], 1


def _of_several_inputs(node: onnx.NodeProto) -> tuple[str, int, str, int]:
    """Queries (B, S, ...); keys the same, or by head (B, N, S, H), or with the queries."""
    keys = node.input[1] if len(node.input) > 1 else ""
    return node.input[0], 1, keys or node.input[0], 1


_MASKS: dict[tuple[str, str], _Mask] = {
    ("", "Softmax"): _softmax,
    ("", "Attention"): _attention,
    ("com.microsoft", "Attention"): _contrib(_of_one_input),
    ("com.microsoft", "MultiHeadAttention"): _contrib(_of_several_inputs),
}
