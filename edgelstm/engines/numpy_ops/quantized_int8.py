"""Scheme int8 outside of the cells: dense layers with products of int8 weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.numerics.activations import activate
from edgelstm.numerics.integer_arithmetic import prepared
from edgelstm.numerics.products import Int8Weights

Array = NDArray[Any]


def int8_dense(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """activation(float(q(x) @ w) * scale + b).

    Shapes:
        x (..., K), w (N, K) int8, b (N,) or None, scale (N,), inverse (K,) -> (..., N).
    """
    x, w, b, scale, inverse = inputs
    assert x is not None
    assert w is not None
    assert scale is not None
    assert inverse is not None
    zero_point, x_dtype = int(fields["x_zero_point"]), fields["x_dtype"]
    weights: Int8Weights = prepared(
        (w, scale, inverse),
        f"matrix {x_dtype} {zero_point}",
        lambda: Int8Weights.of(w, scale, inverse, zero_point, DType(x_dtype).numpy),
    )
    y = weights.product(x)
    if b is not None:
        y = y + b
    activation = fields["activation"]
    return [y if activation is None else activate(activation, y)]
