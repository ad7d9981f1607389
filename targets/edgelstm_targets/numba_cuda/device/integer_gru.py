"""The GRU cell of scheme int8-full on the lanes of a unit: int16 h, which products see as int8."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.integer_gates import make_gates, to_q15
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    inline,
    lane_index,
    mul,
    shift_right,
    shuffle_word,
    sub,
)
from edgelstm_targets.numba_cuda.device.numbers import make_narrow
from edgelstm_targets.numba_cuda.device.rounding import (
    ONE,
    look_up,
    look_up_unit,
    saturate16,
)
from edgelstm_targets.numba_cuda.places import RolePlace


@inline
def mix(z, n, h):
    """((2^15 - z) n + z h) / 2^15, rounded; between n and h, and so within int16."""
    return to_q15(add(mul(sub(U32(ONE), z), n), mul(z, h)))


def make_integer_gru_after(op: IntegerRecurrent, place: RolePlace) -> Any:
    """update(sums, h, lane, base) -> h: the reset gate scales the recurrent product.

    Lanes 0, 1, 2, 3 hold the sums of z, of the candidate's input part, of r, and of its recurrent
    part.  n = T(b(sum_n + rs(r * sat16(sum_m), 15)))
    """
    gates = make_gates(op.cell, op.tables, place)
    bound_unit, bound_signed = gates.bound_unit, gates.bound_signed
    unit_table, signed_table, final = gates.table(0), gates.table(1), op.sum_shift

    @inline
    def update(sums, h, lane, base):
        total = shift_right(sums, U32(final))
        gate = look_up_unit(add(base, U32(unit_table)), bound_unit(total))
        value = cuda.selp(band(lane, U32(1)) == U32(0), gate, total)
        first = sub(lane_index(), lane)
        z = shuffle_word(value, first)
        n_input = shuffle_word(value, add(first, U32(1)))
        r = shuffle_word(value, add(first, U32(2)))
        inner = saturate16(shuffle_word(value, add(first, U32(3))))
        seen = bound_signed(add(n_input, to_q15(mul(r, inner))))
        return mix(z, look_up(add(base, U32(signed_table)), seen), h)

    return update


def make_integer_gru_before(op: IntegerRecurrent, place: RolePlace) -> tuple[Any, Any, Any]:
    """The two phases where the reset gate scales the hidden state.

    Returns:
        gates(sums, lane, base) -> (z, r): lanes 0 and 1 hold their sums;
        reset(r, h): r*h as products see it;
        update(sums, z, h, base) -> h: all lanes hold the candidate's sum.
    """
    found = make_gates(op.cell, op.tables, place)
    bound_unit, bound_signed = found.bound_unit, found.bound_signed
    unit_table, signed_table, final = found.table(0), found.table(1), op.sum_shift
    narrow = make_narrow(op)

    @inline
    def gates(sums, lane, base):
        total = bound_unit(shift_right(sums, U32(final)))
        value = look_up_unit(add(base, U32(unit_table)), total)
        first = sub(lane_index(), lane)
        z = shuffle_word(value, first)
        r = shuffle_word(value, add(first, U32(1)))
        return z, r

    @inline
    def reset(r, h):
        return narrow(to_q15(mul(r, h)))

    @inline
    def update(sums, z, h, base):
        seen = bound_signed(shift_right(sums, U32(final)))
        return mix(z, look_up(add(base, U32(signed_table)), seen), h)

    return gates, reset, update
