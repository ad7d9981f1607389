"""Scheme int8: products of int8 weights with statically quantized activations, the rest in float.

The cells are those of the float operators: only their products are other ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops.activations import activate
from edgelstm.engines.numpy_ops.gru import gru
from edgelstm.engines.numpy_ops.lstm import lstm
from edgelstm.engines.numpy_ops.quantized_conversion import quantized
from edgelstm.engines.numpy_ops.quantized_integer import float_matrix, multiply, prepared
from edgelstm.engines.numpy_ops.rnn import rnn

Array = NDArray[Any]
_Cell = Callable[[Mapping[str, Any], Sequence[Any]], list[Array]]


class _Matrix:
    """Integer weights (rows, K) with a scale per row, multiplied by what it first quantizes.

    `x @ matrix` is float(sum of q(x) w) * scale: an exact int32 sum, converted and scaled.
    """

    # ndarray leaves the product to __rmatmul__.
    __array_ufunc__ = None

    def __init__(
        self, weights: Array, scale: Array, inverse: Array, zero_point: int, dtype: np.dtype[Any]
    ) -> None:
        self._weights = weights
        self._scale = scale
        self._inverse = inverse
        self._zero_point = zero_point
        self._dtype = dtype

    @classmethod
    def of(
        cls, q: Array, scale: Array, inverse: Array, zero_point: int, dtype: np.dtype[Any]
    ) -> _Matrix:
        """From weights (rows, K) in int8."""
        matrix = float_matrix(q, -int(np.iinfo(dtype).min))
        return cls(matrix, scale.copy(), inverse.copy(), zero_point, dtype)

    @property
    def T(self) -> _Matrix:  # noqa: N802 - NumPy's name
        """The same: weights stand as (rows, K), and products are with their transpose."""
        return self

    def __getitem__(self, key: tuple[Any, slice]) -> _Matrix:
        columns = key[1]
        return _Matrix(
            self._weights[:, columns],
            self._scale[columns],
            self._inverse,
            self._zero_point,
            self._dtype,
        )

    def __rmatmul__(self, x: Array) -> Array:
        q = quantized(x, self._inverse.astype(x.dtype), self._zero_point, self._dtype)
        sums = multiply(q, self._weights).astype(x.dtype)
        return np.asarray(sums * self._scale.astype(x.dtype))


class _Directions:
    """The matrices of all directions, in the place of W or R."""

    def __init__(self, shape: tuple[int, ...], matrices: Sequence[_Matrix]) -> None:
        self.shape = shape
        self._matrices = matrices

    def __getitem__(self, direction: int) -> _Matrix:
        return self._matrices[direction]


def int8_lstm(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """LSTM with integer products."""
    return _recurrent(lstm, fields, inputs)


def int8_gru(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """GRU with integer products."""
    return _recurrent(gru, fields, inputs)


def int8_rnn(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """RNN with integer products."""
    return _recurrent(rnn, fields, inputs)


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
    matrix = prepared(
        (w, scale, inverse),
        f"matrix {x_dtype} {zero_point}",
        lambda: _Matrix.of(w, scale, inverse, zero_point, DType(x_dtype).numpy),
    )
    y = x @ matrix
    if b is not None:
        y = y + b
    activation = fields["activation"]
    return [y if activation is None else activate(activation, y)]


def _recurrent(
    cell: _Cell, fields: Mapping[str, Any], inputs: Sequence[Array | None]
) -> list[Array]:
    x, w, r, b, lens, initial_h, initial_c, p, w_scale, r_scale, x_inverse = inputs
    assert x is not None
    assert w is not None
    assert r is not None
    assert w_scale is not None
    assert r_scale is not None
    assert x_inverse is not None
    h_inverse = np.array([fields["h_inverse"]], np.float32)
    zero_point, x_dtype = int(fields["x_zero_point"]), fields["x_dtype"]
    input_weights = prepared(
        (w, w_scale, x_inverse),
        f"directions {x_dtype} {zero_point}",
        lambda: _directions(w, w_scale, x_inverse, zero_point, x_dtype),
    )
    recurrent = prepared(
        (r, r_scale),
        f"directions {fields['h_inverse']!r}",
        lambda: _directions(r, r_scale, h_inverse, 0, "i8"),
    )
    return cell(fields["cell"], [x, input_weights, recurrent, b, lens, initial_h, initial_c, p])


def _directions(
    weights: Array, scale: Array, inverse: Array, zero_point: int, dtype: str
) -> _Directions:
    kind = DType(dtype).numpy
    matrices = [
        _Matrix.of(q, s, inverse, zero_point, kind) for q, s in zip(weights, scale, strict=True)
    ]
    return _Directions(weights.shape, matrices)
