"""Vectors of a group of streams in shared memory: where an element stands in each form.

What a lane makes of a product are the values of two neighbouring units (an even one first) of one
stream, and of the stream 8 further on; other roles make single elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.elements import LOAD_GLOBAL_IF
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    bits_of,
    div,
    inline,
    load_shared,
    load_shared_word,
    mul,
)
from edgelstm_targets.numba_cuda.mma_image import Operand
from edgelstm_targets.numba_cuda.mma_places import Rows


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Bytes of a stream's state, input and output block."""

    state: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class GroupCode:
    """The parts of a role; every one of them a device function.

    Addresses `state`, `x` and `y` are those of the group's first stream.

    Args:
        words: registers that live from prepare to the end, as the array w.
        prepare: (w, t, live, base, weights, state, x), before the first frame.
        step: (w, t, live, base, weights, x, y, frame, frames, x_step), one frame; x is the first
            frame's input, y this frame's output.
        finish: (w, t, live, base, state, frames), after the last frame.
    """

    words: int
    prepare: Any
    step: Any
    finish: Any


@inline
def flag_of(base, stream):
    """1 for a stream of the group that is moved on."""
    return bits_of(load_shared(add(base, mul(stream, U32(4)))))


@inline
def nothing_to_prepare(w, t, live, base, weights, state, x):
    """For roles that keep nothing."""


@inline
def nothing_to_finish(w, t, live, base, state, frames):
    """For roles that keep nothing."""


def make_rows_slot(rows: Rows) -> Any:
    """slot(base, frame): address of a frame's first stream."""
    offset, step, mask = rows.offset, rows.step, rows.mask

    @inline
    def slot(base, frame):
        return add(base, add(U32(offset), mul(band(frame, U32(mask)), U32(step))))

    return slot


def make_operand_place(rows: Rows, operand: Operand) -> Any:
    """place(stream, element): where it stands among the rows of an operand."""
    pitch, each = rows.pitch, operand.value
    item = 4 // each

    @inline
    def place(stream, element):
        row = add(mul(div(stream, U32(16)), U32(8)), band(stream, U32(7)))
        half = band(div(stream, U32(8)), U32(1))
        word = add(mul(div(element, U32(each)), U32(8)), mul(half, U32(4)))
        part = mul(band(element, U32(each - 1)), U32(item))
        return add(mul(row, U32(pitch)), add(word, part))

    return place


def make_element_load(rows: Rows, dtype: DType) -> Any:
    """load(base, frame, stream, element) of rows of elements: float32, or a word."""
    slot, pitch = make_rows_slot(rows), rows.pitch
    load = load_shared if dtype is DType.F32 else load_shared_word

    @inline
    def read(base, frame, stream, element):
        here = add(mul(stream, U32(pitch)), mul(element, U32(4)))
        return load(add(slot(base, frame), here))

    return read


def make_block_load(block_bytes: int, offset: int, dtype: DType) -> Any:
    """load(block, base, stream, element): of an array in the streams' input or state blocks.

    Streams that stand still read zero.
    """
    item, load = dtype.itemsize, LOAD_GLOBAL_IF[dtype]

    @inline
    def read(block, base, stream, element):
        there = U64(stream) * U64(block_bytes) + U64(offset) + U64(element) * U64(item)
        return load(add64(block, there), flag_of(base, stream))

    return read
