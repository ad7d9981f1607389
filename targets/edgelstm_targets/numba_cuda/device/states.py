"""The states of a recurrent layer: out of the state block before the first frame, and back."""

from __future__ import annotations

from typing import Any

from edgelstm_targets.numba_cuda.device.elements import (
    LOAD_GLOBAL,
    LOAD_SHARED,
    STORE_GLOBAL,
    STORE_SHARED,
    make_block_element,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import U32, add, inline, mul
from edgelstm_targets.numba_cuda.device.numbers import make_show
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole, Vector
from edgelstm_targets.numba_cuda.places import Placement, RolePlace

_BEFORE = 0xFFFFFFFF
"""The frame in front of frame 0."""


def make_states(placement: Placement, place: RolePlace) -> tuple[Any, Any]:
    """start(t, base, state) and finish(t, rank, base, state, frames) for all states of a layer."""
    role = place.role
    assert isinstance(role, RecurrentRole)
    remembered = role.target if role.memory is None else role.memory
    seen = role.factor if role.memory is None else role.target
    start, finish = _make_state(placement, place, remembered)
    if seen is not None:
        start = _both(start, _make_seen(placement, place, role, remembered, seen))
    if role.cell is None:
        return start, finish
    start_cell, finish_cell = _make_state(placement, place, role.cell)

    @inline
    def finish_both(t, rank, base, state, frames):
        finish(t, rank, base, state, frames)
        finish_cell(t, rank, base, state, frames)

    return _both(start, start_cell), finish_both


def _both(first: Any, second: Any) -> Any:
    @inline
    def start_both(t, base, state):
        first(t, base, state)
        second(t, base, state)

    return start_both


def _make_state(placement: Placement, place: RolePlace, vector: Vector) -> tuple[Any, Any]:
    """Every block reads the whole state and writes the units that are its own."""
    element_of, dtype = make_element(placement.rings[vector]), vector.dtype
    outside = make_block_element(vector.state_offset or 0, dtype)
    read, keep = LOAD_GLOBAL[dtype], STORE_SHARED[dtype]
    fetch, write = LOAD_SHARED[dtype], STORE_GLOBAL[dtype]
    extent, threads = vector.extent, place.threads
    own = place.passes * place.tile
    rounds, own_rounds = -(-extent // threads), -(-own // threads)

    @inline
    def start(t, base, state):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                value = read(outside(state, element))
                keep(element_of(base, U32(_BEFORE), element), value)

    @inline
    def finish(t, rank, base, state, frames):
        for j in range(own_rounds):
            mine = add(t, U32(j * threads))
            element = add(mul(rank, U32(own)), mine)
            if (mine < U32(own)) & (element < U32(extent)):
                value = fetch(element_of(base, frames - U32(1), element))
                write(outside(state, element), value)

    return start, finish


def _make_seen(
    placement: Placement, place: RolePlace, role: RecurrentRole, vector: Vector, seen: Vector
) -> Any:
    """What products see of the state before the first frame."""
    element_of, show = make_element(placement.rings[seen]), make_show(role)
    outside = make_block_element(vector.state_offset or 0, vector.dtype)
    read, keep = LOAD_GLOBAL[vector.dtype], STORE_SHARED[seen.dtype]
    extent, threads = vector.extent, place.threads
    rounds = -(-extent // threads)

    @inline
    def start(t, base, state):
        for j in range(rounds):
            element = add(t, U32(j * threads))
            if element < U32(extent):
                value = show(read(outside(state, element)))
                keep(element_of(base, U32(_BEFORE), element), value)

    return start
