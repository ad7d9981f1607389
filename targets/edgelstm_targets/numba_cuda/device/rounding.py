"""Fixed-point arithmetic of scheme int8-full on words: shifts, saturation, tables of functions.

The formulas stand in `edgelstm_compiler/quant/README.md`; nothing here overflows for numbers that
`quant/fixed_point.py` lets pass.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    dot2_unsigned,
    inline,
    least,
    load_shared_word,
    most,
    mul,
    shift_left,
    shift_right,
    word,
)

ONE = 32768
"""1 in Q0.15."""

_INTERVAL_BITS = 7
_INTERVAL = 1 << _INTERVAL_BITS
_HALF = _INTERVAL // 2
_UNIT = _INTERVAL * (ONE + 1)
_TABLE_CENTRE = 256


def make_rounding_shift(bits: int) -> Any:
    """rs(v): v / 2^bits, rounded half up."""
    if bits == 0:

        @inline
        def keep(value):
            return value

        return keep
    half = 1 << (bits - 1)

    @inline
    def shift(value):
        return shift_right(add(value, U32(half)), U32(bits))

    return shift


def make_clamp(low: int, high: int) -> Any:
    """Within [low, high]."""
    least_word, most_word = word(low), word(high)

    @inline
    def clamp(value):
        return least(most(value, U32(least_word)), U32(most_word))

    return clamp


saturate8 = make_clamp(-128, 127)
saturate16 = make_clamp(-32768, 32767)


@inline
def look_up(table, x):
    """The function of an int16 from the table at an address of shared memory.

    T(x) = (T[i] * (128 - r) + T[i + 1] * r + 64) >> 7, i = (x >> 7) + 256, r = x mod 128.
    """
    return shift_right(_interpolate(table, x, U32(_HALF)), U32(_INTERVAL_BITS))


@inline
def look_up_unit(table, x):
    """A gate in [0, 1] as Q0.15 from T = 2y - 1: (T(x) + 32769) >> 1, in one shift with T's own."""
    return shift_right(_interpolate(table, x, U32(_HALF + _UNIT)), U32(_INTERVAL_BITS + 1))


@inline
def look_up_either(table, x, is_signed):
    """`look_up` or `look_up_unit`, as the lane says.

    Their constants are not chosen by lane: they would stay in registers from frame to frame.
    """
    total = _interpolate(table, x, U32(_HALF))
    gate = shift_right(add(total, U32(_UNIT)), U32(_INTERVAL_BITS + 1))
    return cuda.selp(is_signed, shift_right(total, U32(_INTERVAL_BITS)), gate)


@inline
def _interpolate(table, x, rounding):
    """The sum of products plus `rounding`; entries i and i + 1 stand in one word."""
    index = add(shift_right(x, U32(_INTERVAL_BITS)), U32(_TABLE_CENTRE))
    pair = load_shared_word(add(table, shift_left(index, U32(2))))
    rest = band(x, U32(_INTERVAL - 1))
    # The bytes 128 - r and r.
    shares = add(mul(rest, U32(255)), U32(_INTERVAL))
    return dot2_unsigned(pair, shares, rounding)
