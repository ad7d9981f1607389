"""The integer LSTM cell of scheme int8-full: int8 h, int16 c, int16 gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.quantized_integer import (
    bounded,
    look_up_complete,
    rounding_shift,
    saturate16,
)
from edgelstm.engines.numpy_ops.quantized_recurrence import (
    SIGNED_FRACTION,
    IntegerCell,
    run_integer_layer,
)
from edgelstm.engines.numpy_ops.recurrence import States, Step

Array = NDArray[Any]
I, O, F, G = range(4)  # noqa: E741 - ONNX's names


def integer_lstm(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y, Y_h (int8) and Y_c (int16) of a layer; `IntegerLSTM` in the compiler's ir tells more."""
    return run_integer_layer(
        fields,
        inputs,
        functions=3,
        state_types=(np.int8, np.int16),
        make_step=_cell,
        spread=lambda products: products,
        show=lambda cell, h: h,
    )


def to_table_input(c: Array, exponent: int) -> Array:
    """The cell state, whose range is 2^exponent, in the format that h() reads (Q3.12)."""
    steps = exponent - (15 - SIGNED_FRACTION)
    if steps < 0:
        return rounding_shift(c, -steps)
    return saturate16(c << steps)


def _cell(cell: IntegerCell) -> Step:
    fields, peepholes = cell.fields, cell.peepholes
    shift, exponent = int(fields["sum_shift"]), int(fields["cell_exponent"])
    input_forget = bool(fields["cell"]["input_forget"])

    def peep(gate: int, sums: Array, c: Array) -> Array:
        if peepholes is None:
            return sums
        weighted = cell.gate(peepholes, (I, O, F).index(gate)) * c
        return sums + rounding_shift(weighted, fields["peephole_shift"])

    def step(products: Array, states: States) -> States:
        h, c = states[0], states[1].astype(np.int32)
        sums = (products + cell.recurrent_sums(h)) >> shift
        if peepholes is None:
            gates = cell.unit(0, cell.gate(sums, I, F))
            i, f = cell.gate(gates, I), cell.gate(gates, F)
        else:
            i = cell.unit(0, peep(I, cell.gate(sums, I), c))
            f = cell.unit(0, peep(F, cell.gate(sums, F), c))
        if input_forget:
            f = 32768 - i
        g = cell.signed(1, cell.gate(sums, G))
        new_c = rounding_shift(f * c + rounding_shift(i * g, exponent), 15)
        new_c = bounded(new_c, -32767, 32767)
        if peepholes is None:
            o = cell.gate(gates, O)
        else:
            o = cell.unit(0, peep(O, cell.gate(sums, O), new_c))
        shown = look_up_complete(cell.functions[2], to_table_input(new_c, exponent))
        return cell.narrowed(rounding_shift(o * shown, 15)), new_c.astype(np.int16)

    return step
