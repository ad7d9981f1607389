"""Fixed-point arithmetic of scheme int8-full on words: shifts, saturation, tables of functions.

The formulas stand in `edgelstm_compiler/quant/README.md`; nothing here overflows for numbers that
`quant/fixed_point.py` lets pass.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.elements import same
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    assembly,
    band,
    dot2_unsigned,
    inline,
    load_shared_word,
    mul,
    shift_left,
    shift_right,
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
        return same
    half = 1 << (bits - 1)
    text = f"{{ .reg .s32 t; add.s32 t, $1, {half}; shr.s32 $0, t, {bits}; }}"
    return assembly(f"shift_{bits}", text, U32, (U32,), effect=False)


def make_clamp(low: int, high: int) -> Any:
    """Within [low, high]."""
    text = f"{{ .reg .s32 t; max.s32 t, $1, {low}; min.s32 $0, t, {high}; }}"
    return assembly("clamp", text, U32, (U32,), effect=False)


saturate8 = make_clamp(-128, 127)
saturate16 = make_clamp(-32768, 32767)


def _make_look_up(name: str, rounding: int, bits: int) -> Any:
    # Entries i and i + 1 stand in one word; 128 - r and r are the bytes of 128 + 255 r.
    text = f"""{{ .reg .s32 i; .reg .s32 r; .reg .s32 p;
        shr.s32 i, $2, {_INTERVAL_BITS}; mad.lo.s32 i, i, 4, $1;
        ld.shared.b32 p, [i+{4 * _TABLE_CENTRE}];
        and.b32 r, $2, {_INTERVAL - 1}; mad.lo.s32 r, r, 255, {_INTERVAL};
        dp2a.lo.s32.u32 p, p, r, {rounding}; shr.s32 $0, p, {bits}; }}"""
    return assembly(name, text, U32, (U32, U32), memory=False)


look_up = _make_look_up("look_up", _HALF, _INTERVAL_BITS)
"""look_up(table, x): the function of an int16 from the table at an address of shared memory.

T(x) = (T[i] * (128 - r) + T[i + 1] * r + 64) >> 7, i = (x >> 7) + 256, r = x mod 128.
"""

look_up_unit = _make_look_up("look_up_unit", _HALF + _UNIT, _INTERVAL_BITS + 1)
"""A gate in [0, 1] as Q0.15 from T = 2y - 1: (T(x) + 32769) >> 1, in one shift with T's own."""


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
