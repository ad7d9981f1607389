"""The whole function as one chunk without states: call mode."""

from __future__ import annotations

from edgelstm_compiler.ir.graph import Graph, StepGraph, StepInput, StepOutput


def whole_call(graph: Graph) -> StepGraph:
    """The sequence graph as it is, computed in one call from fresh states."""
    return StepGraph(
        graph.name,
        "call",
        tuple(StepInput(value) for value in graph.inputs),
        tuple(StepOutput(output.name, output.value) for output in graph.outputs),
        graph.nodes,
        graph.constants,
    )
