"""Input for checks where no recording is given: seeded, and within what the model is defined on.

What a model takes shows when it is evaluated: Log and Sqrt give NaN on negative numbers, Gather
refuses an index beyond its table. Each input gets the first domain on which the outputs are finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, StepGraph, input_values
from edgelstm_compiler.ir.ops import (
    Broadcast,
    Cast,
    Concat,
    Gather,
    Recurrent,
    Reshape,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.ops.recurrent import SEQUENCE_LENS
from edgelstm_compiler.ir.types import Array, Node, Value

_MOVES = (Cast, Reshape, Transpose, Broadcast, Slice, Concat)
"""Operators that hand on the numbers of their input."""

_MOST_TRIALS = 48

NOT_DEFINED = "the model is not defined on random input: give --check-input FILE"
"""Why nothing was compared."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Which numbers an input is drawn from.

    Args:
        kind: any, positive (0.1 and more), unit (between 0 and 1), negative, large (about 1000),
            integers (low <= n < high), zero.
        low, high: of integers.
    """

    kind: str = "any"
    low: int = 0
    high: int = 2

    def of(self, values: Array, dtype: DType) -> Array:
        """Values about standard normal, moved into the domain."""
        match self.kind:
            case "positive":
                moved = np.abs(values) + 0.1
            case "negative":
                moved = -np.abs(values) - 0.1
            case "unit":
                moved = 1.0 / (1.0 + np.exp(-values))
            case "large":
                moved = 1000.0 + 100.0 * np.tanh(values)
            case "zero":
                moved = np.zeros_like(values)
            case "integers":
                share = 1.0 / (1.0 + np.exp(-1.6 * values))
                moved = self.low + np.floor(share * (self.high - self.low))
                moved = np.clip(moved, self.low, max(self.high - 1, self.low))
            case _:
                moved = values
        return np.asarray(moved).astype(dtype.numpy)

    def __str__(self) -> str:
        return f"integers {self.low}..{self.high - 1}" if self.kind == "integers" else self.kind

    @classmethod
    def parse(cls, text: str) -> Domain:
        """What `str` wrote; anything else is `any`."""
        kind, _, span = text.partition(" ")
        low, dots, high = span.partition("..")
        if kind == "integers" and dots and low.lstrip("-").isdigit() and high.isdigit():
            return cls("integers", int(low), int(high) + 1)
        known = ("positive", "negative", "unit", "large", "zero")
        return cls(kind if kind in known else "any")


ANY = Domain()
ZERO = Domain("zero")
_FLOATS = (ANY, Domain("positive"), Domain("unit"), Domain("integers"), Domain("negative"))
DOMAINS = (*_FLOATS, Domain("large"), ZERO)
"""Of floating point inputs, the likely ones first."""

_INTEGERS = (Domain("integers", 0, 2), Domain("integers", 1, 2), ZERO)


def find_domains(
    graph: Graph | StepGraph, draw: Callable[[Mapping[str, Domain]], Mapping[str, Array]]
) -> dict[str, Domain] | None:
    """A domain for every input on which the model's outputs are finite.

    Args:
        graph: what is evaluated, in its own types, at its own shapes.
        draw: the inputs for given domains.

    Returns:
        The domains; those with the fewest outputs that are not finite, where none has none; None
        where the model cannot be evaluated on any, or gives nothing finite.
    """
    best: dict[str, Domain] | None = None
    most = 0.0
    for domains in candidates(graph):
        share = _finite_share(graph, draw(domains))
        if share > most:
            best, most = domains, share
        if most == 1.0:
            break
    return best


def candidates(graph: Graph | StepGraph) -> Iterator[dict[str, Domain]]:
    """Domains by input, the likely ones first: all floats alike, then one by one."""
    values = input_values(graph)
    fixed = {**_index_bounds(graph), **_sequence_lens(graph)}
    floats = [v.name for v in values if v.type.dtype.is_float and v.name not in fixed]
    integers = [v.name for v in values if not v.type.dtype.is_float and v.name not in fixed]
    seen = []
    rows: list[tuple[Domain, ...]] = [(kind,) * len(floats) for kind in DOMAINS]
    if len(floats) > 1:
        rows += list(itertools.islice(itertools.product(_FLOATS, repeat=len(floats)), _MOST_TRIALS))
    for whole in _INTEGERS if integers else _INTEGERS[:1]:
        for row in rows:
            found = {
                **fixed,
                **dict(zip(floats, row, strict=True)),
                **dict.fromkeys(integers, whole),
            }
            if found not in seen:
                seen.append(found)
                yield found


def draw_white(
    values: Sequence[tuple[str, tuple[int, ...], DType]],
    domains: Mapping[str, Domain],
    scale: float = 1.0,
) -> dict[str, Array]:
    """Independent seeded numbers for each input (name, shape, element type)."""
    inputs: dict[str, Array] = {}
    for name, shape, dtype in values:
        rng = np.random.default_rng(list(name.encode()))
        noise = scale * rng.standard_normal(shape)
        inputs[name] = domains.get(name, default_domain(dtype)).of(noise, dtype)
    return inputs


def default_domain(dtype: DType) -> Domain:
    """Where nothing is known of the model."""
    return ANY if dtype.is_float else _INTEGERS[0]


def _finite_share(graph: Graph | StepGraph, inputs: Mapping[str, Array]) -> float:
    """Which share of the outputs and states is finite; 0 where the graph refuses the inputs."""
    try:
        with np.errstate(all="ignore"):
            found = evaluate(graph, inputs)
    except EdgeLSTMError:
        return 0.0
    arrays = [*found.outputs.values(), *found.states.values()]
    total = sum(x.size for x in arrays)
    return sum(int(np.isfinite(x).sum()) for x in arrays) / max(total, 1)


def _index_bounds(graph: Graph | StepGraph) -> dict[str, Domain]:
    """Inputs that are looked up in a table, with its length."""
    producers = {value: node for node in graph.nodes for value in node.outputs}
    inputs = set(input_values(graph))
    bounds: dict[str, int] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Gather):
            continue
        table, indices = node.inputs[0], node.inputs[1]
        if table is None or indices is None:
            continue
        extent = table.type.shape[node.op.axis]
        for value in _sources(indices, producers, inputs):
            bounds[value.name] = min(bounds.get(value.name, extent), extent)
    return {name: Domain("integers", 0, max(high, 1)) for name, high in bounds.items()}


def _sources(value: Value, producers: Mapping[Value, Node], inputs: set[Value]) -> Iterator[Value]:
    if value in inputs:
        yield value
        return
    node = producers.get(value)
    if node is not None and isinstance(node.op, _MOVES):
        for source in node.inputs:
            if source is not None:
                yield from _sources(source, producers, inputs)


def _sequence_lens(graph: Graph | StepGraph) -> dict[str, Domain]:
    """Inputs that are sequence_lens of a recurrent layer: 1 to that layer's number of frames."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Recurrent) or len(node.inputs) <= SEQUENCE_LENS:
            continue
        value, frames = node.inputs[SEQUENCE_LENS], node.inputs[0]
        if value is not None and frames is not None:
            steps = frames.type.shape[0]
            found[value.name] = min(found.get(value.name, steps), steps)
    constants = {constant.value.name for constant in graph.constants}
    return {
        name: Domain("integers", 1, steps + 1)
        for name, steps in found.items()
        if name not in constants
    }


def types_of(graph: Graph | StepGraph) -> list[tuple[str, tuple[int, ...], DType]]:
    """The inputs of a graph as `draw_white` takes them."""
    return [(v.name, v.type.shape, v.type.dtype) for v in input_values(graph)]
