"""In a step, the sequence output of a cell is its new hidden state: show that instead of a copy."""

from __future__ import annotations

from edgelstm_compiler.ir.graph import AnyGraph
from edgelstm_compiler.ir.ops import Direction, Recurrent, Reshape
from edgelstm_compiler.ir.ops.recurrent import SEQUENCE_LENS
from edgelstm_compiler.ir.rewrite import Replacement, Scope, rewrite
from edgelstm_compiler.ir.types import Node, Value
from edgelstm_compiler.passes.context import PassContext


def share_hidden_state(graph: AnyGraph, ctx: PassContext) -> AnyGraph:
    """Y of a cell over one frame becomes a reshape of Y_h."""
    del ctx
    return rewrite(graph, show_hidden_state)


def show_hidden_state(node: Node, scope: Scope) -> Replacement | None:
    """One cell."""
    if not isinstance(node.op, Recurrent) or node.op.direction is Direction.BIDIRECTIONAL:
        return None
    lengths = node.inputs[SEQUENCE_LENS] if len(node.inputs) > SEQUENCE_LENS else None
    y, y_h = node.outputs[:2]
    if y.type.shape[0] != 1 or lengths is not None or scope.uses(y) == 0:
        return None
    unused = Value(scope.fresh_name(f"{y.name}.unused"), y.type)
    cell = Node(node.op, node.inputs, (unused, *node.outputs[1:]), node.name, node.origin)
    name = scope.fresh_node_name(f"{node.name}.frame")
    shown = Node(Reshape(y.type.shape), (y_h,), (y,), name, node.origin)
    return Replacement((cell, shown))
