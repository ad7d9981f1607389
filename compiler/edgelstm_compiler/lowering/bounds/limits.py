"""How large the inputs of a step may be so that nothing in it becomes infinite or NaN.

Where that can be proved, for every stream of any length, the check that inputs are finite compares
with this limit instead of infinity. Where it cannot, the new states are looked at in every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph, producers
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.lowering.bounds.index_ranges import Ranges
from edgelstm_compiler.lowering.bounds.interval import Interval, anything, largest, within
from edgelstm_compiler.lowering.bounds.propagate import Propagation

LEAST_LIMIT = 2.0**40
"""No limit below this is set: no sensor measures 10^12, and smaller ones might refuse real data."""

_STATE_LIMITS = (2.0**100, 2.0**60)
_LEAST_EXPONENT, _MOST_EXPONENT, _PARTS = 40, 127, 16

Sources = Callable[[Mapping[Value, float]], dict[Value, Interval]]


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What keeps a stream finite.

    Args:
        limits: for each input of the graph the largest magnitude; infinity: any finite number.
        checks_states: whether new states have to be checked, because no limit is known that keeps
            them finite.
        state_limit: the largest magnitude of states that are kept then; from there a step with
            inputs within their limits overflows nowhere, in whatever order sums are taken.
    """

    limits: tuple[float, ...]
    checks_states: bool = False
    state_limit: float = math.inf


def find_limits(graph: StepGraph, ranges: Ranges) -> StepLimits:
    """The largest limits that can be proved; for every value, else for the states alone.

    Args:
        graph: the step graph.
        ranges: of its integer inputs.
    """
    floats = [item.value for item in graph.inputs if item.value.type.dtype.is_float]
    walk = Propagation(graph)
    needed = _behind_states(graph)

    def proves(bounds: Mapping[Value, float]) -> tuple[bool, bool]:
        """Whether everything stays finite, and whether all that states depend on does."""
        values = walk.settle(input_intervals(graph, bounds, ranges))
        if values is None:
            return False, False
        unsafe = {v for v, found in values.items() if v.type.dtype.is_float and not found.is_safe}
        return not unsafe, not unsafe & needed

    known: dict[float, tuple[bool, bool]] = {}

    def together(bound: float) -> tuple[bool, bool]:
        if bound not in known:
            known[bound] = proves(dict.fromkeys(floats, bound))
        return known[bound]

    for goal in (0, 1):

        def reaches(bound: float, goal: int = goal) -> bool:
            return together(bound)[goal]

        limit = _largest(reaches)
        if limit is None:
            continue
        bounds = dict.fromkeys(floats, limit)
        for value in floats if math.isfinite(limit) else ():
            freer = {**bounds, value: math.inf}
            if proves(freer)[goal]:
                bounds = freer
        return StepLimits(_per_input(graph, bounds))
    if not any(state.type.dtype.is_float for state in graph.states):
        return StepLimits((math.inf,) * len(graph.inputs))
    for ceiling in _STATE_LIMITS:

        def overflows_nowhere(bound: float, ceiling: float = ceiling) -> bool:
            inputs = input_intervals(graph, dict.fromkeys(floats, bound), ranges)
            values = walk.from_states_within(ceiling, inputs)
            return not any(v.type.dtype.is_float and not values[v].is_safe for v in needed)

        limit = _largest(overflows_nowhere)
        if limit is not None:
            return StepLimits(_per_input(graph, dict.fromkeys(floats, limit)), True, ceiling)
    return StepLimits((math.inf,) * len(graph.inputs), checks_states=True)


def _per_input(graph: StepGraph, bounds: Mapping[Value, float]) -> tuple[float, ...]:
    return tuple(_for_type(item.value, bounds.get(item.value, math.inf)) for item in graph.inputs)


def input_intervals(
    graph: StepGraph, bounds: Mapping[Value, float], ranges: Ranges
) -> dict[Value, Interval]:
    """What the inputs can be.

    Args:
        graph: whose.
        bounds: magnitudes of inputs in floating point.
        ranges: of integer inputs, where there are any.
    """
    found = {}
    for item in graph.inputs:
        value = item.value
        if value.type.dtype.is_float:
            known = within(value.type.dtype, value.type.shape, bounds[value])
            if value in ranges:
                low, high = ranges[value]
                low, high = np.maximum(low, known.low), np.minimum(high, known.high)
                known = Interval(value.type.dtype, low, high)
            found[value] = known
        elif value in ranges:
            low, high = (end.astype(np.float64) for end in ranges[value])
            found[value] = Interval(value.type.dtype, low, high)
        else:
            found[value] = anything(value.type.dtype, value.type.shape)
    return found


def _largest(proves: Callable[[float], bool]) -> float | None:
    """The largest bound that works, to a sixteenth; None where LEAST_LIMIT does not."""
    if proves(math.inf):
        return math.inf
    if not proves(LEAST_LIMIT):
        return None
    # Most limits are near the top: steps down from there that grow, then halves.
    low, high = _MOST_EXPONENT, _MOST_EXPONENT + 1
    while low > _LEAST_EXPONENT and not proves(2.0**low):
        low, high = max(_LEAST_EXPONENT, 2 * low - high - 1), low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if proves(2.0**middle) else (low, middle)
    part, parts = 0, _PARTS
    while parts - part > 1:
        middle = (part + parts) // 2
        is_proved = proves(2.0**low * (1 + middle / _PARTS))
        part, parts = (middle, parts) if is_proved else (part, middle)
    return float(2.0**low * (1 + part / _PARTS))


def _for_type(value: Value, limit: float) -> float:
    """Infinity where the type holds nothing larger anyway."""
    dtype = value.type.dtype
    if not dtype.is_float:
        return math.inf
    return limit if limit < largest(dtype) else math.inf


def _behind_states(graph: StepGraph) -> set[Value]:
    """Every value that a state depends on."""
    made = producers(graph)
    found: set[Value] = set()
    waiting = [state.write for state in graph.states]
    while waiting:
        value = waiting.pop()
        if value in found:
            continue
        found.add(value)
        node = made.get(value)
        if node is not None:
            waiting += [each for each in node.inputs if each is not None]
    return found
