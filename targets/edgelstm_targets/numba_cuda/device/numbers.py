"""From one kind of number to another: what products see of h in the schemes of whole numbers."""

from __future__ import annotations

from typing import Any

from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_targets.numba_cuda.device.elements import same
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    inline,
    mul,
    multiply,
    word_of_float,
)
from edgelstm_targets.numba_cuda.device.rounding import ONE, make_rounding_shift, saturate8
from edgelstm_targets.numba_cuda.pipeline import RecurrentRole
from edgelstm_targets.numba_cuda.precision import Bytes, Integer


def make_show(role: RecurrentRole) -> Any:
    """show(h): the int8 that products see of h (and of r*h); h itself in floating point."""
    match role.precision:
        case Bytes(h_inverse=inverse):

            @inline
            def quantize(h):
                return saturate8(word_of_float(multiply(h, F32(inverse))))

            return quantize
        case Integer(op=op):
            assert isinstance(op, IntegerRecurrent)
            return make_narrow(op)
    return same


def make_narrow(op: IntegerRecurrent) -> Any:
    """narrow(v): h in Q0.15, from -1 to 1, as int8."""
    factor, bits = op.output_multiplier, op.output_shift
    shift, half = make_rounding_shift(bits), 1 << bits >> 1
    ends = [(end * factor + half) >> bits for end in (-ONE, ONE)]
    bound = same if min(ends) >= -128 and max(ends) <= 127 else saturate8

    @inline
    def narrow(value):
        return bound(shift(mul(value, U32(factor))))

    return narrow
