"""Writes what roles make into the rows of vectors, in every form in which it is read there."""

from __future__ import annotations

from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    band,
    div,
    float_of,
    inline,
    mul,
    pack_halves,
    permute,
    shift_right,
    store_half,
    store_shared,
    store_shared2,
    store_shared_i8,
    store_shared_i16,
    store_shared_word,
    store_shared_word2,
)
from edgelstm_targets.numba_cuda.device.mma_rows import make_operand_place, make_rows_slot
from edgelstm_targets.numba_cuda.mma_image import Operand
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, Rows
from edgelstm_targets.numba_cuda.pipeline import Vector

_LOW_BYTES, _HIGH_BYTES = 0x40, 0x51
"""Selectors: the lowest bytes of two words side by side, and the bytes above them."""


def make_pair_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, group, j, unit, v0, v1, v2, v3): a lane's values of row j of 16 streams.

    v0, v1 are units `unit` and the next of stream 16 j + group, v2, v3 those of 8 streams on.
    """
    operand = make_operand_pair_put(placement.operands.get(vector), vector.dtype)
    element = _put_element_pairs(placement.elements.get(vector), vector.dtype)

    @inline
    def put(base, frame, group, j, unit, v0, v1, v2, v3):
        operand(base, frame, group, j, unit, v0, v1, v2, v3)
        element(base, frame, group, j, unit, v0, v1, v2, v3)

    return put


@inline
def _put_nowhere(base, frame, group, j, unit, v0, v1, v2, v3):
    pass


def make_operand_pair_put(rows: Rows | None, dtype: DType) -> Any:
    """The same, into the rows of an operand alone."""
    if rows is None:
        return _put_nowhere
    slot, pitch, low = make_rows_slot(rows), rows.pitch, rows.low
    if dtype is DType.F32:

        @inline
        def put_halves(base, frame, group, j, unit, v0, v1, v2, v3):
            row = mul(add(group, mul(j, U32(8))), U32(pitch))
            at = add(slot(base, frame), add(row, mul(unit, U32(4))))
            store_shared2(at, float_of(pack_halves(v0, v1)), float_of(pack_halves(v2, v3)))

        return put_halves

    @inline
    def place(base, frame, group, j, unit):
        row = mul(add(group, mul(j, U32(8))), U32(pitch))
        within = add(mul(div(unit, U32(4)), U32(8)), band(unit, U32(2)))
        return add(slot(base, frame), add(row, within))

    if dtype is DType.I8:

        @inline
        def put_bytes(base, frame, group, j, unit, v0, v1, v2, v3):
            at = place(base, frame, group, j, unit)
            store_shared_i16(at, permute(v0, v1, U32(_LOW_BYTES)))
            store_shared_i16(add(at, U32(4)), permute(v2, v3, U32(_LOW_BYTES)))

        return put_bytes

    @inline
    def put_planes(base, frame, group, j, unit, v0, v1, v2, v3):
        at = place(base, frame, group, j, unit)
        store_shared_i16(at, permute(v0, v1, U32(_HIGH_BYTES)))
        store_shared_i16(add(at, U32(4)), permute(v2, v3, U32(_HIGH_BYTES)))
        store_shared_i16(add(at, U32(low)), permute(v0, v1, U32(_LOW_BYTES)))
        store_shared_i16(add(at, U32(low + 4)), permute(v2, v3, U32(_LOW_BYTES)))

    return put_planes


def _put_element_pairs(rows: Rows | None, dtype: DType) -> Any:
    if rows is None:
        return _put_nowhere
    slot, pitch = make_rows_slot(rows), rows.pitch
    store = store_shared2 if dtype is DType.F32 else store_shared_word2

    @inline
    def put(base, frame, group, j, unit, v0, v1, v2, v3):
        row = mul(add(group, mul(j, U32(16))), U32(pitch))
        at = add(slot(base, frame), add(row, mul(unit, U32(4))))
        store(at, v0, v1)
        store(add(at, U32(8 * pitch)), v2, v3)

    return put


def make_element_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, stream, element, value): one element, wherever it is read."""
    operand = make_operand_put(placement.operands.get(vector), vector.dtype)
    whole = _put_element(placement.elements.get(vector), vector.dtype)

    @inline
    def put(base, frame, stream, element, value):
        operand(base, frame, stream, element, value)
        whole(base, frame, stream, element, value)

    return put


@inline
def _put_no_element(base, frame, stream, element, value):
    pass


def make_operand_put(rows: Rows | None, dtype: DType) -> Any:
    """The same, into the rows of an operand alone."""
    if rows is None:
        return _put_no_element
    slot, low = make_rows_slot(rows), rows.low
    if dtype is DType.F32:
        half_place = make_operand_place(rows, Operand.HALVES)

        @inline
        def put_half(base, frame, stream, element, value):
            store_half(add(slot(base, frame), half_place(stream, element)), value)

        return put_half
    place = make_operand_place(rows, Operand.BYTES)

    @inline
    def put_byte(base, frame, stream, element, value):
        store_shared_i8(add(slot(base, frame), place(stream, element)), value)

    if dtype is DType.I8:
        return put_byte

    @inline
    def put_planes(base, frame, stream, element, value):
        at = add(slot(base, frame), place(stream, element))
        store_shared_i8(at, shift_right(value, U32(8)))
        store_shared_i8(add(at, U32(low)), value)

    return put_planes


def _put_element(rows: Rows | None, dtype: DType) -> Any:
    if rows is None:
        return _put_no_element
    slot, pitch = make_rows_slot(rows), rows.pitch
    store = store_shared if dtype is DType.F32 else store_shared_word

    @inline
    def put(base, frame, stream, element, value):
        at = add(mul(stream, U32(pitch)), mul(element, U32(4)))
        store(add(slot(base, frame), at), value)

    return put


def make_neighbours_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, stream, element, low, high): two neighbours, the first one even."""
    rows, dtype = placement.operands.get(vector), vector.dtype
    whole = _put_element(placement.elements.get(vector), dtype)
    operand = _put_operand_neighbours(rows, dtype)

    @inline
    def put(base, frame, stream, element, low, high):
        operand(base, frame, stream, element, low, high)
        whole(base, frame, stream, element, low)
        whole(base, frame, stream, add(element, U32(1)), high)

    return put


def _put_operand_neighbours(rows: Rows | None, dtype: DType) -> Any:
    if rows is None:

        @inline
        def nowhere(base, frame, stream, element, low, high):
            pass

        return nowhere
    slot, plane = make_rows_slot(rows), rows.low
    if dtype is DType.F32:
        half_place = make_operand_place(rows, Operand.HALVES)

        @inline
        def put_halves(base, frame, stream, element, low, high):
            at = add(slot(base, frame), half_place(stream, element))
            store_shared(at, float_of(pack_halves(low, high)))

        return put_halves
    place = make_operand_place(rows, Operand.BYTES)
    if dtype is DType.I8:

        @inline
        def put_bytes(base, frame, stream, element, low, high):
            at = add(slot(base, frame), place(stream, element))
            store_shared_i16(at, permute(low, high, U32(_LOW_BYTES)))

        return put_bytes

    @inline
    def put_planes(base, frame, stream, element, low, high):
        at = add(slot(base, frame), place(stream, element))
        store_shared_i16(at, permute(low, high, U32(_HIGH_BYTES)))
        store_shared_i16(add(at, U32(plane)), permute(low, high, U32(_LOW_BYTES)))

    return put_planes
