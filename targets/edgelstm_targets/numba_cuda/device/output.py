"""Writes what a role makes into the output block."""

from __future__ import annotations

from typing import Any

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.elements import STORE_GLOBAL_IF
from edgelstm_targets.numba_cuda.device.intrinsics import U64, add64, inline


def make_output(offsets: tuple[int, ...], dtype: DType = DType.F32) -> Any:
    """write(y, element, value, flag): to wherever it is wanted, unless the flag is 0."""
    if not offsets:

        @inline
        def nowhere(y, element, value, flag):
            pass

        return nowhere
    rest = make_output(offsets[1:], dtype)
    offset, item, store = offsets[0], dtype.itemsize, STORE_GLOBAL_IF[dtype]

    @inline
    def write(y, element, value, flag):
        store(add64(y, U64(offset) + U64(element) * U64(item)), value, flag)
        rest(y, element, value, flag)

    return write
