"""How long a multiprocessor takes for a frame of a group of streams: a model to choose by.

Every pipe's work is counted, and the busiest decides; so does the time of one block alone where too
few of them share the multiprocessor. Nothing in it is a promise.
"""

from __future__ import annotations

from edgelstm_targets.numba_cuda.cells import HAND_PLACED, PLAIN_COST, Cost
from edgelstm_targets.numba_cuda.chips import WARP
from edgelstm_targets.numba_cuda.costs import WAITING
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import DenseRole, RecurrentRole, Role

_PRODUCT_CYCLES = {"sm_90": 1.7, "sm_100": 1.7, "sm_87": 2.0}
"""Cycles of a product on a whole multiprocessor; 4 on chips of desktops (float32 sums)."""


_SPECIAL_RATE = 16
_ISSUE_RATE = 4
_WHOLE_RATE = 64
_SHARED_RATE = 128
_LOOK_UP_BYTES = 14
"""Of the rate of shared memory, for each look-up: lanes meet in the same banks."""

_L2_RATE = 32
_PRODUCT_LATENCY = 35
_PLAIN_ROLE = 150
_BARRIER = 80
_IN_THE_WAY = 0.15
_ENOUGH_WARPS = 16


def frame_cycles(placement: GroupPlacement) -> float:
    """Clock cycles of a multiprocessor that is full of blocks, for each block's frame."""
    rows = placement.group // ROWS
    places = (*placement.layers, *placement.side)
    products = rows * sum(_products(place) for place in places)
    special, plain, whole, look_ups = 0, 0, 0, 0
    for place in placement.layers:
        cell = _cell(place.role)
        cells = place.tiles * 8 * placement.group
        special += cells * cell.special
        plain += cells * (cell.special + cell.plain)
        whole += cells * cell.whole
        look_ups += cells * cell.look_ups
    vector_loads = rows * sum(_vector_loads(place) for place in places)
    issue = (plain / WARP + products + 2 * vector_loads) / _ISSUE_RATE
    chunks = rows / max(place.chunk for place in places)
    shared = vector_loads * 512 + placement.shared_weight_bytes * chunks
    shared += look_ups * _LOOK_UP_BYTES
    pipes = (
        products * _PRODUCT_CYCLES.get(placement.chip.name, 4.0),
        special / _SPECIAL_RATE,
        issue,
        whole / _WHOLE_RATE,
        shared / _SHARED_RATE,
        placement.streamed_bytes * chunks / _L2_RATE,
    )
    # The busiest pipe decides; the others get a little in its way.
    busiest = max(pipes) + _IN_THE_WAY * (sum(pipes) - max(pipes))
    return max(
        busiest + _BARRIER / 2, WAITING * alone_cycles(placement) / resident_blocks(placement)
    )


def alone_cycles(placement: GroupPlacement) -> float:
    """Clock cycles of a frame of one block, waiting for its own results."""
    rows = placement.group // ROWS
    layers = max((_alone(place, rows) for place in placement.layers), default=0)
    return layers + sum(_alone(place, rows) for place in placement.side) + _BARRIER


def resident_blocks(placement: GroupPlacement) -> int:
    """Blocks that share a multiprocessor."""
    return placement.chip.resident_blocks(
        placement.threads, placement.most_registers, placement.shared_bytes
    )


def shared_blocks(placement: GroupPlacement) -> int:
    """Blocks that are worth fewer registers for each: until warps hide each other's waiting."""
    return max(1, min(resident_blocks(placement), _ENOUGH_WARPS // (placement.threads // WARP)))


def cell_cycles(role: RecurrentRole, warps: int) -> tuple[float, float]:
    """Cycles of a multiprocessor for cells of so many warps: to issue them, and of other pipes."""
    cell = _cell(role)
    issue = warps * (cell.special + cell.plain) / _ISSUE_RATE
    return issue, warps * WARP * max(cell.special / _SPECIAL_RATE, cell.whole / _WHOLE_RATE)


def _cell(role: Role) -> Cost:
    assert isinstance(role, RecurrentRole)
    return HAND_PLACED[type(role.kernel.op)].cost(role.precision)


def _products(place: GroupRole) -> int:
    """Products of 16 streams, over all tiles."""
    return place.tiles * sum(
        section.gates * section.products for phase in place.phases for section in phase.sections
    )


def _vector_loads(place: GroupRole) -> int:
    """Loads of 512 bytes from shared memory by which the vectors reach the products."""
    return place.tiles * sum(
        section.products for phase in place.phases for section in phase.sections
    )


def _alone(place: GroupRole, rows: int) -> float:
    """Cycles of one warp of the role."""
    if not place.phases:
        return _PLAIN_ROLE
    turns = place.passes if isinstance(place.role, DenseRole) else place.passes * rows
    steps = sum(section.products for phase in place.phases for section in phase.sections)
    latency = PLAIN_COST.latency if isinstance(place.role, DenseRole) else _cell(place.role).latency
    return turns * (steps * _PRODUCT_LATENCY + latency * len(place.phases))
