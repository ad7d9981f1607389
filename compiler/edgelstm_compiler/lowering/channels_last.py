"""Channels stay behind the positions from one convolution to the next.

A convolution gives them there, and may read them there; ONNX has them in front. So the
transposition behind each one is moved down past what computes the same either way, until it meets
a convolution, which reads what was transposed, or another transposition. What is left of them
stands where a network needs its channels in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import (
    Binary,
    Concat,
    Convolve,
    Pad,
    Transpose,
    Unary,
    WindowReduce,
)
from edgelstm_compiler.ir.rewrite import Replacement, Scope, rewrite
from edgelstm_compiler.ir.types import Constant, Node, Op, TensorType, Value
from edgelstm_compiler.lowering.fuse_convolutions import padded

LEAST_CHANNELS = 8
"""With fewer, vectors of positions are fuller than vectors of channels."""


def keep_channels_last(graph: StepGraph) -> StepGraph:
    """Move transpositions down, and let activations join the convolutions in front of them."""
    if not any(isinstance(node.op, Convolve) for node in graph.nodes):
        return graph
    return rewrite(graph, move_down)


def move_down(node: Node, scope: Scope) -> Replacement | None:
    """One step of it."""
    match node.op:
        case Transpose():
            return _cancelled(node, scope)
        case Unary():
            return _activated(node, scope) or _element_wise(node, scope)
        case Binary():
            return _element_wise(node, scope)
        case Pad():
            return _widened(node, node.op, scope) or _pad(node, node.op, scope)
        case Concat():
            return _concat(node, node.op, scope)
        case Convolve(channels_last=False):
            return _convolution(node, node.op, scope)
        case WindowReduce(channels_last=False):
            return _reduction(node, node.op, scope)
    return None


def _to_front(rank: int) -> tuple[int, ...]:
    """The transposition that puts the last axis behind the first."""
    return (0, rank - 1, *range(1, rank - 1))


def _to_back(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _before(value: Value | None, scope: Scope) -> Value | None:
    """What was transposed, where a value has channels in front by a transposition."""
    node = scope.producer(value)
    if value is None or node is None or not isinstance(node.op, Transpose):
        return None
    rank = value.type.rank
    return node.inputs[0] if rank > 2 and node.op.perm == _to_front(rank) else None


def _behind(
    node: Node, op: Op, inputs: Sequence[Value | None], scope: Scope, nodes: Sequence[Node] = ()
) -> Replacement:
    """The operator on channels that are last, and the transposition behind it."""
    (shown,) = node.outputs
    (kind,) = op.infer([None if value is None else value.type for value in inputs])
    value = Value(scope.fresh_name(f"{node.name}.last"), TensorType(kind.dtype, kind.shape))
    moved = Transpose(_to_front(kind.rank))
    assert moved.infer([kind]) == (shown.type,)
    name = scope.fresh_node_name(f"{node.name}.front")
    return Replacement(
        (
            *nodes,
            Node(op, tuple(inputs), (value,), node.name, node.origin),
            Node(moved, (value,), (shown,), name, node.origin),
        )
    )


def _cancelled(node: Node, scope: Scope) -> Replacement | None:
    assert isinstance(node.op, Transpose)
    before = _before(node.inputs[0], scope)
    if before is None or node.op.perm != _to_back(before.type.rank):
        return None
    return Replacement(values={node.outputs[0]: before})


def _activated(node: Node, scope: Scope) -> Replacement | None:
    assert isinstance(node.op, Unary)
    (x,) = node.inputs
    before = scope.producer(x)
    if x is None or before is None or not scope.is_private(x):
        return None
    is_last = isinstance(before.op, WindowReduce) and before.op.channels_last
    if not (is_last or isinstance(before.op, Convolve)):
        return None
    assert isinstance(before.op, (Convolve, WindowReduce))
    if before.op.activation is not None or (isinstance(before.op, Convolve) and before.op.begin):
        return None
    op = replace(before.op, activation=node.op.activation)
    origin = f"{before.origin} + {node.origin}"
    return Replacement((Node(op, before.inputs, node.outputs, before.name, origin),))


def _element_wise(node: Node, scope: Scope) -> Replacement | None:
    """Of transposed tensors, and of constants that are transposed here."""
    shape = node.outputs[0].type.shape
    inputs: list[Value] = []
    constants: list[Constant] = []
    is_moved = False
    for value in node.inputs:
        before, data = _before(value, scope), scope.constant(value)
        if before is not None and value is not None and value.type.shape == shape:
            inputs.append(before)
            is_moved = True
        elif data is not None and data.ndim <= len(shape):
            wide = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
            turned = wide if data.size == 1 else np.transpose(wide, _to_back(len(shape)))
            name = scope.fresh_name(f"{node.name}.turned")
            constants.append(Constant.of(name, turned))
            inputs.append(constants[-1].value)
        else:
            return None
    if not is_moved:
        return None
    return replace(_behind(node, node.op, inputs, scope), constants=tuple(constants))


def _pad(node: Node, op: Pad, scope: Scope) -> Replacement | None:
    before = _before(node.inputs[0], scope)
    if before is None:
        return None
    order = _to_back(before.type.rank)
    begin, end = (tuple(each[axis] for axis in order) for each in (op.begin, op.end))
    return _behind(node, Pad(begin, end, op.fill), [before], scope)


def _widened(node: Node, op: Pad, scope: Scope) -> Replacement | None:
    """A convolution that writes between the zeros of what reads it."""
    (x,) = node.inputs
    before = scope.producer(x)
    if x is None or before is None or not isinstance(before.op, Convolve) or op.fill != 0:
        return None
    if before.op.begin or not scope.is_private(x):
        return None
    if (op.begin[0], op.end[0], op.begin[-1], op.end[-1]) != (0, 0, 0, 0):
        return None
    wide = replace(before.op, begin=op.begin[1:-1], end=op.end[1:-1])
    return Replacement((Node(wide, before.inputs, node.outputs, before.name, before.origin),))


def _concat(node: Node, op: Concat, scope: Scope) -> Replacement | None:
    parts = [_before(value, scope) for value in node.inputs]
    if None in parts:
        return None
    rank = node.outputs[0].type.rank
    return _behind(node, Concat(_to_front(rank)[op.axis % rank]), parts, scope)


def _convolution(node: Node, op: Convolve, scope: Scope) -> Replacement | None:
    before = _before(node.inputs[0], scope)
    packed = scope.constant(node.inputs[1])
    if before is None or packed is None:
        return None
    groups, blocks, rows, units = packed.shape
    weights = packed[:, :, 1:].reshape(groups, blocks, -1, *op.kernel, units)
    weights = np.moveaxis(weights, 2, -2).reshape(groups, blocks, rows - 1, units)
    turned = np.concatenate([packed[:, :, :1], weights], axis=2)
    constant = Constant.of(scope.fresh_name(f"{node.name}.packed"), turned)
    inputs = (before, constant.value)
    changed = Node(replace(op, channels_last=True), inputs, node.outputs, node.name, node.origin)
    return Replacement((changed,), constants=(constant,))


def _reduction(node: Node, op: WindowReduce, scope: Scope) -> Replacement | None:
    """Pooling, and convolutions with one kernel a channel; padded in front."""
    x, *stored = node.inputs
    before = _before(x, scope)
    if x is None or before is None:
        return None
    channels = x.type.shape[1]
    if channels < LEAST_CHANNELS or node.outputs[0].type.shape[1] != channels:
        return None
    inputs: list[Value | None] = []
    constants = []
    for value in stored:
        data = scope.constant(value)
        if data is None:
            return None
        turned = Constant.of(scope.fresh_name(f"{node.name}.turned"), np.moveaxis(data, 0, -1))
        constants.append(turned)
        inputs.append(turned.value)
    nodes: list[Node] = []
    wider = padded(node, before, (0, *op.begin, 0), (0, *op.end, 0), op.fill, nodes, scope)
    zeros = (0,) * len(op.kernel)
    changed = replace(op, begin=zeros, end=zeros, channels_last=True)
    found = _behind(node, changed, [wider, *inputs], scope, nodes)
    return replace(found, constants=tuple(constants))
