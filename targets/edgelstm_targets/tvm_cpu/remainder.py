"""Remainders of float32 by long division of the mantissas: exact, without a library or a divider.

a = m 2^e and b = n 2^f with whole m, n below 2^24. Where |a| >= |b|, m 2^(e - f) mod n is found bit
by bit, as many bits as m has and e - f zeros behind them; the remainder is that times 2^f.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.layout import broadcast_index
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_FRACTION_BITS, _HIDDEN = 23, 1 << 23
_MAGNITUDE, _INFINITY, _NAN = 0x7FFFFFFF, 0x7F800000, 0x7FC00000


def remainder_function(name: str, inputs: Sequence[TensorType], output: TensorType) -> Function:
    """A - b trunc(a / b) with broadcasting, on the bits of the numbers.

    Raises:
        CapabilityError: elements other than float32.
    """
    if output.dtype is not DType.F32:
        raise CapabilityError(
            f"CPU targets compute remainders of f32 only, found {output.dtype.value}"
        )

    def body(a: Buffer, b: Buffer, y: Buffer) -> None:
        rest = tir.local(1, "int32")
        with tir.nest(output.shape) as (indices, number):
            first, second = (
                tir.name(buffer[_place(kind, output, indices)])
                for buffer, kind in zip((a, b), inputs, strict=True)
            )
            x, z = (tir.name(bits & tir.integer(_MAGNITUDE)) for bits in (first, second))
            tir.store(rest, 0, x)  # as it stands where it is the smaller one
            with tir.when(x >= z):
                tir.store(rest, 0, tir.integer(0))
                _divide(x, z, rest)
                tir.store(rest, 0, _scaled(rest[0], z))
            is_undefined = tirx.any(
                z == tir.integer(0), x >= tir.integer(_INFINITY), z > tir.integer(_INFINITY)
            )
            found = rest[0] | (first & tir.integer(-(1 << 31)))
            tir.store(y, number, tirx.Select(is_undefined, tir.integer(_NAN), found))

    parameters = [Parameter(operand, "int32") for operand in ("a", "b", "y")]
    return tir.define(name, parameters, body)


def _divide(x: Expr, z: Expr, rest: Buffer) -> None:
    """Leave m 2^(e - f) mod n in `rest`, which holds 0."""
    m, n = (tir.name(_mantissa(bits)) for bits in (x, z))
    count = tir.name(_exponent(x) - _exponent(z) + tir.integer(_FRACTION_BITS + 1))
    with tir.loop(count) as i:
        is_of_m = i <= tir.integer(_FRACTION_BITS)
        place = tirx.max(tir.integer(0), tir.integer(_FRACTION_BITS) - i)
        bit = tirx.Select(is_of_m, (m >> place) & tir.integer(1), tir.integer(0))
        twice = tir.name((rest[0] << tir.integer(1)) | bit)
        tir.store(rest, 0, tirx.Select(twice >= n, twice - n, twice))


def _scaled(rest: Expr, z: Expr) -> Expr:
    """The bits of rest * 2^f; both factors and the result are exact."""
    whole = tirx.Cast("float32", rest) * tirx.const(2.0**-_FRACTION_BITS, "float32")
    power = tirx.reinterpret("float32", _exponent(z) << tir.integer(_FRACTION_BITS))
    return tirx.reinterpret("int32", whole * power)


def _exponent(bits: Expr) -> Expr:
    """Of a magnitude; numbers below the normal ones share the exponent of the smallest."""
    return tirx.max(bits >> tir.integer(_FRACTION_BITS), tir.integer(1))


def _mantissa(bits: Expr) -> Expr:
    fraction = bits & tir.integer(_HIDDEN - 1)
    return tirx.Select(bits >= tir.integer(_HIDDEN), fraction | tir.integer(_HIDDEN), fraction)


def _place(kind: TensorType, output: TensorType, indices: Sequence[Expr]) -> Expr:
    """Where a row-major operand holds what the output's indices read."""
    place: Expr = tir.integer(0)
    own = broadcast_index(kind, output, indices)
    for axis, index in enumerate(own if kind.shape else ()):
        place = place + index * math.prod(kind.shape[axis + 1 :])
    return place
