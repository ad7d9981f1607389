"""Windows that are reduced at once -> one operator: pooling and depthwise convolution, compiled.

Sequence networks keep them apart, because streaming knows windows and reductions; reference
programs do, too.
"""

from __future__ import annotations

import math

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Reduce,
    Reduction,
    Reshape,
    Transpose,
    WindowReduce,
    Windows,
)
from edgelstm_compiler.ir.ops.windows import NEUTRAL
from edgelstm_compiler.ir.rewrite import Replacement, Scope, rewrite
from edgelstm_compiler.ir.types import Array, Constant, Node, Value


def fuse_windows(graph: StepGraph) -> StepGraph:
    """The chains that ONNX's pooling and depthwise convolutions are imported as."""
    return rewrite(graph, fuse_chain)


def fuse_chain(node: Node, scope: Scope) -> Replacement | None:
    """A chain that ends with channels in front of positions again."""
    if not isinstance(node.op, Transpose):
        return None
    (x,) = node.inputs
    assert x is not None
    rank = x.type.rank - 2
    if rank < 1 or node.op.perm != (0, rank + 1, *range(1, rank + 1)):
        return None
    bias, before = _bias(x, scope)
    flat = _behind(before, Reshape, scope)
    total = None if flat is None else _behind(flat.inputs[0], Reduce, scope)
    if total is None or before is None:
        return None
    found = _depthwise(total, rank, scope)
    if found is None and bias is None:
        found = _pooling(total, rank, scope)
    if found is None:
        return None
    windows, weights = found
    assert isinstance(windows.op, Windows)
    assert isinstance(total.op, Reduce)
    op = WindowReduce(
        windows.op.kernel,
        windows.op.stride,
        windows.op.dilation,
        windows.op.begin,
        windows.op.end,
        total.op.reduction,
    )
    constants = []
    inputs: list[Value | None] = [windows.inputs[0]]
    for suffix, data in (("kernels", weights), ("bias", bias)):
        if data is not None:
            constants.append(Constant.of(scope.fresh_name(f"{node.name}.{suffix}"), data))
            inputs.append(constants[-1].value)
    made = Node(op, tuple(inputs), node.outputs, node.name, windows.origin)
    types = [None if value is None else value.type for value in inputs]
    if op.infer(types) != (node.outputs[0].type,):
        return None
    return Replacement((made,), constants=tuple(constants))


def _bias(x: Value, scope: Scope) -> tuple[Array | None, Value | None]:
    """What is added to every position, and what it is added to."""
    node = scope.producer(x)
    if node is None or not isinstance(node.op, Binary):
        return None, x
    if node.op.arithmetic is not Arithmetic.ADD or not scope.is_private(x):
        return None, None
    value, added = node.inputs
    data = scope.constant(added)
    channels = x.type.shape[-1]
    if data is None or value is None or data.shape != (channels,) or value.type != x.type:
        return None, None
    return data, value


def _behind(value: Value | None, kind: type, scope: Scope) -> Node | None:
    """The node of a kind that computes a value for one reader alone."""
    node = scope.producer(value)
    if value is None or node is None or not isinstance(node.op, kind):
        return None
    return node if scope.is_private(value) else None


def _windows(value: Value | None, rank: int, scope: Scope) -> Node | None:
    node = _behind(value, Windows, scope)
    if node is None or node.outputs[0].type.dtype is not DType.F32:
        return None
    assert isinstance(node.op, Windows)
    is_plain = len(node.op.kernel) == rank and max(node.op.spread) == 1
    return node if is_plain else None


def _is_neutral(op: Windows, reduction: Reduction) -> bool:
    """Whether padding changes nothing; where there is none, it does not."""
    return max((*op.begin, *op.end)) == 0 or op.fill == NEUTRAL[reduction]


def _pooling(total: Node, rank: int, scope: Scope) -> tuple[Node, Array | None] | None:
    """Reduce over the kernel's axes, right behind the windows."""
    windows = _windows(total.inputs[0], rank, scope)
    assert isinstance(total.op, Reduce)
    if windows is None or total.op.axes != tuple(range(rank + 2, 2 * rank + 2)):
        return None
    assert isinstance(windows.op, Windows)
    return (windows, None) if _is_neutral(windows.op, total.op.reduction) else None


def _depthwise(total: Node, rank: int, scope: Scope) -> tuple[Node, Array | None] | None:
    """The sum of products of each channel's window with kernels of its own."""
    assert isinstance(total.op, Reduce)
    if total.op.reduction is not Reduction.SUM or total.op.axes != (rank + 3,):
        return None
    product = _behind(total.inputs[0], Binary, scope)
    if product is None or not isinstance(product.op, Binary):
        return None
    if product.op.arithmetic is not Arithmetic.MUL:
        return None
    rows, factors = product.inputs
    spread = _behind(rows, Reshape, scope)
    windows = None if spread is None else _windows(spread.inputs[0], rank, scope)
    data = scope.constant(factors)
    if windows is None or data is None or rows is None:
        return None
    assert isinstance(windows.op, Windows)
    *_, channels, one, size = rows.type.shape
    covered = windows.outputs[0].type.shape
    fits = (
        one == 1
        and size == math.prod(windows.op.kernel)
        and rows.type.rank == rank + 4
        and channels == covered[rank + 1]
        and data.ndim == 3
        and (data.shape[0], data.shape[2]) == (channels, size)
        and _is_neutral(windows.op, Reduction.SUM)
    )
    return (windows, data.reshape(-1, *windows.op.kernel)) if fits else None
