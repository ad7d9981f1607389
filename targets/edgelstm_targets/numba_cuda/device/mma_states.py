"""States of a recurrent layer for a group of streams: between launches, and from frame to frame.

What only products read (h of an LSTM or RNN) goes back as it stands in shared memory, rounded to
float16: the next launch rounds it the same way, so that a chunk is the same as its steps. What a
cell carries itself stays float32.
"""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.ops import GRU
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    div,
    inline,
    load_global_if,
    load_half,
    load_shared4,
    mul,
    rem,
    store_global_if,
    store_half,
    store_shared4,
)
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    flag_of,
    half_place,
    make_rows_slot,
)
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole, Vector


def make_cell_access(place: GroupRole, group: int) -> tuple[Any, Any]:
    """What a lane carries for itself, four values at a time: those of the sums of one row.

    Returns:
        get(t, base, turn, slot, j) and keep(t, base, turn, slot, j, v0, v1, v2, v3): value `slot`
        (0: the state, 1: the update gate) in row j of the warp's tile `turn`.
    """
    rows, threads, at, slots = group // ROWS, place.threads, place.cells_at, place.slots
    row_bytes = threads * 16

    @inline
    def address(t, base, turn, slot, j):
        index = add(mul(add(mul(turn, U32(slots)), U32(slot)), U32(rows)), j)
        return add(add(base, add(U32(at), mul(t, U32(16)))), mul(index, U32(row_bytes)))

    @inline
    def get(t, base, turn, slot, j):
        return load_shared4(address(t, base, turn, slot, j))

    @inline
    def keep(t, base, turn, slot, j, v0, v1, v2, v3):
        store_shared4(address(t, base, turn, slot, j), v0, v1, v2, v3)

    return get, keep


def make_group_states(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> Any:
    """start(t, live, base, state) and finish(t, live, base, state, frames) of a layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    is_gru = isinstance(role.kernel.op, GRU)
    start_h, finish_h = _make_vector(placement, place, role.target, sizes)
    kept = role.target if is_gru else role.cell
    if kept is None:

        @inline
        def start_vector(t, live, base, state):
            start_h(t, base, state)

        @inline
        def finish_vector(t, live, base, state, frames):
            finish_h(t, base, state, frames)

        return start_vector, finish_vector
    start_cell, finish_cell = _make_carried(placement, place, kept, sizes)

    @inline
    def start(t, live, base, state):
        start_h(t, base, state)
        start_cell(t, live, base, state)

    @inline
    def finish(t, live, base, state, frames):
        if not is_gru:
            finish_h(t, base, state, frames)
        finish_cell(t, live, base, state)

    return start, finish


def _make_vector(
    placement: GroupPlacement, place: GroupRole, vector: Vector, sizes: BlockSizes
) -> tuple[Any, Any]:
    """The vector that products read."""
    rows = placement.halves[vector]
    slot, pitch, threads = make_rows_slot(rows), rows.pitch, place.threads
    offset, extent, state_bytes = vector.state_offset or 0, vector.extent, sizes.state
    elements = placement.group * extent

    @inline
    def start(t, base, state):
        here, at = slot(base, U32(0xFFFFFFFF)), t
        while at < U32(elements):
            stream, unit = div(at, U32(extent)), rem(at, U32(extent))
            there = U64(stream) * U64(state_bytes) + U64(offset) + U64(unit) * U64(4)
            value = load_global_if(add64(state, there), flag_of(base, stream))
            store_half(add(here, half_place(stream, unit, pitch)), value)
            at = add(at, U32(threads))

    @inline
    def finish(t, base, state, frames):
        here, at = slot(base, frames - U32(1)), t
        while at < U32(elements):
            stream, unit = div(at, U32(extent)), rem(at, U32(extent))
            there = U64(stream) * U64(state_bytes) + U64(offset) + U64(unit) * U64(4)
            value = load_half(add(here, half_place(stream, unit, pitch)))
            store_global_if(add64(state, there), value, flag_of(base, stream))
            at = add(at, U32(threads))

    return start, finish


def _make_carried(
    placement: GroupPlacement, place: GroupRole, vector: Vector, sizes: BlockSizes
) -> tuple[Any, Any]:
    """The values that lanes carry."""
    get, keep = make_cell_access(place, placement.group)
    offset, extent, state_bytes = vector.state_offset or 0, vector.extent, sizes.state
    rows, passes, warps = placement.group // ROWS, place.passes, place.threads // 32

    @inline
    def places(t, live, state, p, j):
        """Addresses and flags of (stream, unit), (stream, unit + 1); 8 streams on; both flags."""
        lane = band(t, U32(31))
        tile = add(div(t, U32(32)), U32(p * warps))
        unit = add(mul(tile, U32(8)), mul(band(lane, U32(3)), U32(2)))
        stream = add(div(lane, U32(4)), U32(j * ROWS))
        near = add64(state, U64(stream) * U64(state_bytes) + U64(offset) + U64(unit) * U64(4))
        low = U32(band(live, U32(1 << (2 * j))) != U32(0))
        high = U32(band(live, U32(2 << (2 * j))) != U32(0))
        even, odd = U32(unit < U32(extent)), U32(add(unit, U32(1)) < U32(extent))
        return near, low & even, low & odd, high & even, high & odd

    @inline
    def start(t, live, base, state):
        for p in range(passes):
            for j in range(rows):
                near, f0, f1, f2, f3 = places(t, live, state, p, j)
                far = add64(near, U64(8 * state_bytes))
                v0, v1 = load_global_if(near, f0), load_global_if(add64(near, U64(4)), f1)
                v2, v3 = load_global_if(far, f2), load_global_if(add64(far, U64(4)), f3)
                keep(t, base, U32(p), 0, U32(j), v0, v1, v2, v3)

    @inline
    def finish(t, live, base, state):
        for p in range(passes):
            for j in range(rows):
                near, f0, f1, f2, f3 = places(t, live, state, p, j)
                far = add64(near, U64(8 * state_bytes))
                v0, v1, v2, v3 = get(t, base, U32(p), 0, U32(j))
                store_global_if(near, v0, f0)
                store_global_if(add64(near, U64(4)), v1, f1)
                store_global_if(far, v2, f2)
                store_global_if(add64(far, U64(4)), v3, f3)

    return start, finish
