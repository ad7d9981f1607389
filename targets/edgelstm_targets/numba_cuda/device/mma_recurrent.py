"""The role of a recurrent layer for a group of streams: product, cell, hand-over.

A warp has the gates of 8 units for all streams; the lane that gets a unit's sums for a stream also
keeps its cell state, and so a frame needs no exchange but the new h, once, through shared memory.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.elements import same
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    div,
    inline,
    load_global,
    load_global_word,
    mul,
)
from edgelstm_targets.numba_cuda.device.mma_cells import functions_of
from edgelstm_targets.numba_cuda.device.mma_emission import make_emission, make_limit
from edgelstm_targets.numba_cuda.device.mma_product import ROW_STEP
from edgelstm_targets.numba_cuda.device.mma_puts import make_operand_pair_put
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode
from edgelstm_targets.numba_cuda.device.mma_states import make_cell_access, make_group_states
from edgelstm_targets.numba_cuda.device.mma_sums import make_sums, number_of
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.device.placed import DEVICE_CELLS
from edgelstm_targets.numba_cuda.device.tables import make_table_load
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole
from edgelstm_targets.numba_cuda.precision import Integer


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
    load, total = make_sums(place, place.phases[0])
    load_tables = make_table_load(place)
    start, finish_states = make_group_states(placement, place, sizes)
    read_peepholes = _make_peepholes(place)
    cell = _make_cells(placement, place, role, sizes)
    walk = _make_walk(placement, place, 0, total, read_peepholes, cell)

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load(w, t, base, weights)
        load_tables(t, base, weights)
        start(t, live, base, state)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        walk(w, t, live, base, weights, y, frame)

    @inline
    def finish(w, t, live, base, state, frames):
        finish_states(t, live, base, state, frames)

    return GroupCode(place.words, prepare, step, finish)


def _make_walk(
    placement: GroupPlacement, place: GroupRole, phase: int, total: Any, hold: Any, cells: Any
) -> Any:
    """walk(w, t, live, base, weights, y, frame): a warp's tiles, with the rows of all streams.

    Args:
        placement: what stands where.
        place: of the layer.
        phase: number of the product.
        total: makes its sums.
        hold: (unit, weights), what is fetched once for all rows of a tile.
        cells: (acc, t, live, base, y, frame, group, unit, turn, first, held), for rows from `first`
            on: what follows the sums.
    """
    chunk, passes, warps = place.chunk, place.passes, place.threads // 32
    turns = placement.group // ROWS // chunk
    kind, sums = number_of(place), 4 * place.phases[phase].accumulators * chunk

    @inline
    def walk(w, t, live, base, weights, y, frame):
        lane, warp = band(t, U32(31)), div(t, U32(32))
        group, member = div(lane, U32(4)), band(lane, U32(3))
        for p in range(passes):
            turn = U32(p)
            tile = add(warp, mul(turn, U32(warps)))
            unit = add(mul(tile, U32(8)), mul(member, U32(2)))
            held = hold(unit, weights)
            for k in range(turns):
                first = U32(k * chunk)
                acc = cuda.local.array(sums, kind)
                row = add(group, mul(first, U32(ROW_STEP)))
                total(acc, w, lane, tile, row, base, weights, frame)
                cells(acc, t, live, base, y, frame, group, unit, turn, first, held)

    return walk


@inline
def _hold_nothing(unit, weights):
    return U32(0)


def _make_cells(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> Any:
    """cell(acc, t, live, base, y, frame, group, unit, turn, first, held), for rows from `first` on.

    Written out for each row: the compiler must see which sum is meant.
    """
    update = _cell_update(place, role)
    get, keep = make_cell_access(place, placement.group)
    emit = _make_h_emission(placement, place, role, sizes)
    cell = role.cell
    hands_cell_on = cell is not None and (
        bool(role.cell_outputs) or cell in placement.operands or cell in placement.elements
    )
    emit_cell = emit
    if cell is not None:
        emit_cell = make_emission(placement, cell, role.cell_outputs, place.tiles, sizes)
    count, has_kept, kind = place.phases[0].accumulators, place.slots > 0, number_of(place)
    sums_of = _make_sums_of(count, kind)

    def make(m: int) -> Any:
        start = 4 * count * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            p0, p1, p2, q0, q1, q2 = held
            k0, k1, k2, k3 = kind(0), kind(0), kind(0), kind(0)
            if has_kept:
                k0, k1, k2, k3 = get(t, base, turn, 0, j)
            a0, a1, a2, a3 = sums_of(acc, start)
            b0, b1, b2, b3 = sums_of(acc, start + 1)
            c0, c1, c2, c3 = sums_of(acc, start + 2)
            d0, d1, d2, d3 = sums_of(acc, start + 3)
            h0, k0 = update(a0, a1, a2, a3, k0, p0, p1, p2, base)
            h1, k1 = update(b0, b1, b2, b3, k1, q0, q1, q2, base)
            h2, k2 = update(c0, c1, c2, c3, k2, p0, p1, p2, base)
            h3, k3 = update(d0, d1, d2, d3, k3, q0, q1, q2, base)
            if has_kept:
                keep(t, base, turn, 0, j, k0, k1, k2, k3)
            emit(y, live, base, frame, group, unit, j, h0, h1, h2, h3)
            if hands_cell_on:
                emit_cell(y, live, base, frame, group, unit, j, k0, k1, k2, k3)

        return cells

    return _each_row(place.chunk, make)


def _cell_update(place: GroupRole, role: RecurrentRole) -> Any:
    cell = DEVICE_CELLS[type(role.kernel.op)]
    if isinstance(role.precision, Integer):
        assert isinstance(role.precision.op, IntegerRecurrent)
        return cell.integer_group(role.precision.op, place)
    functions = functions_of(role.precision)
    return cell.group(role.kernel.op, place.peepholes >= 0, functions, role.origin)


def _make_h_emission(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> Any:
    """emit, as of `make_emission`: h to all, and to the layer's products as what they see of it."""
    emit = make_emission(placement, role.target, role.outputs, place.tiles, sizes)
    if role.factor is None:
        return emit
    emit_seen = make_emission(placement, role.factor, (), place.tiles, sizes)
    show = make_show(role)

    @inline
    def emit_both(y, live, base, frame, group, unit, j, v0, v1, v2, v3):
        emit(y, live, base, frame, group, unit, j, v0, v1, v2, v3)
        s0, s1, s2, s3 = show(v0), show(v1), show(v2), show(v3)
        emit_seen(y, live, base, frame, group, unit, j, s0, s1, s2, s3)

    return emit_both


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


