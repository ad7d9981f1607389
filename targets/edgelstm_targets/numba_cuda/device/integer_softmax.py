"""The role of softmax on whole numbers (scheme int8-full): one warp."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.elements import (
    LOAD_SHARED,
    STORE_SHARED_IF,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    div,
    inline,
    least,
    most,
    mul,
    shift_left,
    shift_right,
    shuffle_xor_word,
    sub,
    word,
)
from edgelstm_targets.numba_cuda.device.output import make_output
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode
from edgelstm_targets.numba_cuda.device.rounding import look_up_unit, make_rounding_shift
from edgelstm_targets.numba_cuda.device.tables import make_table_load, table_address
from edgelstm_targets.numba_cuda.pipeline import IntegerSoftmaxRole
from edgelstm_targets.numba_cuda.places import Placement, RolePlace, RoleThreads

_WARP = 32
LOWEST = word(-32768)
"""Of an int16, as a word."""


def make_terms(role: IntegerSoftmaxRole, place: RoleThreads) -> tuple[Any, Any]:
    """Both halves of E = unit(T(max(rs((x - top) * multiplier), -32768))), (E * 2^15 + s / 2) / s.

    Returns:
        power(x, top, base) -> E, and share(power, total) -> that part of the total, in Q0.15.
    """
    scaled, table, multiplier = (
        make_rounding_shift(role.shift),
        table_address(place, 0),
        role.multiplier,
    )

    @inline
    def power(x, top, base):
        below = most(scaled(mul(sub(x, top), U32(multiplier))), U32(LOWEST))
        return look_up_unit(add(base, U32(table)), below)

    @inline
    def share(value, total):
        numerator = add(shift_left(value, U32(15)), shift_right(total, U32(1)))
        return least(div(numerator, total), U32(32767))

    return power, share


def make_integer_softmax(placement: Placement, place: RolePlace) -> RoleCode:
    """Lanes of a warp share the vector."""
    role = place.role
    assert isinstance(role, IntegerSoftmaxRole)
    extent = role.target.extent
    rounds = -(-extent // _WARP)
    source, target = placement.rings[role.x], placement.rings[role.target]
    at, load = make_element(source), LOAD_SHARED[source.dtype]
    there, store = make_element(target), STORE_SHARED_IF[target.dtype]
    write = make_output(role.outputs, target.dtype)
    load_tables = make_table_load(place)
    power, share = make_terms(role, place)

    @inline
    def power_of(base, frame, element, top):
        return power(load(at(base, frame, min(element, U32(extent - 1)))), top, base)

    @inline
    def prepare(w, t, rank, base, weights, state, x):
        load_tables(t, base, weights)

    @inline
    def step(w, t, rank, base, weights, x, y, mail, tag, frame, frames, x_step):
        top = U32(LOWEST)
        for j in range(rounds):
            element = min(add(t, U32(j * _WARP)), U32(extent - 1))
            top = most(top, load(at(base, frame, element)))
        for k in range(5):
            top = most(top, shuffle_xor_word(top, U32(16 >> k)))
        total = U32(0)
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            value = power_of(base, frame, element, top)
            total = add(total, cuda.selp(element < U32(extent), value, U32(0)))
        for k in range(5):
            total = add(total, shuffle_xor_word(total, U32(16 >> k)))
        for j in range(rounds):
            element = add(t, U32(j * _WARP))
            part = share(power_of(base, frame, element, top), total)
            mine = element < U32(extent)
            store(there(base, frame, element), part, U32(mine))
            write(y, element, part, U32(mine & (rank == U32(0))))

    @inline
    def finish(t, rank, base, state, frames):
        pass

    return RoleCode(1, prepare, step, finish)
