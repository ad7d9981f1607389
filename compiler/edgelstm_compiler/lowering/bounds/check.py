"""Limits and ranges of a step graph together, and indices that nothing keeps within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.lowering.bounds.index_ranges import (
    IndexUse,
    Ranges,
    find_ranges,
    index_uses,
)
from edgelstm_compiler.lowering.bounds.limits import StepLimits, find_limits, input_intervals
from edgelstm_compiler.lowering.bounds.propagate import Propagation


@dataclass(frozen=True, slots=True)
class StepBounds:
    """What a step may be fed.

    Args:
        limits: of inputs in floating point, and whether states are checked.
        ranges: of integer inputs.
        unbounded: uses of integers that the ranges do not keep within bounds.
    """

    limits: StepLimits
    ranges: Ranges
    unbounded: tuple[IndexUse, ...] = ()


def find_bounds(graph: StepGraph) -> StepBounds:
    """Limits, ranges, and what they do not cover."""
    ranges = find_ranges(graph)
    limits = find_limits(graph, ranges)
    return StepBounds(limits, ranges, _unbounded(graph, limits, ranges))


def _unbounded(graph: StepGraph, limits: StepLimits, ranges: Ranges) -> tuple[IndexUse, ...]:
    uses = list(index_uses(graph))
    if not uses:
        return ()
    sources = [item.value for item in graph.inputs]
    bounds: dict[Value, float] = dict(zip(sources, limits.limits, strict=True))
    walk = Propagation(graph)
    known = input_intervals(graph, {v: bounds.get(v, math.inf) for v in sources}, ranges)
    values = walk.settle(known) or walk.in_any_state(known)
    return tuple(use for use in uses if not values[use.value].lies_within(use.low, use.high))
