"""Elements of vectors and blocks by their type: float32 as such, int8 and int16 as words."""

from __future__ import annotations

from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    bits_of,
    float_of,
    float_of_word,
    inline,
    load_global,
    load_global_i8,
    load_global_i8_if,
    load_global_i16,
    load_global_i16_if,
    load_global_if,
    load_shared,
    load_shared_i8,
    load_shared_i16,
    load_shared_word,
    mul,
    store_global,
    store_global_i8,
    store_global_i8_if,
    store_global_i16,
    store_global_i16_if,
    store_global_if,
    store_peer_i8_if,
    store_peer_i16_if,
    store_peer_if,
    store_shared,
    store_shared_i8,
    store_shared_i8_if,
    store_shared_i16,
    store_shared_i16_if,
    store_shared_if,
    store_shared_word_if,
    word_of_float,
)
from edgelstm_targets.numba_cuda.places import Ring

F32, I8, I16, I32 = DType.F32, DType.I8, DType.I16, DType.I32

LOAD_SHARED = {F32: load_shared, I8: load_shared_i8, I16: load_shared_i16, I32: load_shared_word}
STORE_SHARED = {F32: store_shared, I8: store_shared_i8, I16: store_shared_i16}
STORE_SHARED_IF = {
    F32: store_shared_if,
    I8: store_shared_i8_if,
    I16: store_shared_i16_if,
    I32: store_shared_word_if,
}
STORE_PEER_IF = {F32: store_peer_if, I8: store_peer_i8_if, I16: store_peer_i16_if}
LOAD_GLOBAL = {F32: load_global, I8: load_global_i8, I16: load_global_i16}
LOAD_GLOBAL_IF = {F32: load_global_if, I8: load_global_i8_if, I16: load_global_i16_if}
STORE_GLOBAL = {F32: store_global, I8: store_global_i8, I16: store_global_i16}
STORE_GLOBAL_IF = {F32: store_global_if, I8: store_global_i8_if, I16: store_global_i16_if}


@inline
def same(value):
    """The argument."""
    return value


BITS_OF = {F32: bits_of, I8: same, I16: same}
"""An element as a word that blocks post to each other."""

FROM_BITS = {F32: float_of, I8: same, I16: same}
"""The inverse of `BITS_OF`."""

AS_FLOAT = {F32: same, I8: float_of_word, I16: float_of_word}
"""What an element-wise chain computes with; whole numbers of 16 bits are exact."""

FROM_FLOAT = {F32: same, I8: word_of_float, I16: word_of_float}
"""The inverse of `AS_FLOAT`."""


def make_slot(ring: Ring) -> Any:
    """slot(base, frame): address of a frame's vector."""
    offset, step, mask = ring.offset, ring.step, ring.mask

    @inline
    def slot(base, frame):
        return add(base, add(U32(offset), mul(band(frame, U32(mask)), U32(step))))

    return slot


def make_element(ring: Ring) -> Any:
    """place(base, frame, element): its address."""
    slot, item = make_slot(ring), ring.dtype.itemsize

    @inline
    def place(base, frame, element):
        return add(slot(base, frame), mul(element, U32(item)))

    return place


def make_block_element(offset: int, dtype: DType) -> Any:
    """place(block, element): address of an element of an array in the input or state block."""
    item = dtype.itemsize

    @inline
    def place(block, element):
        return add64(block, U64(offset) + U64(element) * U64(item))

    return place
