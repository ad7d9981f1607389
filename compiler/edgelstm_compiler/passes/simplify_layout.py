"""Turn data movement that moves nothing into reshapes, and drop what cancels out."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm_compiler.ir.graph import AnyGraph
from edgelstm_compiler.ir.ops import Broadcast, Concat, Gather, Reshape, Slice, Transpose
from edgelstm_compiler.ir.rewrite import Replacement, Scope, rewrite
from edgelstm_compiler.ir.types import Constant, Node
from edgelstm_compiler.passes.context import PassContext


def simplify_layout(graph: AnyGraph, ctx: PassContext) -> AnyGraph:
    """Transposes of axes of extent 1 become reshapes, chains one node, identities nothing."""
    del ctx
    return rewrite(graph, simplify_movement)


def simplify_movement(node: Node, scope: Scope) -> Replacement | None:
    """One step of the simplification."""
    match node.op:
        case Transpose():
            return _transpose(node, node.op, scope)
        case Reshape():
            return _reshape(node, scope)
        case Broadcast():
            return _reshape_instead(node, scope) if _same_size(node) else None
        case Slice():
            whole = node.inputs[0]
            assert whole is not None
            if whole.type == node.outputs[0].type and (node.op.step > 0 or node.op.count == 1):
                return Replacement(values={node.outputs[0]: whole})
        case Gather():
            return _gather(node, node.op, scope)
        case Concat() if len(node.inputs) == 1:
            assert node.inputs[0] is not None
            return Replacement(values={node.outputs[0]: node.inputs[0]})
    return None


def _transpose(node: Node, op: Transpose, scope: Scope) -> Replacement | None:
    (x,), (y,) = node.inputs, node.outputs
    assert x is not None
    moved = [axis for axis in op.perm if x.type.shape[axis] != 1]
    if moved == sorted(moved):
        return _reshape_instead(node, scope)
    before = scope.producer(x)
    if before is not None and isinstance(before.op, Transpose):
        perm = tuple(before.op.perm[axis] for axis in op.perm)
        new = Node(Transpose(perm), before.inputs, (y,), node.name, node.origin)
        return Replacement((new,))
    data = scope.constant(x)
    if data is not None:
        return _constant(node, np.transpose(data, op.perm), scope)
    return None


def _reshape(node: Node, scope: Scope) -> Replacement | None:
    (x,), (y,) = node.inputs, node.outputs
    assert x is not None
    if x.type == y.type:
        return Replacement(values={y: x})
    before = scope.producer(x)
    if before is not None and isinstance(before.op, Reshape):
        return Replacement((dataclasses.replace(node, inputs=before.inputs),))
    data = scope.constant(x)
    if data is not None:
        return _constant(node, data.reshape(y.type.shape), scope)
    return None


def _gather(node: Node, op: Gather, scope: Scope) -> Replacement | None:
    x, indices = node.inputs
    assert x is not None
    data = scope.constant(indices)
    if data is None:
        return None
    extent = x.type.shape[op.axis]
    if data.size == 1 and -extent <= int(data.reshape(-1)[0]) < extent:
        # One element of an axis: a slice, whose axis then goes or stays.
        start = int(data.reshape(-1)[0]) % extent
        if extent == 1:
            return _reshape_instead(node, scope)
        cut = Slice(op.axis, start, 1, 1)
        name = scope.fresh_node_name(f"{node.name}.slice")
        from_slice = dataclasses.replace(
            node.outputs[0],
            name=scope.fresh_name(f"{node.name}.slice"),
            type=cut.infer([x.type])[0],
        )
        return Replacement(
            (
                Node(cut, (x,), (from_slice,), name, node.origin),
                Node(
                    Reshape(node.outputs[0].type.shape),
                    (from_slice,),
                    node.outputs,
                    node.name,
                    node.origin,
                ),
            )
        )
    return None


def _same_size(node: Node) -> bool:
    (x,) = node.inputs
    return x is not None and x.type.size == node.outputs[0].type.size


def _reshape_instead(node: Node, scope: Scope) -> Replacement:
    del scope
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if x.type == y.type:
        return Replacement(values={y: x})
    return Replacement((Node(Reshape(y.type.shape), (x,), (y,), node.name, node.origin),))


def _constant(
    node: Node, data: np.ndarray[tuple[int, ...], np.dtype[np.generic]], scope: Scope
) -> Replacement:
    constant = Constant.of(scope.fresh_name(f"{node.name}.folded"), data)
    return Replacement(values={node.outputs[0]: constant.value}, constants=(constant,))
