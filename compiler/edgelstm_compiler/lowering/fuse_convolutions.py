"""Windows times weights -> one operator: convolutions, compiled.

Sequence networks keep them apart, because streaming and quantization know windows and layers.
"""

from __future__ import annotations

import math

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Concat,
    Convolve,
    Dense,
    Pad,
    Reshape,
    Slice,
    Transpose,
    Windows,
)
from edgelstm_compiler.ir.rewrite import Replacement, Rule, Scope, rewrite
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value

LEAST_POSITIONS = 4
"""With fewer, weights are read in the order of single steps, and windows are short."""


def fuse_convolutions(graph: StepGraph, unit_block: int) -> StepGraph:
    """What ONNX's convolutions are imported as, with weights packed in blocks of so many units."""
    return rewrite(graph, _rule(unit_block))


def _rule(unit_block: int) -> Rule:
    def fuse_product(node: Node, scope: Scope) -> Replacement | None:
        match node.op:
            case Dense():
                layers = [node]
                source = node.inputs[0]
            case Concat(axis) if axis == node.outputs[0].type.rank - 1:
                found = [_layer(part, scope) for part in node.inputs]
                layers = [layer for layer in found if layer is not None]
                source = _whole(layers, scope) if len(layers) == len(found) else None
            case _:
                return None
        if source is None or source.type.dtype is not DType.F32:
            return None
        stored = [_weights(layer, scope) for layer in layers]
        if None in stored or len({_shape(each) for each in stored}) > 1:
            return None
        chain = _windows(source, len(layers), scope)
        if chain is None:
            return None
        packed = pack([each for each in stored if each is not None], unit_block)
        return _convolution(node, layers, chain, packed, scope)

    return fuse_product


def pack(layers: list[tuple[Array, Array]], unit_block: int) -> Array:
    """Weights (K, units) and biases of every group as `Convolve` reads them."""
    packed = []
    for weights, bias in layers:
        rows = np.concatenate([bias[None], weights])
        blocks = -(-rows.shape[1] // unit_block)
        whole = np.zeros((rows.shape[0], blocks * unit_block), np.float32)
        whole[:, : rows.shape[1]] = rows
        packed.append(whole.reshape(rows.shape[0], blocks, unit_block).swapaxes(0, 1))
    return np.stack(packed)


def _layer(value: Value | None, scope: Scope) -> Node | None:
    """The product of one group."""
    node = scope.producer(value)
    if value is None or node is None or not isinstance(node.op, Dense):
        return None
    return node if scope.is_private(value) and node.op.activation is None else None


def _whole(layers: list[Node], scope: Scope) -> Value | None:
    """What the groups are slices of, where each takes the next elements of its last axis."""
    whole: Value | None = None
    first = 0
    for layer in layers:
        part = layer.inputs[0]
        cut = scope.producer(part)
        if part is None or cut is None or not isinstance(cut.op, Slice):
            return None
        (source,) = cut.inputs
        assert source is not None
        op = cut.op
        is_next = (op.axis, op.step, op.start) == (source.type.rank - 1, 1, first)
        if not is_next or whole not in (None, source) or not scope.is_private(part):
            return None
        whole = source
        first += op.count
    return whole if whole is not None and whole.type.shape[-1] == first else None


def _weights(layer: Node, scope: Scope) -> tuple[Array, Array] | None:
    """Weights and bias of a Dense, where they are constants in float32."""
    w, bias = layer.inputs[1], (*layer.inputs, None)[2]
    data, added = scope.constant(w), scope.constant(bias)
    if data is None or data.dtype != np.float32 or (bias is not None and added is None):
        return None
    return data, np.zeros(data.shape[1], np.float32) if added is None else added


def _shape(stored: tuple[Array, Array] | None) -> tuple[int, ...]:
    return () if stored is None else stored[0].shape


def _windows(source: Value, readers: int, scope: Scope) -> Node | None:
    """The node that makes the windows, if nothing else reads them or what lies between.

    Windows of one element are a transposition: the channels behind the other axes.
    """
    value: Value | None = source
    uses = readers
    while True:
        node = scope.producer(value)
        if value is None or node is None or scope.uses(value) != uses:
            return None
        uses = 1
        match node.op:
            case Reshape():
                value = node.inputs[0]
            case Windows() as op:
                is_float = node.outputs[0].type.dtype is DType.F32
                fills = max((*op.begin, *op.end)) and op.fill != 0
                is_plain = is_float and max(op.spread) == 1 and not fills
                is_flat = source.type.shape[:-1] == node.outputs[0].type.shape[: len(op.kernel) + 1]
                return node if is_plain and is_flat else None
            case Transpose(perm):
                rank = len(perm) - 2
                is_last = rank > 0 and perm == (0, *range(2, rank + 2), 1)
                return node if is_last and source.type == node.outputs[0].type else None
            case _:
                return None


def _convolution(
    node: Node, layers: list[Node], chain: Node, packed: Array, scope: Scope
) -> Replacement | None:
    """The operator in the place of the chain; nodes that pad in front of it."""
    (x,) = chain.inputs
    assert x is not None
    rank = x.type.rank - 2
    ones = (1,) * rank
    nodes: list[Node] = []
    kernel, stride, dilation = ones, ones, ones
    if isinstance(chain.op, Windows):
        windows = chain.op
        kernel, stride, dilation = windows.kernel, windows.stride, windows.dilation
        if len(kernel) != rank:
            return None
        x = padded(node, x, (0, 0, *windows.begin), (0, 0, *windows.end), 0.0, nodes, scope)
    (only, *_) = layers
    assert isinstance(only.op, Dense)
    op = Convolve(
        kernel, stride, dilation, node.outputs[0].type.shape[-1], False, only.op.activation
    )
    if math.prod(op.positions(x.type.shape[2:])) < LEAST_POSITIONS:
        return None
    weights = Constant.of(scope.fresh_name(f"{node.name}.packed"), packed)
    inputs = (x, weights.value)
    if op.infer([value.type for value in inputs]) != (node.outputs[0].type,):
        return None
    nodes.append(Node(op, inputs, node.outputs, node.name, node.origin))
    return Replacement(tuple(nodes), constants=(weights,))


def padded(
    node: Node,
    x: Value,
    begin: tuple[int, ...],
    end: tuple[int, ...],
    fill: float,
    nodes: list[Node],
    scope: Scope,
) -> Value:
    """X with elements around it, by a node that is appended where there are any."""
    if not max((*begin, *end)):
        return x
    op = Pad(begin, end, fill)
    wider = made(op, x, f"{node.name}.padded", scope)
    name = scope.fresh_node_name(f"{node.name}.pad")
    nodes.append(Node(op, (x,), (wider,), name, node.origin))
    return wider


def made(op: Pad | Transpose, x: Value, name: str, scope: Scope) -> Value:
    """A new value for what an operator of one input gives."""
    (kind,) = op.infer([x.type])
    return Value(scope.fresh_name(name), TensorType(kind.dtype, kind.shape))
