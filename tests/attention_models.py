"""Models with self-attention over the frames, in the forms that exporters and optimizers write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

FEATURES, SIZE, HEADS, OUTPUTS = 3, 4, 2, 2
OPERATOR_SETS = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]


@dataclass
class Maker:
    """Nodes and weights of a model while it is made."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **fields: Any) -> str:
        """A node; its first output."""
        name = f"{op.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}.{place}" for place in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name, domain=domain, **fields))
        return name

    def constant(self, data: Array) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def ints(self, *numbers: int) -> str:
        """Integers, for shapes."""
        return self.constant(np.array(numbers))

    def normal(self, *shape: int) -> str:
        """Random weights."""
        return self.constant(self.rng.normal(0, 0.8, shape).astype(np.float32))

    def split(self, x: str) -> str:
        """(1, T, N*H) by head."""
        heads = self.add("Reshape", x, self.ints(1, -1, HEADS, SIZE // HEADS))
        return self.add("Transpose", heads, perm=[0, 2, 1, 3])


Attend = Callable[[Maker, str, str, str], str]
"""Queries, keys and values (1, T, N*H); the result (1, T, N*H)."""


def band(frames: int, context: int, ahead: int = 0) -> Array:
    """Which frames each frame sees: so many in all, and so many behind it."""
    own, other = np.arange(frames)[:, None], np.arange(frames)[None, :]
    return np.asarray((other <= own + ahead) & (other > own - context))


def masked(mask: Callable[[Maker, str], str] | None) -> Attend:
    """Attention in single operators; `mask` makes of scores (1, N, T, T) others."""

    def attend(make: Maker, q: str, k: str, v: str) -> str:
        q, k, v = (make.split(item) for item in (q, k, v))
        keys = make.add("Transpose", k, perm=[0, 1, 3, 2])
        scores = make.add("Mul", make.add("MatMul", q, keys), make.constant(np.float32(0.7)))
        scores = scores if mask is None else mask(make, scores)
        found = make.add("MatMul", make.add("Softmax", scores, axis=-1), v)
        rows = make.add("Transpose", found, perm=[0, 2, 1, 3])
        return make.add("Reshape", rows, make.ints(1, -1, SIZE))

    return attend


def where(seen: Array, nothing: float = -1e9) -> Attend:
    """Scores of what is not seen are some number."""
    return masked(
        lambda make, scores: make.add(
            "Where", make.constant(seen), scores, make.constant(np.float32(nothing))
        )
    )


def added(bias: Array) -> Attend:
    """Something is added to the scores."""
    return masked(lambda make, x: make.add("Add", x, make.constant(bias.astype(np.float32))))


def triangle(make: Maker, scores: str) -> str:
    """A mask by Trilu, of as many frames as there are."""
    count = make.add("Shape", scores, start=2)
    ones = make.add("ConstantOfShape", count, value=helper.make_tensor("v", 1, [1], [-np.inf]))
    return make.add("Add", scores, make.add("Trilu", ones, make.constant(np.array(1)), upper=1))


def compared(context: int) -> Callable[[Maker, str], str]:
    """A band by the places of frames, of as many frames as there are."""

    def mask(make: Maker, scores: str) -> str:
        count = make.add("Squeeze", make.add("Shape", scores, start=3), make.ints(0))
        zero, one = (make.constant(np.array(number)) for number in (0, 1))
        places = make.add("Range", zero, count, one)
        rows = make.add("Unsqueeze", places, make.ints(1))
        columns = make.add("Unsqueeze", places, make.ints(0))
        back = make.add("Sub", rows, columns)
        past = make.add("GreaterOrEqual", rows, columns)
        seen = make.add("And", past, make.add("Less", back, make.constant(np.array(context))))
        return make.add("Where", seen, scores, make.constant(np.float32(-1e9)))

    return mask


def operator(mask: Array | None = None, **fields: Any) -> Attend:
    """The operator of ONNX."""

    def attend(make: Maker, q: str, k: str, v: str) -> str:
        more = [] if mask is None else [make.constant(mask)]
        heads = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
        return make.add("Attention", q, k, v, *more, **heads, **fields)

    return attend


def contributed(mask: Array | None = None, **fields: Any) -> Attend:
    """MultiHeadAttention of com.microsoft; what the mask lacks is lowered."""

    def attend(make: Maker, q: str, k: str, v: str) -> str:
        more = []
        if mask is not None:
            bias = np.where(mask, 0, -1e9).astype(np.float32)[None, None]
            more = ["", "", make.constant(bias)]
        options = {"domain": "com.microsoft", "num_heads": HEADS}
        return make.add("MultiHeadAttention", q, k, v, *more, **options, **fields)

    return attend


def packed(mask: Array | None = None, **fields: Any) -> Attend:
    """Attention of com.microsoft, which makes queries, keys and values itself."""

    def attend(make: Maker, q: str, k: str, v: str) -> str:
        del k, v
        weights, bias = make.normal(SIZE, 3 * SIZE), make.normal(3 * SIZE)
        more = []
        if mask is not None:
            shape = (1, HEADS, *mask.shape)
            low = np.broadcast_to(np.where(mask, 0, -1e9), shape).astype(np.float32)
            more = ["", "", make.constant(low)]
        options = {"domain": "com.microsoft", "num_heads": HEADS}
        return make.add("Attention", q, weights, bias, *more, **options, **fields)

    return attend


def attention_model(
    attends: Sequence[Attend],
    frames: int | str = "T",
    *,
    front: Callable[[Maker, str], str] | None = None,
    has_cell: bool = True,
    seed: int = 0,
) -> onnx.ModelProto:
    """A GRU, layers of attention with residual branches, a product on every frame.

    Args:
        attends: the layers.
        frames: how many there are; a name where any.
        front: what is in front of all, over (1, F, T).
        has_cell: whether there is a GRU.
        seed: of the weights.

    Shapes:
        x (1, T, F) -> y (1, T, O).
    """
    make = Maker(np.random.default_rng(seed))
    x = "x"
    if front is not None:
        x = make.add("Transpose", front(make, make.add("Transpose", x, perm=[0, 2, 1])))
        make.nodes[-1].attribute.append(helper.make_attribute("perm", [0, 2, 1]))
    if has_cell:
        first = make.add("Transpose", x, perm=[1, 0, 2])
        w, r = make.normal(1, 3 * SIZE, FEATURES), make.normal(1, 3 * SIZE, SIZE)
        cell = make.add("GRU", first, w, r, outputs=2, hidden_size=SIZE)
        y = make.add("Transpose", make.add("Squeeze", cell, make.ints(1)), perm=[1, 0, 2])
    else:
        y = make.add("MatMul", x, make.normal(FEATURES, SIZE))
    for attend in attends:
        q, k, v = (make.add("MatMul", y, make.normal(SIZE, SIZE)) for _ in range(3))
        y = make.add("Tanh", make.add("Add", y, attend(make, q, k, v)))
    make.add("MatMul", y, make.normal(SIZE, OUTPUTS))
    make.nodes[-1].output[0] = "y"
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, frames, FEATURES])]
    shown = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(make.nodes, "attention", given, shown, make.weights)
    model = helper.make_model(graph, opset_imports=OPERATOR_SETS)
    model.ir_version = 10
    return model
