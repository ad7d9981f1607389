"""What a group of streams writes into their output blocks; those that stand still write nothing."""

from __future__ import annotations

from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.elements import STORE_GLOBAL_IF
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    inline,
    store_global2_if,
)
from edgelstm_targets.numba_cuda.device.mma_rows import flag_of


def make_pair_output(
    outputs: tuple[int, ...], dtype: DType, extent: int, padded: int, block_bytes: int
) -> Any:
    """write(block, unit, low, high, flag): two units of a stream to wherever they are wanted.

    `block` is the output block of the stream; units are below `padded`.
    """
    if not outputs:

        @inline
        def nowhere(block, unit, low, high, flag):
            pass

        return nowhere
    rest, offset = make_pair_output(outputs[1:], dtype, extent, padded, block_bytes), outputs[0]
    is_whole, item, store = extent == padded, dtype.itemsize, STORE_GLOBAL_IF[dtype]
    if dtype is DType.F32 and extent % 2 == 0 and offset % 8 == 0 and block_bytes % 8 == 0:

        @inline
        def write(block, unit, low, high, flag):
            mine = flag
            if not is_whole:
                mine = flag & U32(unit < U32(extent))
            store_global2_if(add64(block, U64(offset) + U64(unit) * U64(4)), low, high, mine)
            rest(block, unit, low, high, flag)

        return write

    @inline
    def write_each(block, unit, low, high, flag):
        at, after = add64(block, U64(offset) + U64(unit) * U64(item)), add(unit, U32(1))
        store(at, low, flag & U32(unit < U32(extent)))
        store(add64(at, U64(item)), high, flag & U32(after < U32(extent)))
        rest(block, unit, low, high, flag)

    return write_each


def make_element_output(outputs: tuple[int, ...], dtype: DType, block_bytes: int) -> Any:
    """write(y, base, stream, element, value): to wherever it is wanted, if the stream moves on.

    `y` is the first stream's block, and `block_bytes` its size.
    """
    if not outputs:

        @inline
        def nowhere(y, base, stream, element, value):
            pass

        return nowhere
    rest, offset = make_element_output(outputs[1:], dtype, block_bytes), outputs[0]
    item, store = dtype.itemsize, STORE_GLOBAL_IF[dtype]

    @inline
    def write(y, base, stream, element, value):
        there = U64(stream) * U64(block_bytes) + U64(offset) + U64(element) * U64(item)
        store(add64(y, there), value, flag_of(base, stream))
        rest(y, base, stream, element, value)

    return write
