"""The role of a recurrent layer: product, sum over lanes, cell, hand-over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm.errors import CapabilityError
from edgelstm_targets.numba_cuda.device.elements import (
    LOAD_SHARED,
    STORE_SHARED_IF,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    barrier,
    div,
    inline,
    mul,
)
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.placed import DEVICE_CELLS
from edgelstm_targets.numba_cuda.device.product import make_product
from edgelstm_targets.numba_cuda.device.states import make_states
from edgelstm_targets.numba_cuda.device.tables import make_table_load
from edgelstm_targets.numba_cuda.device.team import Team
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole
from edgelstm_targets.numba_cuda.places import Placement, RolePlace


@dataclass(frozen=True, slots=True)
class RoleCode:
    """The parts of a role; every one of them a device function.

    Args:
        words: registers that live from prepare to the end, as an array.
        prepare: (w, t, rank, base, weights, state, x), before the first frame.
        step: (w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step), one frame; x is
            the first frame's input, y this frame's output.
        finish: (t, rank, base, state, frames), after the last frame.
    """

    words: int
    prepare: Any
    step: Any
    finish: Any


def make_recurrent(placement: Placement, place: RolePlace, team: Team) -> RoleCode:
    """The code of a recurrent layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    if len(place.phases) == 2:
        if team.name == "cluster":
            raise CapabilityError(
                f"{role.origin}: a GRU with linear_before_reset=0 exchanges twice a frame, which "
                "clusters do not do here"
            )
        return _two_phases(placement, place, role, team)
    return _one_phase(placement, place, role, team)


def _one_phase(placement: Placement, place: RolePlace, role: RecurrentRole, team: Team) -> RoleCode:
    product = make_product(place, place.phases[0], place.words)
    load, total = product.load, product.total
    hidden, own = role.kernel.op.hidden, place.passes * place.tile
    lanes, tile, passes = place.lanes, place.tile, place.passes
    put, collect = _make_publication(placement, place, role, team)
    write = make_output(role.outputs, role.target.dtype)
    cell, collect_cell = DEVICE_CELLS[type(role.kernel.op)].single(placement, place, role, team)
    remember = _make_memory(placement, role)
    start, finish = make_states(placement, place)
    load_tables = make_table_load(place)

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load(w, t, rank, base, weights)
        load_tables(t, base, weights)
        start(t, base, state)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            z = total(w, t, lane, rank, turn, unit, base, weights, frame)
            h = cell(z, lane, unit, base, weights, y, mail, tag, frame)
            h = remember(lane, base, frame, unit, h)
            put(lane, base, mail, tag, frame, unit, h)
            write(y, unit, h, U32((lane == U32(2)) & (unit < U32(hidden))))
        collect(t, base, mail, tag, frame)
        collect_cell(t, base, mail, tag, frame)

    return RoleCode(product.words, prepare, step, finish)


def _two_phases(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> RoleCode:
    """GRU with linear_before_reset=0: r*h of all units, and then the candidate."""
    assert place.kept is not None
    assert place.reset is not None
    first = make_product(place, place.phases[0], place.words)
    second = make_product(place, place.phases[1], first.words)
    load_first, total_first = first.load, first.total
    load_second, total_second = second.load, second.total
    gates, reset, update = DEVICE_CELLS[type(role.kernel.op)].single_phases(place)
    memory = placement.rings[role.memory if role.memory is not None else role.target]
    at_h, load_h = make_element(memory), LOAD_SHARED[memory.dtype]
    at_kept, load_kept = make_element(place.kept), LOAD_SHARED[place.kept.dtype]
    store_kept = STORE_SHARED_IF[place.kept.dtype]
    hidden, own = role.kernel.op.hidden, place.passes * place.tile
    lanes, tile, passes, threads = place.lanes, place.tile, place.passes, place.threads
    put_reset, collect_reset = team.hand_over(place.reset, hidden, threads)
    put, collect = _make_publication(placement, place, role, team)
    write = make_output(role.outputs, role.target.dtype)
    remember = _make_memory(placement, role)
    start, finish = make_states(placement, place)
    load_tables = make_table_load(place)
    own_barrier = place.number + 1

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load_first(w, t, rank, base, weights)
        load_second(w, t, rank, base, weights)
        load_tables(t, base, weights)
        start(t, base, state)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        lane = band(t, U32(lanes - 1))
        row = div(t, U32(lanes))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            known = min(unit, U32(hidden - 1))
            sums = total_first(w, t, lane, rank, turn, unit, base, weights, frame)
            z, r = gates(sums, lane, base)
            h = load_h(at_h(base, frame - U32(1), known))
            put_reset(lane, base, mail, tag, frame, unit, reset(r, h))
            mine = U32((lane == U32(1)) & (unit < U32(hidden)))
            store_kept(at_kept(base, frame, known), z, mine)
        collect_reset(t, base, mail, tag, frame)
        barrier(U32(own_barrier), U32(threads))
        for k in range(passes):
            turn = U32(k)
            unit = add(mul(rank, U32(own)), add(mul(turn, U32(tile)), row))
            known = min(unit, U32(hidden - 1))
            sums = total_second(w, t, lane, rank, turn, unit, base, weights, frame)
            h = load_h(at_h(base, frame - U32(1), known))
            z = load_kept(at_kept(base, frame, known))
            after = remember(lane, base, frame, unit, update(sums, z, h, base))
            put(lane, base, mail, tag, frame, unit, after)
            write(y, unit, after, U32((lane == U32(2)) & (unit < U32(hidden))))
        collect(t, base, mail, tag, frame)

    return RoleCode(second.words, prepare, step, finish)


def _make_memory(placement: Placement, role: RecurrentRole) -> Any:
    """remember(lane, base, frame, unit, h) -> h as others see it.

    Where the cell mixes an h of its own, the unit keeps that for the next frame.
    """
    if role.memory is None:

        @inline
        def pass_on(lane, base, frame, unit, h):
            return h

        return pass_on
    ring, hidden = placement.rings[role.memory], role.kernel.op.hidden
    at, store, show = make_element(ring), STORE_SHARED_IF[ring.dtype], make_show(role)

    @inline
    def remember(lane, base, frame, unit, h):
        mine = U32((lane == U32(1)) & (unit < U32(hidden)))
        store(at(base, frame, unit), h, mine)
        return show(h)

    return remember


def _make_publication(
    placement: Placement, place: RolePlace, role: RecurrentRole, team: Team
) -> tuple[Any, Any]:
    """How h reaches its readers, and its products as what they see of it; as `Team.hand_over`."""
    hidden, threads = role.kernel.op.hidden, place.threads
    put, collect = team.hand_over(placement.rings[role.target], hidden, threads)
    if role.factor is None:
        return put, collect
    put_factor, collect_factor = team.hand_over(placement.rings[role.factor], hidden, threads)
    show = make_show(role)

    @inline
    def put_both(lane, base, mail, tag, frame, unit, h):
        put(lane, base, mail, tag, frame, unit, h)
        put_factor(lane, base, mail, tag, frame, unit, show(h))

    @inline
    def collect_both(t, base, mail, tag, frame):
        collect(t, base, mail, tag, frame)
        collect_factor(t, base, mail, tag, frame)

    return put_both, collect_both
