"""States of a recurrent layer for a group of streams: between launches, and from frame to frame.

What only products read (h of an LSTM or RNN) goes back as it stands in shared memory. In float16 it
is rounded: the next launch rounds it the same way, so that a chunk is the same as its steps. What a
cell carries itself (c, or h of a GRU) stays in words of 32 bits with its lane.
"""

from __future__ import annotations

from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.cells import HAND_PLACED, Carried
from edgelstm_targets.numba_cuda.device.elements import (
    LOAD_GLOBAL_IF,
    STORE_GLOBAL_IF,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    div,
    inline,
    load_half,
    load_shared4,
    load_shared_i8,
    load_shared_word4,
    mul,
    rem,
    store_shared4,
    store_shared_word4,
)
from edgelstm_targets.numba_cuda.device.mma_outputs import make_element_output
from edgelstm_targets.numba_cuda.device.mma_puts import make_element_put
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    make_block_load,
    make_element_load,
    make_operand_place,
    make_rows_slot,
)
from edgelstm_targets.numba_cuda.device.mma_sums import number_of
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.mma_image import Operand
from edgelstm_targets.numba_cuda.mma_places import ROWS, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole, Vector

_BEFORE = 0xFFFFFFFF
"""The frame in front of frame 0."""


def make_cell_access(place: GroupRole, group: int) -> tuple[Any, Any]:
    """What a lane carries for itself, four values at a time: those of the sums of one row.

    Returns:
        get(t, base, turn, slot, j) and keep(t, base, turn, slot, j, v0, v1, v2, v3): value `slot`
        (0: the state, 1: the update gate) in row j of the warp's tile `turn`.
    """
    rows, threads, at, slots = group // ROWS, place.threads, place.cells_at, place.slots
    row_bytes = threads * 16
    is_word = number_of(place) is U32
    load, store = (
        (load_shared_word4, store_shared_word4) if is_word else (load_shared4, store_shared4)
    )

    @inline
    def address(t, base, turn, slot, j):
        index = add(mul(add(mul(turn, U32(slots)), U32(slot)), U32(rows)), j)
        return add(add(base, add(U32(at), mul(t, U32(16)))), mul(index, U32(row_bytes)))

    @inline
    def get(t, base, turn, slot, j):
        return load(address(t, base, turn, slot, j))

    @inline
    def keep(t, base, turn, slot, j, v0, v1, v2, v3):
        store(address(t, base, turn, slot, j), v0, v1, v2, v3)

    return get, keep


def make_group_states(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> Any:
    """start(t, live, base, state) and finish(t, live, base, state, frames) of a layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    start_h, kept = _make_start(placement, place, role, sizes), role.cell
    if HAND_PLACED[type(role.kernel.op)].carried is Carried.HIDDEN:
        kept = role.target if role.memory is None else role.memory
        finish_h = _finish_nothing
    else:
        finish_h = _make_finish(placement, place, role.target, sizes)
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
        finish_h(t, base, state, frames)
        finish_cell(t, live, base, state)

    return start, finish


@inline
def _finish_nothing(t, base, state, frames):
    pass


def _make_start(
    placement: GroupPlacement, place: GroupRole, role: RecurrentRole, sizes: BlockSizes
) -> Any:
    """start(t, base, state): h before the first frame, in all forms in which it is read."""
    held = role.target if role.memory is None else role.memory
    load = make_block_load(sizes.state, held.state_offset or 0, held.dtype)
    extent, threads = held.extent, place.threads
    elements = placement.group * extent
    # Of a memory of their own others see the target; of a float h products see bytes.
    shown = role.target if role.memory is not None else role.factor
    put = make_element_put(placement, held)
    put_shown, show = make_element_put(placement, shown or held), make_show(role)
    has_shown = shown is not None

    @inline
    def start(t, base, state):
        at = t
        while at < U32(elements):
            stream, unit = div(at, U32(extent)), rem(at, U32(extent))
            value = load(state, base, stream, unit)
            put(base, U32(_BEFORE), stream, unit, value)
            if has_shown:
                put_shown(base, U32(_BEFORE), stream, unit, show(value))
            at = add(at, U32(threads))

    return start


def _make_finish(
    placement: GroupPlacement, place: GroupRole, vector: Vector, sizes: BlockSizes
) -> Any:
    """finish(t, base, state, frames): a vector that stands in shared memory, back to its block."""
    load = _make_vector_load(placement, vector)
    write = make_element_output((vector.state_offset or 0,), vector.dtype, sizes.state)
    extent, threads = vector.extent, place.threads
    elements = placement.group * extent

    @inline
    def finish(t, base, state, frames):
        last, at = frames - U32(1), t
        while at < U32(elements):
            stream, unit = div(at, U32(extent)), rem(at, U32(extent))
            write(state, base, stream, unit, load(base, last, stream, unit))
            at = add(at, U32(threads))

    return finish


def _make_vector_load(placement: GroupPlacement, vector: Vector) -> Any:
    """load(base, frame, stream, element): from its elements, or else from what products read."""
    if vector in placement.elements:
        return make_element_load(placement.elements[vector], vector.dtype)
    rows = placement.operands[vector]
    is_float = vector.dtype is DType.F32
    slot = make_rows_slot(rows)
    place = make_operand_place(rows, Operand.HALVES if is_float else Operand.BYTES)
    load_one = load_half if is_float else load_shared_i8

    @inline
    def load(base, frame, stream, element):
        return load_one(add(slot(base, frame), place(stream, element)))

    return load


def _make_carried(
    placement: GroupPlacement, place: GroupRole, vector: Vector, sizes: BlockSizes
) -> tuple[Any, Any]:
    """The values that lanes carry."""
    get, keep = make_cell_access(place, placement.group)
    offset, extent, state_bytes = vector.state_offset or 0, vector.extent, sizes.state
    rows, passes, warps = placement.group // ROWS, place.passes, place.threads // 32
    item, load, store = (
        vector.dtype.itemsize,
        LOAD_GLOBAL_IF[vector.dtype],
        STORE_GLOBAL_IF[vector.dtype],
    )

    @inline
    def places(t, live, state, p, j):
        """Addresses and flags of (stream, unit), (stream, unit + 1); 8 streams on; both flags."""
        lane = band(t, U32(31))
        tile = add(div(t, U32(32)), U32(p * warps))
        unit = add(mul(tile, U32(8)), mul(band(lane, U32(3)), U32(2)))
        stream = add(div(lane, U32(4)), U32(j * ROWS))
        near = add64(state, U64(stream) * U64(state_bytes) + U64(offset) + U64(unit) * U64(item))
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
                v0, v1 = load(near, f0), load(add64(near, U64(item)), f1)
                v2, v3 = load(far, f2), load(add64(far, U64(item)), f3)
                keep(t, base, U32(p), 0, U32(j), v0, v1, v2, v3)

    @inline
    def finish(t, live, base, state):
        for p in range(passes):
            for j in range(rows):
                near, f0, f1, f2, f3 = places(t, live, state, p, j)
                far = add64(near, U64(8 * state_bytes))
                v0, v1, v2, v3 = get(t, base, U32(p), 0, U32(j))
                store(near, v0, f0)
                store(add64(near, U64(item)), v1, f1)
                store(far, v2, f2)
                store(add64(far, U64(item)), v3, f3)

    return start, finish
