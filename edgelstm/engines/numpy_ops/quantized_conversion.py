"""Between floating point and integers: quantize, dequantize, and weights stored in few bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.numerics.integer_arithmetic import prepared
from edgelstm.numerics.products import quantized

Array = NDArray[Any]

GROUP = 32
"""Columns of int4 weights that share a scale."""


def quantize(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """clamp(rint(x * inverse) + zero_point) in the integer type; rint rounds half to even.

    Shapes:
        x (..., K), inverse (1,) or (K,): 1 / scale.
    """
    x, inverse = inputs
    assert x is not None
    assert inverse is not None
    dtype = DType(fields["dtype"]).numpy
    return [quantized(x, inverse, int(fields["zero_point"]), dtype).astype(dtype)]


def saturated(fields: Mapping[str, Any], x: Array, inverse: Array) -> int:
    """How many values lie beyond the range of the integers that `quantize` makes of them."""
    half, zero_point = 1 << (8 * DType(fields["dtype"]).itemsize - 1), int(fields["zero_point"])
    steps, kind = x * inverse, x.dtype.type
    low, high = kind(-half - zero_point), kind(half - 1 - zero_point)
    return int(np.count_nonzero((steps < low) | (steps > high)))


def dequantize(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """float(q - zero_point) * scale, in scale's type.

    Shapes:
        q (..., K), scale (1,) or (K,).
    """
    q, scale = inputs
    assert q is not None
    assert scale is not None
    steps = q.astype(np.int32) - int(fields["zero_point"])
    return [steps.astype(scale.dtype) * scale]


def dequantize_weights(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Weights stored as f16, i8 or i4 in float32.

    Shapes:
        f16: data (..., rows, K). i8: data (..., rows, K), scale (..., rows).
        i4: data (..., rows, ceil(K/2)) uint8, scale (..., rows, ceil(K/32)) float16.
        Result (..., rows, K), its last two axes swapped where `transposed`.
    """
    data, scale = inputs
    assert data is not None
    purpose = f"weights {fields['storage']} {fields['columns']} {fields['transposed']}"
    sources = [array for array in (data, scale) if array is not None]
    return [prepared(sources, purpose, lambda: _restore(fields, data, scale))]


def _restore(fields: Mapping[str, Any], data: Array, scale: Array | None) -> Array:
    storage, columns = fields["storage"], int(fields["columns"])
    if storage == "f16":
        weights = data.astype(np.float32)
    elif storage == "i8":
        assert scale is not None
        weights = data.astype(np.float32) * scale.astype(np.float32)[..., None]
    else:
        assert scale is not None
        steps = unpack_nibbles(data, columns).astype(np.float32)
        wide = np.repeat(scale.astype(np.float32), GROUP, axis=-1)
        weights = steps * wide[..., :columns]
    if fields["transposed"]:
        weights = np.ascontiguousarray(np.swapaxes(weights, -1, -2))
    weights.setflags(write=False)
    return weights


def unpack_nibbles(data: Array, columns: int) -> Array:
    """int4 from bytes: column 2j in the low half, 2j + 1 in the high half, each plus 8."""
    pairs = np.stack([data & 15, data >> 4], axis=-1).astype(np.int8) - np.int8(8)
    flat: Array = pairs.reshape(*data.shape[:-1], 2 * data.shape[-1])
    return flat[..., :columns]
