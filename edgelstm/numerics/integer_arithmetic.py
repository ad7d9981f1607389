"""The integer arithmetic of the quantized operators: shifts, saturation, tables, exact products.

Everything is defined on 32-bit two's complement integers, without overflow by construction, so that
every target gives the same bits. The formulas stand in `edgelstm_compiler/quant/README.md`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TABLE_ENTRIES = 513
"""Samples of a function at every 128th int16, from -32768 to 32768."""

_FLOAT32_EXACT = 1 << 24
_PREPARED: dict[tuple[object, ...], tuple[list[weakref.ref[Array]], Any]] = {}


def rounding_shift(values: Array, bits: int) -> Array:
    """The values / 2^bits, rounded half up: (v + 2^(bits-1)) >> bits."""
    if bits == 0:
        return values
    return (values + (1 << (bits - 1))) >> bits


def bounded(values: Array, low: int, high: int) -> Array:
    """Within [low, high]; np.clip does the same in five times the time."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


def saturate16(values: Array) -> Array:
    """Within [-32768, 32767], still int32."""
    return bounded(values, -32768, 32767)


def saturate8(values: Array) -> Array:
    """Within [-128, 127], still int32."""
    return bounded(values, -128, 127)


def interpolate(table: Array, x: Array) -> Array:
    """A function of an int16, from its table of 513 int16: linear between two entries.

    i = (x >> 7) + 256, r = x & 127, y = T[i] + (((T[i+1] - T[i]) * r + 64) >> 7), all in int32.
    """
    wide = table.astype(np.int32)
    index = (x.astype(np.int32) >> 7) + 256
    rest = x.astype(np.int32) & 127
    low = wide[index]
    return np.asarray(low + (((wide[index + 1] - low) * rest + 64) >> 7))


def look_up(table: Array, x: Array) -> Array:
    """`interpolate` by a table of all 65,536 inputs, made once; x is int32 within int16."""
    return look_up_complete(prepared((table,), "complete", lambda: complete(table)), x)


def complete(table: Array) -> Array:
    """The function of a table at all 65,536 inputs, from -32768 on."""
    return interpolate(table, np.arange(-32768, 32768, dtype=np.int32))


def look_up_complete(values: Array, x: Array) -> Array:
    """The entries of a `complete` table; x is int32 within int16."""
    return np.asarray(values.take(x + 32768))


def unit_gate(values: Array) -> Array:
    """A gate in [0, 1] as Q0.15 (0 to 32768) from t = 2 y - 1 in Q0.15: (t + 32769) >> 1."""
    return (values + 32769) >> 1


def prepared(sources: Sequence[Array], purpose: str, make: Callable[[], Any]) -> Any:
    """What `make` computes from constant arrays, kept as long as they all live.

    Args:
        sources: the arrays; if one is writeable nothing is kept.
        purpose: tells apart what is made of the same arrays.
        make: must not hand out anything that refers to the sources.
    """
    key = (purpose, *map(id, sources))
    found = _PREPARED.get(key)
    if found is not None and all(
        reference() is source for reference, source in zip(found[0], sources, strict=True)
    ):
        return found[1]
    result = make()
    if not any(source.flags.writeable for source in sources):
        references = [weakref.ref(source, lambda _: _PREPARED.pop(key, None)) for source in sources]
        _PREPARED[key] = (references, result)
    return result


def exact_product(x: Array, weights: Array) -> Array:
    """The product x @ weights.T of integers, exact, as int32.

    Computed in floating point, where all sums are integers that it holds exactly: BLAS is many
    times faster than NumPy's integer product.

    Shapes:
        x (..., K) int8 or int16, weights (rows, K) int8 -> (..., rows)
    """
    largest = -int(np.iinfo(x.dtype).min)
    purpose = "int8 product" if largest == 128 else "int16 product"
    return multiply(x, prepared((weights,), purpose, lambda: float_matrix(weights, largest)))


def multiply(x: Array, matrix: Array) -> Array:
    """The product x @ matrix of integers held in the matrix's floating point type, as int32."""
    return np.asarray(np.matmul(x.astype(matrix.dtype), matrix)).astype(np.int32)


def float_matrix(weights: Array, largest: int) -> Array:
    """Weights (rows, K) as (K, rows) of the narrowest float that is exact for |x| <= largest."""
    bound = weights.shape[-1] * 128 * largest
    dtype = np.float32 if bound < _FLOAT32_EXACT else np.float64
    return np.ascontiguousarray(weights.T.astype(dtype))
