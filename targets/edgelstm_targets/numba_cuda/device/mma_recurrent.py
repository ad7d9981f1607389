"""The role of a recurrent layer for a group of streams: product, cell, hand-over.

A warp has the gates of 8 units for all streams; the lane that gets a unit's sums for a stream also
keeps its cell state, and so a frame needs no exchange but the new h, once, through shared memory.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.ops import GRU
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    div,
    float_of,
    inline,
    load_global,
    mul,
    pack_halves,
    store_shared2,
)
from edgelstm_targets.numba_cuda.device.mma_cells import make_gru_before, make_update
from edgelstm_targets.numba_cuda.device.mma_emission import make_emission, make_limit
from edgelstm_targets.numba_cuda.device.mma_product import ROW_STEP, make_group_product
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    GroupCode,
)
from edgelstm_targets.numba_cuda.device.mma_states import make_cell_access, make_group_states
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole


def make_group_recurrent(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """The code of a recurrent layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    if len(place.phases) == 2:
        return _two_phases(placement, place, role, sizes)
    return _one_phase(placement, place, role, sizes)


def _one_phase(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> GroupCode:
    load, total = make_group_product(place, place.phases[0])
    start, finish_states = make_group_states(placement, place, sizes)
    read_peepholes = _make_peepholes(place)
    cell = _make_cells(placement, place, role, sizes)
    chunk, passes, warps = place.chunk, place.passes, place.threads // 32
    turns = placement.group // ROWS // chunk
    sums = 4 * place.phases[0].accumulators * chunk

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load(w, t, base, weights)
        start(t, live, base, state)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        lane, warp = band(t, U32(31)), div(t, U32(32))
        group, member = div(lane, U32(4)), band(lane, U32(3))
        for p in range(passes):
            turn = U32(p)
            tile = add(warp, mul(turn, U32(warps)))
            unit = add(mul(tile, U32(8)), mul(member, U32(2)))
            held = read_peepholes(unit, weights)
            for k in range(turns):
                first = U32(k * chunk)
                acc = cuda.local.array(sums, F32)
                row = add(group, mul(first, U32(ROW_STEP)))
                total(acc, w, lane, tile, row, base, weights, frame)
                cell(acc, t, live, base, y, frame, group, unit, turn, first, held)

    @inline
    def finish(w, t, live, base, state, frames):
        finish_states(t, live, base, state, frames)

    return GroupCode(place.words, prepare, step, finish)


def _make_cells(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> Any:
    """cell(acc, t, live, base, y, frame, group, unit, turn, first, held), for rows from `first` on.

    Written out for each row: the compiler must see which sum is meant.
    """
    update = make_update(role.kernel.op, place.peepholes >= 0, role.origin)
    get, keep = make_cell_access(place, placement.group)
    emit = make_emission(placement, role.target, role.outputs, place.tiles, sizes)
    cell = role.cell
    hands_cell_on = cell is not None and (
        bool(role.cell_outputs) or cell in placement.halves or cell in placement.floats
    )
    emit_cell = emit
    if cell is not None:
        emit_cell = make_emission(placement, cell, role.cell_outputs, place.tiles, sizes)
    count, has_kept = place.phases[0].accumulators, place.slots > 0
    sums_of = _make_sums(count)

    def make(m: int) -> Any:
        start = 4 * count * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            p0, p1, p2, q0, q1, q2 = held
            k0, k1, k2, k3 = F32(0), F32(0), F32(0), F32(0)
            if has_kept:
                k0, k1, k2, k3 = get(t, base, turn, 0, j)
            a0, a1, a2, a3 = sums_of(acc, start)
            b0, b1, b2, b3 = sums_of(acc, start + 1)
            c0, c1, c2, c3 = sums_of(acc, start + 2)
            d0, d1, d2, d3 = sums_of(acc, start + 3)
            h0, k0 = update(a0, a1, a2, a3, k0, p0, p1, p2)
            h1, k1 = update(b0, b1, b2, b3, k1, q0, q1, q2)
            h2, k2 = update(c0, c1, c2, c3, k2, p0, p1, p2)
            h3, k3 = update(d0, d1, d2, d3, k3, q0, q1, q2)
            if has_kept:
                keep(t, base, turn, 0, j, k0, k1, k2, k3)
            emit(y, live, base, frame, group, unit, j, h0, h1, h2, h3)
            if hands_cell_on:
                emit_cell(y, live, base, frame, group, unit, j, k0, k1, k2, k3)

        return cells

    return _each_row(place.chunk, make)


def _each_row(chunk: int, make: Any) -> Any:
    """Row 0, row 1 and so on."""
    every = make(0)
    for m in range(1, chunk):
        every = _both(every, make(m))
    return every


def _both(before: Any, row: Any) -> Any:
    @inline
    def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
        before(acc, t, live, base, y, frame, group, unit, turn, first, held)
        row(acc, t, live, base, y, frame, group, unit, turn, first, held)

    return cells


def _make_sums(count: int) -> Any:
    """sums(acc, n): those of one unit and stream; 0 for accumulators that there are not."""
    if count == 4:

        @inline
        def four(acc, n):
            return acc[n], acc[n + 4], acc[n + 8], acc[n + 12]

        return four

    @inline
    def one(acc, n):
        return acc[n], F32(0), F32(0), F32(0)

    return one


def _two_phases(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> GroupCode:
    """GRU with linear_before_reset=0: r*h of all units, and then the candidate."""
    op = role.kernel.op
    assert isinstance(op, GRU)
    load_first, total_first = make_group_product(place, place.phases[0])
    load_second, total_second = make_group_product(place, place.phases[1])
    start, finish_states = make_group_states(placement, place, sizes)
    gates, update = (
        _make_gates(placement, place, role, op),
        _make_update(placement, place, role, op, sizes),
    )
    chunk, passes, warps, threads = place.chunk, place.passes, place.threads // 32, place.threads
    turns = placement.group // ROWS // chunk
    sums_first, sums_second = 8 * chunk, 4 * chunk
    own_barrier = place.number + 1

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load_first(w, t, base, weights)
        load_second(w, t, base, weights)
        start(t, live, base, state)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        lane, warp = band(t, U32(31)), div(t, U32(32))
        group, member = div(lane, U32(4)), band(lane, U32(3))
        for p in range(passes):
            turn = U32(p)
            tile = add(warp, mul(turn, U32(warps)))
            unit = add(mul(tile, U32(8)), mul(member, U32(2)))
            for k in range(turns):
                first = U32(k * chunk)
                acc = cuda.local.array(sums_first, F32)
                row = add(group, mul(first, U32(ROW_STEP)))
                total_first(acc, w, lane, tile, row, base, weights, frame)
                gates(acc, t, live, base, y, frame, group, unit, turn, first, U32(0))
        barrier(U32(own_barrier), U32(threads))
        for p in range(passes):
            turn = U32(p)
            tile = add(warp, mul(turn, U32(warps)))
            unit = add(mul(tile, U32(8)), mul(member, U32(2)))
            for k in range(turns):
                first = U32(k * chunk)
                acc = cuda.local.array(sums_second, F32)
                row = add(group, mul(first, U32(ROW_STEP)))
                total_second(acc, w, lane, tile, row, base, weights, frame)
                update(acc, t, live, base, y, frame, group, unit, turn, first, U32(0))

    @inline
    def finish(w, t, live, base, state, frames):
        finish_states(t, live, base, state, frames)

    return GroupCode(place.words, prepare, step, finish)


def _make_gates(placement: GroupPlacement, place: GroupRole, role: RecurrentRole, op: GRU) -> Any:
    """The first phase: z stays with the lane, r*h goes to all."""
    gates, _ = make_gru_before(op, role.origin)
    get, keep = make_cell_access(place, placement.group)
    put_reset = _make_reset_put(place, op.hidden)

    def make(m: int) -> Any:
        n = 8 * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            h0, h1, h2, h3 = get(t, base, turn, 0, j)
            z0, r0 = gates(acc[n], acc[n + 4])
            z1, r1 = gates(acc[n + 1], acc[n + 5])
            z2, r2 = gates(acc[n + 2], acc[n + 6])
            z3, r3 = gates(acc[n + 3], acc[n + 7])
            keep(t, base, turn, 1, j, z0, z1, z2, z3)
            put_reset(base, group, unit, j, r0 * h0, r1 * h1, r2 * h2, r3 * h3)

        return cells

    return _each_row(place.chunk, make)


def _make_update(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, op: GRU, sizes: BlockSizes
) -> Any:
    """The second phase."""
    _, update = make_gru_before(op, role.origin)
    get, keep = make_cell_access(place, placement.group)
    emit = make_emission(placement, role.target, role.outputs, place.tiles, sizes)

    def make(m: int) -> Any:
        n = 4 * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            h0, h1, h2, h3 = get(t, base, turn, 0, j)
            z0, z1, z2, z3 = get(t, base, turn, 1, j)
            h0, h1 = update(acc[n], z0, h0), update(acc[n + 1], z1, h1)
            h2, h3 = update(acc[n + 2], z2, h2), update(acc[n + 3], z3, h3)
            keep(t, base, turn, 0, j, h0, h1, h2, h3)
            emit(y, live, base, frame, group, unit, j, h0, h1, h2, h3)

        return cells

    return _each_row(place.chunk, make)


def _make_reset_put(place: GroupRole, hidden: int) -> Any:
    """put(base, group, unit, j, v0, v1, v2, v3): r*h of a lane, where the second phase reads it."""
    assert place.reset is not None
    offset, pitch, keep_within = (
        place.reset.offset,
        place.reset.pitch,
        make_limit(hidden, place.tiles),
    )

    @inline
    def put(base, group, unit, j, v0, v1, v2, v3):
        v0, v1 = keep_within(unit, v0, v1)
        v2, v3 = keep_within(unit, v2, v3)
        row = add(group, mul(j, U32(ROW_STEP)))
        at = add(base, add(U32(offset), add(mul(row, U32(pitch)), mul(unit, U32(4)))))
        store_shared2(at, float_of(pack_halves(v0, v1)), float_of(pack_halves(v2, v3)))

    return put


def _make_peepholes(place: GroupRole) -> Any:
    """read(unit, weights): i, o, f of the unit and of the next."""
    image = place.peepholes
    if image < 0:

        @inline
        def none(unit, weights):
            zero = F32(0)
            return zero, zero, zero, zero, zero, zero

        return none

    @inline
    def read(unit, weights):
        at = add64(weights, U64(image) + U64(unit) * U64(12))
        return (
            load_global(at),
            load_global(add64(at, U64(4))),
            load_global(add64(at, U64(8))),
            load_global(add64(at, U64(12))),
            load_global(add64(at, U64(16))),
            load_global(add64(at, U64(20))),
        )

    return read
