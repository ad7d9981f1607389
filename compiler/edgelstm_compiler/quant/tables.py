"""Tables of activation functions for integer layers, and which functions they can hold."""

from __future__ import annotations

import numpy as np

from edgelstm.numerics.activations import activate
from edgelstm.numerics.integers import SIGNED_FRACTION, UNIT_FRACTION
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import Unary
from edgelstm_compiler.ir.ops.quantized_integer import TABLE_ENTRIES
from edgelstm_compiler.ir.types import Array

SETTLED = 2.0**-10
"""How much a function may still change beyond the fixed-point range of its input."""

_FAR = 1e6


def function_values(activation: Activation, x: Array) -> Array:
    """The function in float64."""
    return activate(op_fields(Unary(activation))["activation"], x)


def unit_table(activation: Activation) -> Array:
    """2 f(x) - 1 in Q0.15 over x in Q4.11, for a function into [0, 1]."""
    return _table(2.0 * function_values(activation, _grid(UNIT_FRACTION)) - 1.0)


def signed_table(activation: Activation) -> Array:
    """f(x) in Q0.15 over x in Q3.12, for a function into [-1, 1]."""
    return _table(function_values(activation, _grid(SIGNED_FRACTION)))


def exponential_table() -> Array:
    """2 exp(x) - 1 in Q0.15 over x in Q4.11, 1 for positive x."""
    return _table(2.0 * np.exp(np.minimum(_grid(UNIT_FRACTION), 1.0)) - 1.0)


def why_no_unit_table(activation: Activation) -> str | None:
    """Why the function cannot be a gate in integers; None if it can."""
    return _why_not(activation, UNIT_FRACTION, 0.0)


def why_no_signed_table(activation: Activation) -> str | None:
    """Why the function cannot be a candidate or output function in integers; None if it can."""
    return _why_not(activation, SIGNED_FRACTION, -1.0)


def _why_not(activation: Activation, fraction: int, lowest: float) -> str | None:
    if activation.fn in (Fn.RELU, Fn.AFFINE, Fn.LEAKY_RELU, Fn.ELU, Fn.SOFTPLUS):
        return f"activation {activation.fn.value} has no bounds, integer gates have"
    if activation.fn is Fn.THRESHOLDED_RELU:
        return "activation thresholded_relu has no bounds, integer gates have"
    limit = 2.0 ** (15 - fraction)
    y = function_values(activation, np.linspace(-limit, limit, 4097))
    far = function_values(activation, np.array([-_FAR, _FAR]))
    if min(y.min(), far.min()) < lowest - 1e-6 or max(y.max(), far.max()) > 1.0 + 1e-6:
        return f"activation {activation} leaves [{lowest:g}, 1], the range of integer gates"
    if abs(far[0] - y[0]) > SETTLED or abs(far[1] - y[-1]) > SETTLED:
        return f"activation {activation} does not settle within +-{limit:g}, the fixed-point range"
    return None


def _grid(fraction: int) -> Array:
    """X of the table's entries and, between them, of the middles: 1025 points."""
    return np.arange(-32768, 32769, 64) / 2.0**fraction


def _table(values: Array) -> Array:
    """Entries such that the error of the straight lines lies on both sides of zero."""
    entries, middles = values[0::2], values[1::2]
    bend = middles - (entries[:-1] + entries[1:]) / 2
    moved = entries.copy()
    moved[1:-1] += (bend[:-1] + bend[1:]) / 4
    steps = np.rint(moved * 32768.0)
    table: Array = np.clip(steps, -32768, 32767).astype(np.int16)
    assert table.shape == (TABLE_ENTRIES,)
    return table
