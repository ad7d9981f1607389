"""How many operations a step or call may have, looked at as early as a graph is known."""

from __future__ import annotations

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.lowering.bounds.propagate import MOVEMENTS

MAX_NODES = 4000
"""Operations of one step or call."""


def expect_few(count: int, unit: str) -> None:
    """Refuse what compilers take too long for.

    Args:
        count: number of operations.
        unit: what computes them all, a "step" or a "call".

    Raises:
        ModelError: more than `MAX_NODES`.
    """
    if count > MAX_NODES:
        raise ModelError(
            f"the model has {count} operations a {unit}, at most {MAX_NODES} are compiled "
            "(compilers take more than proportionally longer for more): where a recurrence was "
            "unrolled when it was exported, export the layer itself (LSTM, GRU, RNN), else split "
            "the model"
        )


def least_operations(graph: Graph | StepGraph) -> int:
    """Operations that every step of a graph has: moving elements may come to nothing."""
    return sum(not isinstance(node.op, MOVEMENTS) for node in graph.nodes)
