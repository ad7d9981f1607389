"""Which passes run over a sequence network and over its steps, and how many operations may stay."""

from __future__ import annotations

from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.lowering.limit import MAX_NODES, expect_few, least_operations
from edgelstm_compiler.passes.context import PassContext, run_passes
from edgelstm_compiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from edgelstm_compiler.passes.fuse_dense import fuse_dense
from edgelstm_compiler.passes.recognize_cells import recognize_cells
from edgelstm_compiler.passes.roll_copies import roll_copies
from edgelstm_compiler.passes.share_hidden_state import share_hidden_state
from edgelstm_compiler.passes.simplify_layout import simplify_layout

GRAPH_PASSES = (eliminate_dead_nodes, roll_copies, recognize_cells, fuse_dense)
"""The order of the passes over the sequence graph; its axes must still tell time from batch."""

STEP_PASSES = (share_hidden_state, simplify_layout, eliminate_dead_nodes)
"""The order of the passes over the step graph."""


def simplify_sequence(graph: Graph, ctx: PassContext) -> Graph:
    """A sequence network after its passes."""
    return run_passes(graph, GRAPH_PASSES, ctx)[0]


def simplify_steps(graph: StepGraph, ctx: PassContext) -> StepGraph:
    """A step graph after its passes."""
    return run_passes(graph, STEP_PASSES, ctx)[0]


def admit_steps(graph: Graph) -> None:
    """Refuse more operations a step than are compiled; copies that are rolled back count once.

    Raises:
        ModelError: there are too many.
    """
    if least_operations(graph) > MAX_NODES:
        expect_few(least_operations(simplify_sequence(graph, PassContext())), "step")
