"""Cells of scheme int8-full on the sums of one unit and stream; see `mma_cells.py`.

Everything is a word: sums before their last shift, an int16 c or h that the lane carries, the int8
h that all others see. The arithmetic is that of `edgelstm_compiler/quant/README.md`.
"""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.integer_gates import Gates, make_gates, to_q15
from edgelstm_targets.numba_cuda.device.integer_gru import mix
from edgelstm_targets.numba_cuda.device.integer_lstm import make_table_input
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    inline,
    mul,
    shift_right,
    sub,
)
from edgelstm_targets.numba_cuda.device.numbers import make_narrow
from edgelstm_targets.numba_cuda.device.rounding import (
    ONE,
    look_up,
    look_up_unit,
    make_clamp,
    make_rounding_shift,
    saturate16,
)
from edgelstm_targets.numba_cuda.mma_places import GroupRole


def make_integer_lstm_update(op: IntegerRecurrent, place: GroupRole) -> Any:
    """As `mma_cells.make_lstm_update`."""
    cell = op.cell
    assert isinstance(cell, LSTM)
    gates = make_gates(cell, op.tables, place)
    unit, signed = _make_functions(gates)
    output_table, final = gates.table(2), op.sum_shift
    scale_product, clamp_cell = make_rounding_shift(op.cell_exponent), make_clamp(-32767, 32767)
    shown, narrow = make_table_input(op.cell_exponent), make_narrow(op)
    has_peepholes, coupled = place.peepholes >= 0, cell.input_forget
    seen = make_rounding_shift(op.peephole_shift)

    @inline
    def update(i_sum, o_sum, f_sum, n_sum, c, p_i, p_o, p_f, base):
        i_sum, o_sum = shift_right(i_sum, U32(final)), shift_right(o_sum, U32(final))
        f_sum, n_sum = shift_right(f_sum, U32(final)), shift_right(n_sum, U32(final))
        if has_peepholes:
            i_sum = add(i_sum, seen(mul(p_i, c)))
            f_sum = add(f_sum, seen(mul(p_f, c)))
        i = unit(i_sum, base)
        f = sub(U32(ONE), i) if coupled else unit(f_sum, base)
        product = scale_product(mul(i, signed(n_sum, base)))
        after = clamp_cell(to_q15(add(mul(f, c), product)))
        if has_peepholes:
            o_sum = add(o_sum, seen(mul(p_o, after)))
        h = mul(unit(o_sum, base), look_up(add(base, U32(output_table)), shown(after)))
        return narrow(to_q15(h)), after

    return update


def make_integer_gru_update(op: IntegerRecurrent, place: GroupRole) -> Any:
    """As `mma_cells.make_gru_update`."""
    unit, signed = _make_functions(make_gates(op.cell, op.tables, place))
    final, narrow = op.sum_shift, make_narrow(op)

    @inline
    def update(z_sum, r_sum, n_input, n_recurrent, h, p_i, p_o, p_f, base):
        z = unit(shift_right(z_sum, U32(final)), base)
        r = unit(shift_right(r_sum, U32(final)), base)
        inner = saturate16(shift_right(n_recurrent, U32(final)))
        n = signed(add(shift_right(n_input, U32(final)), to_q15(mul(r, inner))), base)
        after = mix(z, n, h)
        return narrow(after), after

    return update


def make_integer_gru_phases(op: IntegerRecurrent, place: GroupRole) -> tuple[Any, Any, Any]:
    """A GRU that resets before its product; as of `make_gru_before`."""
    unit, signed = _make_functions(make_gates(op.cell, op.tables, place))
    final, narrow = op.sum_shift, make_narrow(op)

    @inline
    def gates(z_sum, r_sum, base):
        z = unit(shift_right(z_sum, U32(final)), base)
        return z, unit(shift_right(r_sum, U32(final)), base)

    @inline
    def reset(r, h):
        return narrow(to_q15(mul(r, h)))

    @inline
    def update(n_sum, z, h, base):
        return mix(z, signed(shift_right(n_sum, U32(final)), base), h)

    return gates, reset, update


def _make_functions(gates: Gates) -> tuple[Any, Any]:
    """unit(sum, base), a gate in Q0.15, and signed(sum, base), a candidate."""
    bound_unit, bound_signed = gates.bound_unit, gates.bound_signed
    unit_table, signed_table = gates.table(0), gates.table(1)

    @inline
    def unit(total, base):
        return look_up_unit(add(base, U32(unit_table)), bound_unit(total))

    @inline
    def signed(total, base):
        return look_up(add(base, U32(signed_table)), bound_signed(total))

    return unit, signed
