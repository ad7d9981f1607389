"""A kernel that looks every int16 up in a table; the tests' only code for the device."""

from __future__ import annotations

from numba.cuda import types

from edgelstm_targets.numba_cuda.chips import CHIPS
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    block_index,
    float_of,
    load_global_word,
    mul,
    shared_base,
    store_global,
    store_shared_word,
    sub,
    thread_index,
)
from edgelstm_targets.numba_cuda.device.rounding import look_up, look_up_either, look_up_unit
from edgelstm_targets.numba_cuda.toolkit import KernelSource, compile_ptx

THREADS = 512
"""Of a block, as many as a table has intervals."""


def compile_table_kernel() -> str:
    """PTX with parameters (table, y): of each x from -32768 on, three words.

    The function, the gate, and the one or the other: the function where x is odd.
    """

    def kernel(table, y):
        t = thread_index()
        base = shared_base()
        interval = load_global_word(add64(table, U64(t) * U64(4)))
        store_shared_word(add(base, mul(t, U32(4))), interval)
        barrier(U32(0), U32(THREADS))
        at = add(mul(block_index(), U32(THREADS)), t)
        x = sub(at, U32(32768))
        is_odd = band(x, U32(1)) == U32(1)
        place = add64(y, U64(at) * U64(12))
        store_global(place, float_of(look_up(base, x)))
        store_global(add64(place, U64(4)), float_of(look_up_unit(base, x)))
        store_global(add64(place, U64(8)), float_of(look_up_either(base, x, is_odd)))

    source = KernelSource(kernel, types.void(U64, U64), "all_values", THREADS)
    return compile_ptx(source, CHIPS[0])
