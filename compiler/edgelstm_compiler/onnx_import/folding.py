"""Evaluation of nodes whose inputs are all known: a NumPy table, else onnx.reference.

Only operators named here are computed, and every result's size is known before it is computed.
onnx.reference is used for what no import function covers and for other element types: it is no
oracle (it computes Softmax before opset 13, and attributes of the recurrent operators, wrongly).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.types import Array

MAX_FOLDED_BYTES = 1 << 28
"""Bytes of one folded tensor: weights are smaller, a repeated constant may not be."""

Arrays = Sequence["Array | None"]


def is_foldable(op_type: str) -> bool:
    """Whether a node of this operator can be computed from known inputs."""
    return op_type in _SIZES


def is_direct(node: onnx.NodeProto, inputs: Arrays) -> bool:
    """Whether the NumPy table computes a node: two operands of one element type."""
    if node.op_type not in _DIRECT or node.attribute or len(inputs) != 2:
        return False
    a, b = inputs
    return a is not None and b is not None and a.dtype == b.dtype


def fold(node: onnx.NodeProto, opset: int, inputs: Arrays, origin: str) -> list[Array]:
    """The outputs of a node.

    Args:
        node: its operator satisfies `is_foldable`; it holds no sub-graph.
        opset: version of the ONNX operators.
        inputs: one array each; None where an optional input is absent.
        origin: how messages call the node.

    Raises:
        ShapeError: the inputs contradict each other.
        ModelError: the result would be absurdly large, or cannot be computed.
    """
    try:
        check_folded(_SIZES[node.op_type](node, inputs), origin)
        if is_direct(node, inputs):
            with np.errstate(all="ignore"):
                return [np.asarray(_DIRECT[node.op_type](*inputs))]
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ShapeError(f"{origin}: {error}") from error
    return _reference(node, opset, inputs, origin)


def check_folded(nbytes: int, origin: str) -> None:
    """Refuse to compute a constant of absurd size."""
    if nbytes > MAX_FOLDED_BYTES:
        raise ModelError(
            f"{origin}: its constant result would take {nbytes} bytes, more than "
            f"{MAX_FOLDED_BYTES}: is an extent wrong?"
        )


def _reference(node: onnx.NodeProto, opset: int, inputs: Arrays, origin: str) -> list[Array]:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:]
    bare.input.extend("" if item is None else f"i{k}" for k, item in enumerate(inputs))
    del bare.output[:]
    bare.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.output))
    wanted = [name for name in bare.output if name]
    feeds = {f"i{k}": item for k, item in enumerate(inputs) if item is not None}
    graph = onnx.helper.make_graph(
        [bare],
        "fold",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in feeds],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in wanted],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(model).run(wanted, feeds)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{origin}: cannot be computed from its constant inputs: {text}"
        ) from error
    results = iter(np.asarray(item) for item in found)
    return [next(results) if name else np.zeros(0, np.float32) for name in bare.output]


# Sizes: bytes of the result, found without computing it.


def _same(node: onnx.NodeProto, inputs: Arrays) -> int:
    """Not more than what goes in."""
    del node
    return sum(item.nbytes for item in inputs if item is not None)


def _broadcast(node: onnx.NodeProto, inputs: Arrays) -> int:
    del node
    return 8 * int(math.prod(np.broadcast_shapes(*(i.shape for i in inputs if i is not None))))


def _matrix(node: onnx.NodeProto, inputs: Arrays) -> int:
    a, b = _present(inputs, 0), _present(inputs, 1)
    if node.op_type == "Gemm":
        a = a.T if _attribute(node, "transA", 0) else a
        b = b.T if _attribute(node, "transB", 0) else b
    left = a.shape if a.ndim > 1 else (1, *a.shape)
    right = b.shape if b.ndim > 1 else (*b.shape, 1)
    batches = np.broadcast_shapes(left[:-2], right[:-2])
    return int(a.itemsize * math.prod((*batches, left[-2], right[-1])))


def _tile(node: onnx.NodeProto, inputs: Arrays) -> int:
    del node
    x, repeats = _present(inputs, 0), _extents(inputs, 1)
    if len(repeats) != x.ndim:
        raise ValueError(f"{len(repeats)} repeats of a tensor with {x.ndim} axes")
    return x.nbytes * math.prod(repeats)


def _range(node: onnx.NodeProto, inputs: Arrays) -> int:
    del node
    start, limit, delta = (float(_present(inputs, k).reshape(())) for k in range(3))
    if delta == 0 or not math.isfinite(start + limit + delta):
        raise ValueError(f"range from {start} to {limit} by {delta}")
    return 8 * max(0, math.ceil((limit - start) / delta))


def _pad(node: onnx.NodeProto, inputs: Arrays) -> int:
    x = _present(inputs, 0)
    given = next((a.ints for a in node.attribute if a.name == "pads"), None)
    pads = [int(p) for p in given] if given is not None else list(_extents(inputs, 1))
    if len(inputs) > 3 and inputs[3] is not None:
        grown = sum(map(abs, pads))
        return int(x.itemsize * math.prod(extent + grown for extent in x.shape))
    pairs = zip(x.shape, pads[: x.ndim], pads[x.ndim :], strict=True)
    return int(x.itemsize * math.prod(max(0, extent + a + b) for extent, a, b in pairs))


def _one_hot(node: onnx.NodeProto, inputs: Arrays) -> int:
    del node
    depth = int(np.asarray(_present(inputs, 1)).reshape(-1)[0])
    return 8 * max(0, depth) * _present(inputs, 0).size


def _non_zero(node: onnx.NodeProto, inputs: Arrays) -> int:
    del node
    x = _present(inputs, 0)
    return 8 * x.size * max(1, x.ndim)


def _present(inputs: Arrays, index: int) -> Array:
    found = inputs[index] if index < len(inputs) else None
    if found is None:
        raise ValueError(f"input {index} is missing")
    return found


def _extents(inputs: Arrays, index: int) -> tuple[int, ...]:
    return tuple(int(item) for item in np.asarray(_present(inputs, index)).reshape(-1))


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def _divide(a: Array, b: Array) -> Array:
    """Integers are divided towards zero, as in ONNX."""
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    if not np.all(b):
        raise ValueError("division of integers by zero")
    quotient = np.abs(a) // np.abs(b)
    return np.asarray(quotient * np.sign(a) * np.sign(b)).astype(a.dtype)


_DIRECT: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "And": np.logical_and,
    "Or": np.logical_or,
    "MatMul": np.matmul,
}

_SIZES: dict[str, Callable[[onnx.NodeProto, Arrays], int]] = {
    # Arithmetic and comparison.
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Sum", "Mean", "Where"),
        _broadcast,
    ),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), _broadcast),
    **dict.fromkeys(("And", "Or", "Xor", "BitShift"), _broadcast),
    # Functions of single elements.
    **dict.fromkeys(("Not", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sqrt"), _same),
    **dict.fromkeys(("Exp", "Log", "Erf", "Sin", "Cos", "Tan", "Reciprocal", "IsNaN"), _same),
    **dict.fromkeys(("Sigmoid", "Tanh", "Relu"), _same),
    # Mixing along axes.
    **dict.fromkeys(("CumSum", "ArgMax", "ArgMin", "Trilu"), _same),
    **dict.fromkeys(("ReduceSum", "ReduceProd", "ReduceMin", "ReduceMax", "ReduceMean"), _same),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare"), _same),
    "MatMul": _matrix,
    "Gemm": _matrix,
    # Layout that no import function covers (those evaluate known inputs themselves).
    **dict.fromkeys(("GatherElements", "ScatterND", "ScatterElements", "EyeLike"), _same),
    "Tile": _tile,
    "Range": _range,
    "Pad": _pad,
    "OneHot": _one_hot,
    "NonZero": _non_zero,
}
"""Operators that are folded, with the size of their result."""

FOLDABLE = frozenset(_SIZES)
"""Names of the operators that are computed where all of their inputs are known."""
