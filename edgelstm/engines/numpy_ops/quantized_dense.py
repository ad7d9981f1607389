"""Scheme int8-full outside of the cells: dense layers and softmax in integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.numerics.integer_arithmetic import (
    bounded,
    exact_product,
    look_up,
    rounding_shift,
    saturate16,
    unit_gate,
)

Array = NDArray[Any]


def integer_dense(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """clamp((rs(w x, x_shift) * multiplier + bias) >> sum_shift), or a table's function of it.

    Shapes:
        x (..., K) int8 or int16, w (N, K) int8, bias (N,) int32, multiplier (N,) int16,
        table (513,) int16 or None -> (..., N)
    """
    x, w, bias, multiplier, table = inputs
    assert x is not None
    assert w is not None
    assert bias is not None
    assert multiplier is not None
    sums = rounding_shift(exact_product(x, w), fields["x_shift"])
    values = (sums * multiplier.astype(np.int32) + bias) >> int(fields["sum_shift"])
    if table is not None:
        values = look_up(table, saturate16(values))
        if fields["is_unit"]:
            values = unit_gate(values)
    within = bounded(values, fields["low"], fields["high"])
    return [within.astype(DType(fields["dtype"]).numpy)]


def integer_softmax(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Probabilities in Q0.15 (int16, at most 32767) of int16 logits.

    e = unit(T[max((x - max(x)) * multiplier >> shift, -32768)]), p = (e * 2^15 + s / 2) / s for
    the sum s; both divisions round down (no operand is negative).

    Shapes:
        x (...) int16, table (513,) int16: 2 exp(v) - 1 of v in Q4.11, v <= 0.
    """
    x, table = inputs
    assert x is not None
    assert table is not None
    axis = int(fields["axis"])
    wide = x.astype(np.int32)
    below = wide - wide.max(axis=axis, keepdims=True)
    scaled = rounding_shift(below * np.int32(fields["multiplier"]), int(fields["shift"]))
    powers = unit_gate(look_up(table, np.maximum(scaled, -32768)))
    total = powers.sum(axis=axis, keepdims=True, dtype=np.int32)
    shares = ((powers << 15) + (total >> 1)) // total
    return [np.minimum(shares, 32767).astype(np.int16)]