def _make_sums_of(count: int, kind: Any) -> Any:
    """sums(acc, n): those of one unit and stream; 0 for accumulators that there are not."""
    if count == 4:

        @inline
        def four(acc, n):
            return acc[n], acc[n + 4], acc[n + 8], acc[n + 12]

        return four

    @inline
    def one(acc, n):
        return acc[n], kind(0), kind(0), kind(0)

    return one


def _two_phases(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> GroupCode:
    """GRU with linear_before_reset=0: r*h of all units, and then the candidate."""
    load_first, total_first = make_sums(place, place.phases[0])
    load_second, total_second = make_sums(place, place.phases[1])
    load_tables = make_table_load(place)
    start, finish_states = make_group_states(placement, place, sizes)
    find_gates, reset, find_update = DEVICE_CELLS[type(role.kernel.op)].group_phases(place, role)
    gates = _make_gates(placement, place, role, find_gates, reset)
    update = _make_update(placement, place, role, find_update, sizes)
    walk_first = _make_walk(placement, place, 0, total_first, _hold_nothing, gates)
    walk_second = _make_walk(placement, place, 1, total_second, _hold_nothing, update)
    own_barrier, threads = place.number + 1, place.threads

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load_first(w, t, base, weights)
        load_second(w, t, base, weights)
        load_tables(t, base, weights)
        start(t, live, base, state)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        walk_first(w, t, live, base, weights, y, frame)
        barrier(U32(own_barrier), U32(threads))
        walk_second(w, t, live, base, weights, y, frame)

    @inline
    def finish(w, t, live, base, state, frames):
        finish_states(t, live, base, state, frames)

    return GroupCode(place.words, prepare, step, finish)


def _make_gates(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, gates: Any, reset: Any
) -> Any:
    """The first phase: z stays with the lane, r*h goes to all."""
    get, keep = make_cell_access(place, placement.group)
    assert place.reset is not None
    put_reset = make_operand_pair_put(place.reset, role.seen.dtype)
    keep_within = make_limit(role.kernel.op.hidden, place.tiles, role.seen.dtype)

    def make(m: int) -> Any:
        n = 8 * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            h0, h1, h2, h3 = get(t, base, turn, 0, j)
            z0, r0 = gates(acc[n], acc[n + 4], base)
            z1, r1 = gates(acc[n + 1], acc[n + 5], base)
            z2, r2 = gates(acc[n + 2], acc[n + 6], base)
            z3, r3 = gates(acc[n + 3], acc[n + 7], base)
            keep(t, base, turn, 1, j, z0, z1, z2, z3)
            v0, v1 = keep_within(unit, reset(r0, h0), reset(r1, h1))
            v2, v3 = keep_within(unit, reset(r2, h2), reset(r3, h3))
            put_reset(base, frame, group, j, unit, v0, v1, v2, v3)

        return cells

    return _each_row(place.chunk, make)


def _make_update(
    placement: GroupPlacement,
    place: GroupRole,
    role: RecurrentRole,
    update: Any,
    sizes: BlockSizes,
) -> Any:
    """The second phase."""
    get, keep = make_cell_access(place, placement.group)
    emit = _make_h_emission(placement, place, role, sizes)
    show = make_show(role) if role.memory is not None else same

    def make(m: int) -> Any:
        n = 4 * m

        @inline
        def cells(acc, t, live, base, y, frame, group, unit, turn, first, held):
            j = add(first, U32(m))
            h0, h1, h2, h3 = get(t, base, turn, 0, j)
            z0, z1, z2, z3 = get(t, base, turn, 1, j)
            h0, h1 = update(acc[n], z0, h0, base), update(acc[n + 1], z1, h1, base)
            h2, h3 = update(acc[n + 2], z2, h2, base), update(acc[n + 3], z3, h3, base)
            keep(t, base, turn, 0, j, h0, h1, h2, h3)
            h0, h1, h2, h3 = show(h0), show(h1), show(h2), show(h3)
            emit(y, live, base, frame, group, unit, j, h0, h1, h2, h3)

        return cells

    return _each_row(place.chunk, make)


def _make_peepholes(place: GroupRole) -> Any:
    """read(unit, weights): i, o, f of the unit and of the next."""
    image, kind = place.peepholes, number_of(place)
    if image < 0:

        @inline
        def none(unit, weights):
            zero = kind(0)
            return zero, zero, zero, zero, zero, zero

        return none
    load = load_global_word if kind is U32 else load_global

    @inline
    def read(unit, weights):
        at = add64(weights, U64(image) + U64(unit) * U64(12))
        return (
            load(at),
            load(add64(at, U64(4))),
            load(add64(at, U64(8))),
            load(add64(at, U64(12))),
            load(add64(at, U64(16))),
            load(add64(at, U64(20))),
        )

    return read
