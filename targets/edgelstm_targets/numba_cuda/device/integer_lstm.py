"""The LSTM cell of scheme int8-full on the lanes of a unit: int8 h, int16 c."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.integer_gates import Gates, make_gates, to_q15
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    inline,
    lane_index,
    load_global_i16,
    mul,
    shift_left,
    shift_right,
    shuffle_word,
    sub,
)
from edgelstm_targets.numba_cuda.device.numbers import make_narrow
from edgelstm_targets.numba_cuda.device.rounding import (
    ONE,
    look_up,
    look_up_either,
    look_up_unit,
    make_clamp,
    make_rounding_shift,
    saturate16,
)
from edgelstm_targets.numba_cuda.places import RolePlace

# Lanes of a unit that hold the sums of ONNX gates i, o, f and the candidate.
_LANE_I, _LANE_O, _LANE_F, _LANE_N = 0, 2, 1, 3

_CELL_FRACTION = 3
"""The exponent of c at which its steps are those of Q3.12, which the output function reads."""


def make_integer_lstm(op: IntegerRecurrent, place: RolePlace) -> Any:
    """update(z, c, lane, unit, units, base, weights) -> (h, c), on all lanes of the unit.

    `z` is this lane's sum before its last shift, c a word, h an int8 as a word.
    c' = clamp(rs(f*c + rs(i*g, exponent), 15)), h' = narrow(rs(o * T(u(c')), 15)).
    """
    assert isinstance(op.cell, LSTM)
    gates = make_gates(op.cell, op.tables, place)
    final = op.sum_shift
    scale_product = make_rounding_shift(op.cell_exponent)
    clamp_cell, narrow = make_clamp(-32767, 32767), make_narrow(op)
    shown = make_table_input(op.cell_exponent)
    output_table = gates.table(2)
    input_forget = op.cell.input_forget

    @inline
    def combine(g, c, lane):
        first = sub(lane_index(), lane)
        i = shuffle_word(g, add(first, U32(_LANE_I)))
        f = shuffle_word(g, add(first, U32(_LANE_F)))
        n = shuffle_word(g, add(first, U32(_LANE_N)))
        if input_forget:
            f = sub(U32(ONE), i)
        return clamp_cell(to_q15(add(mul(f, c), scale_product(mul(i, n)))))

    @inline
    def result(o, after, base):
        return narrow(to_q15(mul(o, look_up(add(base, U32(output_table)), shown(after)))))

    if place.peepholes < 0:
        activate = _make_activation(gates)

        @inline
        def update(z, c, lane, unit, units, base, weights):
            g = activate(shift_right(z, U32(final)), lane, base)
            o = shuffle_word(g, add(sub(lane_index(), lane), U32(_LANE_O)))
            after = combine(g, c, lane)
            return result(o, after, base), after

        return update
    return _with_peepholes(op, place, gates, combine, result)


def _with_peepholes(
    op: IntegerRecurrent, place: RolePlace, gates: Gates, combine: Any, result: Any
) -> Any:
    """The same where i and f see c, and o the new c."""
    peepholes, final = place.peepholes, op.sum_shift
    shift = make_rounding_shift(op.peephole_shift)
    activate, bound, unit_table = _make_activation(gates), gates.bound_unit, gates.table(0)

    @inline
    def update(z, c, lane, unit, units, base, weights):
        at = band(lane, U32(3))
        known = min(unit, units - U32(1))
        row = add64(weights, U64(peepholes) + U64(known) * U64(6))
        p_i = load_global_i16(row)
        p_o = load_global_i16(row + U64(2))
        p_f = load_global_i16(row + U64(4))
        p = cuda.selp(at == U32(_LANE_I), p_i, cuda.selp(at == U32(_LANE_F), p_f, U32(0)))
        total = shift_right(z, U32(final))
        after = combine(activate(add(total, shift(mul(p, c))), lane, base), c, lane)
        seen = bound(add(total, shift(mul(p_o, after))))
        o = look_up_unit(add(base, U32(unit_table)), seen)
        o = shuffle_word(o, add(sub(lane_index(), lane), U32(_LANE_O)))
        return result(o, after, base), after

    return update


def _make_activation(gates: Gates) -> Any:
    """activate(sum, lane, base): the lane's gate or candidate in Q0.15."""
    bound_unit, bound_signed = gates.bound_unit, gates.bound_signed
    unit_table, signed_table = gates.table(0), gates.table(1)

    @inline
    def activate(total, lane, base):
        is_candidate = band(lane, U32(3)) == U32(_LANE_N)
        bounded = cuda.selp(is_candidate, bound_signed(total), bound_unit(total))
        table = cuda.selp(is_candidate, U32(signed_table), U32(unit_table))
        return look_up_either(add(base, table), bounded, is_candidate)

    return activate


def make_table_input(exponent: int) -> Any:
    """u(c): the cell state, whose range is 2^exponent, in Q3.12."""
    steps = exponent - _CELL_FRACTION
    if steps <= 0:
        return make_rounding_shift(-steps)

    @inline
    def widen(c):
        return saturate16(shift_left(c, U32(steps)))

    return widen
