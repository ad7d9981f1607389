"""Fixed-point arithmetic of scheme int8-full on words: shifts, saturation, tables of functions.

The formulas stand in `edgelstm_compiler/quant/README.md`; nothing here overflows for numbers that
`quant/fixed_point.py` lets pass.
"""

from __future__ import annotations

from typing import Any

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    inline,
    least,
    load_shared_word,
    most,
    mul,
    shift_left,
    shift_right,
    sub,
    word,
)

ONE = 32768
"""1 in Q0.15."""

_INTERVAL_BITS = 7
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

    Entry i and entry i + 1 stand in one word, i = (x >> 7) + 256; linear between them.
    """
    index = add(shift_right(x, U32(_INTERVAL_BITS)), U32(_TABLE_CENTRE))
    rest = band(x, U32((1 << _INTERVAL_BITS) - 1))
    pair = load_shared_word(add(table, shift_left(index, U32(2))))
    low = shift_right(shift_left(pair, U32(16)), U32(16))
    rise = mul(sub(shift_right(pair, U32(16)), low), rest)
    return add(low, shift_right(add(rise, U32(64)), U32(_INTERVAL_BITS)))


@inline
def unit_gate(value):
    """A gate in [0, 1] as Q0.15 from t = 2y - 1: (t + 32769) >> 1."""
    return shift_right(add(value, U32(ONE + 1)), U32(1))
