"""Products with constant weights, their bias and the activation behind them become one Dense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import AnyGraph
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, MatMul, Unary
from edgelstm_compiler.ir.rewrite import Replacement, Scope, rewrite
from edgelstm_compiler.ir.types import Constant, Node, Value
from edgelstm_compiler.passes.context import PassContext


def fuse_dense(graph: AnyGraph, ctx: PassContext) -> AnyGraph:
    """MatMul with constant weights -> Dense; Dense + bias -> Dense; function of Dense -> Dense."""
    del ctx
    return rewrite(graph, fuse_into_dense)


def fuse_into_dense(node: Node, scope: Scope) -> Replacement | None:
    """One step of the fusion."""
    match node.op:
        case MatMul():
            return _product(node, scope)
        case Binary(Arithmetic.ADD):
            return _bias(node, scope)
        case Unary():
            return _activation(node, node.op, scope)
    return None


def _product(node: Node, scope: Scope) -> Replacement | None:
    x, w = node.inputs
    assert x is not None
    assert w is not None
    if scope.constant(w) is None or w.type.rank != 2 or x.type.rank < 1:
        return None
    if w.type.dtype is not DType.F32:
        return None  # Dense is a kernel on packed float weights; other products stay as they are
    dense = Node(Dense(None), (x, w, None), node.outputs, node.name, node.origin)
    return Replacement((dense,))


def _bias(node: Node, scope: Scope) -> Replacement | None:
    for a, b in (node.inputs, node.inputs[::-1]):
        dense = scope.producer(a)
        data = scope.constant(b)
        if dense is None or data is None or a is None or not isinstance(dense.op, Dense):
            continue
        units = a.type.shape[-1]
        if dense.op.activation is not None or not scope.is_private(a):
            continue
        if a.type != node.outputs[0].type or data.size not in (1, units):
            continue
        if data.ndim and data.shape[-1] != units and data.size != 1:
            continue
        added = np.broadcast_to(data.reshape(-1), (units,))
        old = scope.constant(dense.inputs[2])
        if dense.inputs[2] is not None and old is None:
            continue
        bias = Constant.of(
            scope.fresh_name(f"{node.name}.bias"), added if old is None else old + added
        )
        inputs: tuple[Value | None, ...] = (*dense.inputs[:2], bias.value)
        fused = Node(dense.op, inputs, node.outputs, node.name, _origins(dense, node))
        return Replacement((fused,), constants=(bias,))
    return None


def _activation(node: Node, op: Unary, scope: Scope) -> Replacement | None:
    (x,) = node.inputs
    dense = scope.producer(x)
    if dense is None or x is None or not isinstance(dense.op, Dense):
        return None
    if dense.op.activation is not None or not scope.is_private(x):
        return None
    fused = replace(dense.op, activation=op.activation)
    return Replacement((Node(fused, dense.inputs, node.outputs, node.name, _origins(dense, node)),))


def _origins(dense: Node, node: Node) -> str:
    return f"{dense.origin} + {node.origin}"
