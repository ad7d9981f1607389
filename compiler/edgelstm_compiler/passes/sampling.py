"""Random input on which graphs are compared, and when two arrays are the same."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.types import Array, Value

TOLERANCE = 1e-9

SCALES = (1.0, 5.0, 0.2)
"""Of the random inputs."""


def values_of(graph: Graph, seed: int) -> dict[Value, Array]:
    """Every value of the graph on random input, in float64."""
    found = evaluate(graph, random_inputs(graph, seed), dtype=DType.F64, keep=True).values
    every = (
        *graph.inputs,
        *(constant.value for constant in graph.constants),
        *(value for node in graph.nodes for value in node.outputs),
    )
    return {value: found[value.name] for value in every}


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """An array for every input; integers are zero."""
    rng = np.random.default_rng(seed)
    scale = SCALES[seed % len(SCALES)]
    return {
        value.name: scale * rng.standard_normal(value.type.shape)
        if value.type.dtype.is_float
        else np.zeros(value.type.shape, value.type.dtype.numpy)
        for value in graph.inputs
    }


def is_the_same(before: Graph, after: Graph) -> bool:
    """Whether both compute the same on other random input."""
    for seed in range(len(SCALES), 2 * len(SCALES)):
        inputs = random_inputs(before, seed)
        wanted = evaluate(before, inputs, dtype=DType.F64).outputs
        found = evaluate(after, inputs, dtype=DType.F64).outputs
        if not all(is_near(found[name], data) for name, data in wanted.items()):
            return False
    return True


def is_near(found: Array, wanted: Array) -> bool:
    """Whether two arrays are the same up to float64's rounding; what is not finite never is."""
    if found.shape != wanted.shape or not np.isfinite(np.asarray(wanted, np.float64)).all():
        return False
    bound = TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    return bool(np.abs(found.astype(np.float64) - wanted).max(initial=0.0) <= bound)
