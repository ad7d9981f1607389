"""Runs one pass on a graph written as text, and compares before with after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, StepGraph, input_values
from edgelstm_compiler.ir.text import parse_graph, print_graph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.passes.context import PassContext

Pass = Callable[[Any, PassContext], Any]
NO_FUNCTION = '{"activation": null}'


def function(name: str, alpha: float = 0.0, beta: float = 0.0) -> str:
    """The fields of a Unary with this function."""
    return f'{{"activation": {{"alpha": {alpha}, "beta": {beta}, "fn": "{name}"}}}}'


def read(text: str) -> Any:
    """A legal graph from its text."""
    graph = parse_graph(text)
    verify(graph)
    return graph


def apply_pass(transform: Pass, graph: Any) -> Any:
    """The legal result of a pass; a second run finds nothing to do."""
    after = transform(graph, PassContext())
    verify(after)
    assert transform(after, PassContext()) is after
    return after


def before_and_after(transform: Pass, text: str) -> str:
    """Both texts, for a golden file."""
    before = read(text)
    after = apply_pass(transform, before)
    assert_same_function(before, after)
    return f"before:\n{print_graph(before)}\nafter {transform.__name__}:\n{print_graph(after)}"


def kinds(graph: Graph | StepGraph) -> list[str]:
    """The operators in order."""
    return [node.op.kind for node in graph.nodes]


def assert_same_function(before: Graph | StepGraph, after: Graph | StepGraph) -> None:
    """The same outputs and states on seeded input, in float64."""
    rng = np.random.default_rng(3)
    inputs = {
        value.name: rng.standard_normal(value.type.shape).astype(value.type.dtype.numpy)
        for value in input_values(before)
    }
    states = None
    for _ in range(2 if isinstance(before, StepGraph) else 1):
        first = evaluate(before, inputs, dtype=DType.F64, states=states)
        second = evaluate(after, inputs, dtype=DType.F64, states=states)
        states = first.states
        for old, new in ((first.outputs, second.outputs), (first.states, second.states)):
            assert set(old) == set(new)
            for name, data in old.items():
                np.testing.assert_allclose(new[name], data, 1e-6, 1e-6, err_msg=name)
