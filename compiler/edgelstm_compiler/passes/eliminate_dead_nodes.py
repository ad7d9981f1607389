"""Drop what no output depends on."""

from __future__ import annotations

from edgelstm_compiler.ir.graph import AnyGraph
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.passes.context import PassContext


def eliminate_dead_nodes(graph: AnyGraph, ctx: PassContext) -> AnyGraph:
    """Nodes and constants without a path to an output or state go."""
    del ctx
    return eliminate_unused(graph)
