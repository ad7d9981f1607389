"""Vectors of a group of streams in shared memory, and their way into the output blocks.

What a lane makes of a product are the values of two neighbouring units (an even one first) of one
stream; other roles make single elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    bits_of,
    div,
    float_of,
    inline,
    load_shared,
    mul,
    pack_halves,
    store_global2_if,
    store_global_if,
    store_half,
    store_shared,
    store_shared2,
)
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, Rows
from edgelstm_targets.numba_cuda.pipeline import Vector


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


def make_pair_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, group, j, unit, v0, v1, v2, v3): a lane's values of row j of 16 streams.

    v0, v1 are units `unit` and the next of stream 16 j + group, v2, v3 those of 8 streams on.
    """
    half = _put_halves(placement.halves.get(vector))
    whole = _put_floats(placement.floats.get(vector))

    @inline
    def put(base, frame, group, j, unit, v0, v1, v2, v3):
        half(base, frame, group, j, unit, v0, v1, v2, v3)
        whole(base, frame, group, j, unit, v0, v1, v2, v3)

    return put


@inline
def _put_nowhere(base, frame, group, j, unit, v0, v1, v2, v3):
    pass


def _put_halves(rows: Rows | None) -> Any:
    if rows is None:
        return _put_nowhere
    slot, pitch = make_rows_slot(rows), rows.pitch

    @inline
    def put(base, frame, group, j, unit, v0, v1, v2, v3):
        row = mul(add(group, mul(j, U32(8))), U32(pitch))
        at = add(slot(base, frame), add(row, mul(unit, U32(4))))
        store_shared2(at, float_of(pack_halves(v0, v1)), float_of(pack_halves(v2, v3)))

    return put


def _put_floats(rows: Rows | None) -> Any:
    if rows is None:
        return _put_nowhere
    slot, pitch = make_rows_slot(rows), rows.pitch

    @inline
    def put(base, frame, group, j, unit, v0, v1, v2, v3):
        row = mul(add(group, mul(j, U32(16))), U32(pitch))
        at = add(slot(base, frame), add(row, mul(unit, U32(4))))
        store_shared2(at, v0, v1)
        store_shared2(add(at, U32(8 * pitch)), v2, v3)

    return put


@inline
def half_place(stream, element, pitch):
    """Where an element of a stream stands among float16 rows."""
    row = add(mul(div(stream, U32(16)), U32(8)), band(stream, U32(7)))
    word = add(mul(div(element, U32(2)), U32(8)), mul(band(div(stream, U32(8)), U32(1)), U32(4)))
    return add(mul(row, U32(pitch)), add(word, mul(band(element, U32(1)), U32(2))))


def make_element_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, stream, element, value): one element, wherever it is read."""
    half = _put_half(placement.halves.get(vector))
    whole = _put_float(placement.floats.get(vector))

    @inline
    def put(base, frame, stream, element, value):
        half(base, frame, stream, element, value)
        whole(base, frame, stream, element, value)

    return put


@inline
def _put_no_element(base, frame, stream, element, value):
    pass


def _put_half(rows: Rows | None) -> Any:
    if rows is None:
        return _put_no_element
    slot, pitch = make_rows_slot(rows), rows.pitch

    @inline
    def put(base, frame, stream, element, value):
        store_half(add(slot(base, frame), half_place(stream, element, pitch)), value)

    return put


def _put_float(rows: Rows | None) -> Any:
    if rows is None:
        return _put_no_element
    slot, pitch = make_rows_slot(rows), rows.pitch

    @inline
    def put(base, frame, stream, element, value):
        at = add(mul(stream, U32(pitch)), mul(element, U32(4)))
        store_shared(add(slot(base, frame), at), value)

    return put


def make_word_put(placement: GroupPlacement, vector: Vector) -> Any:
    """put(base, frame, stream, element, low, high): two neighbours, the first one even."""
    rows, whole = placement.halves.get(vector), _put_float(placement.floats.get(vector))
    if rows is None:

        @inline
        def put_each(base, frame, stream, element, low, high):
            whole(base, frame, stream, element, low)
            whole(base, frame, stream, add(element, U32(1)), high)

        return put_each
    slot, pitch = make_rows_slot(rows), rows.pitch

    @inline
    def put_word(base, frame, stream, element, low, high):
        at = add(slot(base, frame), half_place(stream, element, pitch))
        store_shared(at, float_of(pack_halves(low, high)))
        whole(base, frame, stream, element, low)
        whole(base, frame, stream, add(element, U32(1)), high)

    return put_word


def make_pair_output(outputs: tuple[int, ...], extent: int, padded: int, sizes: BlockSizes) -> Any:
    """write(at, unit, low, high, flag): two units to wherever they are wanted.

    `at` is the output block of the stream plus 4 * unit; units are below `padded`.
    """
    if not outputs:

        @inline
        def nowhere(at, unit, low, high, flag):
            pass

        return nowhere
    rest, offset = make_pair_output(outputs[1:], extent, padded, sizes), outputs[0]
    is_whole = extent == padded
    if extent % 2 == 0 and offset % 8 == 0 and sizes.outputs % 8 == 0:

        @inline
        def write(at, unit, low, high, flag):
            mine = flag
            if not is_whole:
                mine = flag & U32(unit < U32(extent))
            store_global2_if(add64(at, U64(offset)), low, high, mine)
            rest(at, unit, low, high, flag)

        return write

    @inline
    def write_each(at, unit, low, high, flag):
        store_global_if(add64(at, U64(offset)), low, flag & U32(unit < U32(extent)))
        following = add(unit, U32(1))
        store_global_if(add64(at, U64(offset + 4)), high, flag & U32(following < U32(extent)))
        rest(at, unit, low, high, flag)

    return write_each


def make_element_output(outputs: tuple[int, ...], sizes: BlockSizes) -> Any:
    """write(y, base, stream, element, value): to wherever it is wanted, if the stream moves on."""
    if not outputs:

        @inline
        def nowhere(y, base, stream, element, value):
            pass

        return nowhere
    rest, offset = make_element_output(outputs[1:], sizes), outputs[0]
    output_bytes = sizes.outputs

    @inline
    def write(y, base, stream, element, value):
        there = U64(stream) * U64(output_bytes) + U64(offset) + U64(element) * U64(4)
        store_global_if(add64(y, there), value, flag_of(base, stream))
        rest(y, base, stream, element, value)

    return write
