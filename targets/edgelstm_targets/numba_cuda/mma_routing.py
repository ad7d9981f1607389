"""Which kernels for groups of streams a model gets, and from how many streams on each is taken.

By the model (`costs.py`, `mma_model.py`) a frame of all streams takes as long as the multiprocessor
with the most blocks: a larger group takes less for each stream, but with few streams it leaves
multiprocessors idle. What a kernel takes changes only with whole blocks on a multiprocessor; so one
number says where it takes over from the others, streams a multiprocessor, and the engine compares
it with the GPU that it finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgelstm.errors import CapabilityError
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.mma_model import alone_cycles
from edgelstm_targets.numba_cuda.mma_placement import GROUPS, is_exact, place_groups
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement
from edgelstm_targets.numba_cuda.pipeline import Pipeline
from edgelstm_targets.numba_cuda.placement import RESERVE, place_pipeline
from edgelstm_targets.numba_cuda.routing import Route, choose_routes

_WORTH = 0.9
"""A second group is compiled where it takes less than this part of the cycles of the first."""

_MOST_STREAMS = 1024
"""Of a multiprocessor: what would be taken for more only is not compiled, unless asked for."""


def choose_math_routes(
    pipeline: Pipeline,
    chip: Chip,
    shape: str,
    reserve: int,
    math: str,
    doorbell: bool = False,
    groups: Sequence[int] | None = None,
) -> tuple[Route, ...]:
    """The kernels for a chip: with math=fp16 those for groups of streams on tensor cores, too.

    Products of whole numbers are the same there, and need no leave.

    Args:
        pipeline: the model.
        chip: for which.
        shape: "auto", or the shape to take for one stream; "tensor" lets any number of streams go
            in groups.
        reserve: registers of a thread that weights leave to everything else.
        math: "fp32" or "fp16".
        doorbell: a kernel that waits for frames is wanted, too.
        groups: streams of a block, a kernel for each; None where the model may choose.

    Raises:
        CapabilityError: the model cannot be computed so.
    """
    exact = is_exact(pipeline)
    wanted = shape == "tensor" or bool(groups)
    if math == "fp32" and not exact:
        if wanted:
            raise CapabilityError(
                "options shape=tensor and groups are for tensor cores, which multiply floating "
                "point in float16: add --option math=fp16"
            )
        return choose_routes(pipeline, chip, shape, reserve, doorbell)
    spare = _spare(reserve)
    try:
        placed = (
            _worthwhile(pipeline, chip, spare)
            if groups is None
            else [place_groups(pipeline, chip, spare, (group,)) for group in groups]
        )
    except CapabilityError:
        if wanted or math != "fp32":
            raise
        placed = []
    numbers = "whole numbers" if exact else "float16"
    plain = () if shape == "tensor" else choose_routes(pipeline, chip, shape, reserve, doorbell)
    return add_groups(plain, [_route(each, numbers) for each in placed], bool(groups))


def add_groups(
    plain: Sequence[Route], groups: Sequence[Route], all_of_them: bool = False
) -> tuple[Route, ...]:
    """All kernels, each group with the number of streams above which it is first the cheapest.

    From there on it is taken, although a smaller group may again be cheaper where one more block of
    the larger one comes to a multiprocessor. In what numbers a kernel computes does not matter.

    Args:
        plain: kernels without groups.
        groups: smaller groups first.
        all_of_them: also those that are never cheaper than all before them.
    """
    routes = [route for route in plain if route.streams != "doorbell"]
    waiting = [route for route in plain if route.streams == "doorbell"]
    for group in groups:
        cheaper = (load for load in _loads(routes) if _is_cheaper(group, routes, load))
        above = next(cheaper, None)
        if above is not None:
            where = f", the cheapest above {above:g} streams a multiprocessor" if routes else ""
            routes.append(replace(group, above=above, why=group.why + where))
        elif all_of_them:
            why = f"asked for, though never the cheapest; {group.why}"
            routes.append(replace(group, above=float(_MOST_STREAMS), why=why))
    return (*routes, *waiting)


def read_groups(text: str) -> tuple[int, ...] | None:
    """The groups that `16+64` means, () for `none`, and None for `auto`.

    Raises:
        CapabilityError: others than there are.
    """
    if text in ("auto", "none"):
        return None if text == "auto" else ()
    known = {str(group): group for group in sorted(GROUPS)}
    parts = text.split("+")
    if not set(parts) <= set(known):
        raise CapabilityError(
            f"option groups is {text!r}; expected auto, none, or some of {', '.join(known)} "
            "joined by +"
        )
    return tuple(sorted({known[part] for part in parts}))


def place_again(pipeline: Pipeline, chip: Chip, route: Route, reserve: int) -> Route:
    """The same kernel, with more registers of a thread left to everything but weights.

    Raises:
        CapabilityError: there is no room for it.
    """
    if isinstance(route.placement, GroupPlacement):
        group = place_groups(pipeline, chip, _spare(reserve), (route.group,))
        return replace(route, placement=group, cycles=_cycles(group), busy_cycles=group.cost)
    placement = place_pipeline(pipeline, chip, route.placement.team, reserve)
    assert placement is not None  # the reserve decides what stays in registers, not who is idle
    changed = placement.cost - route.placement.cost
    return replace(route, placement=placement, cycles=route.cycles + changed)


def _worthwhile(pipeline: Pipeline, chip: Chip, spare: int) -> list[GroupPlacement]:
    """The smallest group, and the one with the cheapest streams where that is worth a kernel."""
    smallest = place_groups(pipeline, chip, spare, (min(GROUPS),))
    best = place_groups(pipeline, chip, spare)
    is_worth_it = best.cost / best.group < _WORTH * smallest.cost / smallest.group
    return [smallest, best] if is_worth_it else [smallest]


def _route(placement: GroupPlacement, numbers: str) -> Route:
    each = placement.cost / placement.group
    why = (
        f"{numbers} on tensor cores, {placement.group} streams a block on {placement.threads} "
        f"threads: about {each:.0f} cycles of a multiprocessor for a frame of a stream"
    )
    return Route("many", "tensor", placement, _cycles(placement), placement.cost, why)


def _cycles(placement: GroupPlacement) -> float:
    """Of a frame of a block that has its multiprocessor for itself."""
    return max(alone_cycles(placement), placement.cost)


def _spare(reserve: int) -> int:
    """Registers that a kernel for groups leaves unused for it."""
    return (reserve - RESERVE) // 2


def _loads(routes: Sequence[Route]) -> Iterator[float]:
    """Streams a multiprocessor above which one more block comes to it."""
    yield 0.0
    yield from sorted(1 / route.placement.team for route in routes if route.placement.team > 1)
    yield from map(float, range(1, _MOST_STREAMS))


def _is_cheaper(group: Route, routes: Sequence[Route], load: float) -> bool:
    return all(group.price_above(load) < route.price_above(load) for route in routes)
