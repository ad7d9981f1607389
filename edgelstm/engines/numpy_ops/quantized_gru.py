"""The integer GRU cell of scheme int8-full: int16 h that products see as int8, int16 gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.quantized_integer import rounding_shift, saturate16
from edgelstm.engines.numpy_ops.quantized_recurrence import IntegerCell, run_integer_layer
from edgelstm.engines.numpy_ops.recurrence import States, Step

Array = NDArray[Any]
Z, R, N = range(3)
RECURRENT_N = 3
"""The accumulator of the candidate's recurrent part, where it stands apart."""


def integer_gru(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y (int8) and Y_h (int16) of a layer; `IntegerGRU` in the compiler's ir tells more."""
    is_linear = bool(fields["cell"]["linear_before_reset"])
    return run_integer_layer(
        fields,
        inputs,
        functions=2,
        state_types=(np.int16,),
        make_step=_linear_cell if is_linear else _cell,
        spread=partial(_spread, is_linear),
        show=lambda cell, h: cell.narrowed(h.astype(np.int32)),
    )


def _spread(is_linear: bool, products: Array) -> Array:
    """The products of x; the candidate's recurrent part has none."""
    if not is_linear:
        return products
    hidden = products.shape[-1] // 3
    return np.concatenate([products, np.zeros_like(products[..., :hidden])], axis=-1)


def _mixed(cell: IntegerCell, z: Array, n: Array, h: Array) -> States:
    """((2^15 - z) n + z h) / 2^15, rounded."""
    mixed = rounding_shift((32768 - z) * n + z * h, 15)
    return (saturate16(mixed).astype(np.int16),)


def _linear_cell(cell: IntegerCell) -> Step:
    """linear_before_reset: n = g(Wn x + r (Rn h + Rbn) + Wbn)."""
    shift = int(cell.fields["sum_shift"])

    def step(products: Array, states: States) -> States:
        h = states[0].astype(np.int32)
        recurrent = cell.recurrent_sums(cell.narrowed(h))
        gates = cell.gate(products, Z, R) + cell.gate(recurrent, Z, R)
        z_r = cell.unit(0, gates >> shift)
        z, r = cell.gate(z_r, Z), cell.gate(z_r, R)
        inner = saturate16((cell.gate(products, RECURRENT_N) + cell.gate(recurrent, N)) >> shift)
        sums = (cell.gate(products, N) >> shift) + rounding_shift(r * inner, 15)
        return _mixed(cell, z, cell.signed(1, sums), h)

    return step


def _cell(cell: IntegerCell) -> Step:
    """The default: n = g(Wn x + Rn (r h) + b)."""
    shift = int(cell.fields["sum_shift"])

    def step(products: Array, states: States) -> States:
        h = states[0].astype(np.int32)
        gates = cell.gate(products, Z, R)
        recurrent = cell.recurrent_sums(cell.narrowed(h))
        z_r = cell.unit(0, (gates + cell.gate(recurrent, Z, R)) >> shift)
        z, r = cell.gate(z_r, Z), cell.gate(z_r, R)
        reset_h = cell.narrowed(rounding_shift(r * h, 15))
        inner = cell.gate(cell.recurrent_sums(reset_h), N)
        sums = (cell.gate(products, N) + inner) >> shift
        return _mixed(cell, z, cell.signed(1, sums), h)

    return step
