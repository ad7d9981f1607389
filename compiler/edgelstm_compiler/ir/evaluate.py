"""Evaluation of a graph in NumPy: what every stage must compute, in its own types or in float64.

The meaning of the operators stands in `edgelstm.engines.numpy_ops`; this room walks the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgelstm.dtypes import DType, is_floating
from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import InternalError, InvalidGraphError
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.graph import Graph, StepGraph, input_values
from edgelstm_compiler.ir.ops import Cast, Scan
from edgelstm_compiler.ir.types import Array, Node, Op, Value


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation gave; arrays may share memory with each other and with constants.

    Args:
        outputs: by name of the graph's output.
        states: by name, after the chunk; empty for a Graph. Give them to the next evaluation.
        values: every value of the graph by name, if they were asked for.
    """

    outputs: dict[str, Array]
    states: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)


def evaluate(
    graph: Graph | StepGraph,
    inputs: Mapping[str, Array],
    *,
    dtype: DType | None = None,
    states: Mapping[str, Array] | None = None,
    keep: bool = False,
) -> Evaluation:
    """Compute the outputs of a graph and its states after the chunk.

    Args:
        graph: a graph of any stage.
        inputs: an array for each input, by name.
        dtype: compute all floating point values in this type (F64: the oracle), whatever type the
            graph gives them; casts between floating point types then do nothing.
        states: states to start from, by name; their initial values where left out.
        keep: hand back all values, also the intermediate ones.

    Raises:
        InternalError: inputs or states that do not fit the graph.
        InvalidGraphError: the graph contradicts itself; the message names the node.
    """
    if dtype is not None and not dtype.is_float:
        raise InternalError(f"evaluate: {dtype.value} is not a floating point type")
    known: dict[Value, Array] = {
        constant.value: _converted(constant.data, dtype) for constant in graph.constants
    }
    known.update(
        _bind("input", {value.name: value for value in input_values(graph)}, inputs, dtype)
    )
    known.update(_initial_states(graph, states, dtype))
    for node in graph.nodes:
        known.update(zip(node.outputs, _run_node(node, known, dtype), strict=True))
    return Evaluation(
        outputs={
            out.name: _lookup(known, out.value, f"output {out.name!r}") for out in graph.outputs
        },
        states={
            state.name: _lookup(known, state.write, f"state {state.name!r}")
            for state in (graph.states if isinstance(graph, StepGraph) else ())
        },
        values={value.name: data for value, data in known.items()} if keep else {},
    )


def _initial_states(
    graph: Graph | StepGraph, given: Mapping[str, Array] | None, dtype: DType | None
) -> dict[Value, Array]:
    states = graph.states if isinstance(graph, StepGraph) else ()
    start = {state.name: state.init for state in states}
    unknown = sorted(set(given or ()) - set(start))
    if unknown:
        raise InternalError(f"evaluate: no state {', '.join(map(repr, unknown))} in {graph.name!r}")
    start.update(given or {})
    return _bind("state", {state.name: state.read for state in states}, start, dtype)


def _bind(
    role: str, values: Mapping[str, Value], given: Mapping[str, Array], dtype: DType | None
) -> dict[Value, Array]:
    """The given arrays by value, after comparing names, shapes and types."""
    missing, unknown = sorted(set(values) - set(given)), sorted(set(given) - set(values))
    if missing or unknown:
        raise InternalError(f"evaluate: {role}s missing: {missing}; not in the graph: {unknown}")
    bound: dict[Value, Array] = {}
    for name, value in values.items():
        data = np.asarray(given[name])
        # States of a float64 evaluation come back as float64.
        is_same = data.dtype == value.type.dtype.numpy
        is_float = value.type.dtype.is_float and is_floating(data.dtype)
        if data.shape != value.type.shape or not (is_same or (dtype is not None and is_float)):
            raise InternalError(
                f"evaluate: {role} {name!r} is {data.dtype}{list(data.shape)}, "
                f"expected {value.type}"
            )
        bound[value] = _converted(data, dtype)
    return bound


def _run_node(node: Node, known: Mapping[Value, Array], dtype: DType | None) -> list[Array]:
    where = f"node {node.name!r}" + (f" (from {node.origin})" if node.origin else "")
    inputs = [None if value is None else _lookup(known, value, where) for value in node.inputs]
    op = _in_precision(node.op, dtype)
    try:
        results = apply(*executed(op, inputs), inputs)
    except (ValueError, TypeError, IndexError, KeyError, AssertionError) as exc:
        raise InvalidGraphError(f"evaluate: {where}: {node.op} failed: {exc}") from exc
    if len(results) != len(node.outputs):
        raise InvalidGraphError(
            f"evaluate: {where}: {len(results)} results for {len(node.outputs)} outputs"
        )
    for value, data in zip(node.outputs, results, strict=True):
        expected = value.type.dtype
        if dtype is not None and expected.is_float:
            expected = dtype
        if data.shape != value.type.shape or data.dtype != expected.numpy:
            raise InvalidGraphError(
                f"evaluate: {where}: {value.name!r} is {data.dtype}{list(data.shape)}, "
                f"declared {value.type}"
            )
    return results


def _in_precision(op: Op, dtype: DType | None) -> Op:
    if dtype is not None and isinstance(op, Cast) and op.dtype.is_float:
        return replace(op, dtype=dtype)
    if dtype is not None and isinstance(op, Scan):
        return op.with_ops(lambda inner: _in_precision(inner, dtype))
    return op


def _converted(data: Array, dtype: DType | None) -> Array:
    if dtype is not None and is_floating(data.dtype):
        return data.astype(dtype.numpy, copy=False)
    return data


def _lookup(known: Mapping[Value, Array], value: Value, reader: str) -> Array:
    data = known.get(value)
    if data is None:
        raise InvalidGraphError(f"evaluate: {reader} reads {value.name!r} before it is computed")
    return data
