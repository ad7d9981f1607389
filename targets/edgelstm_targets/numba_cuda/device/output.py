"""Writes what a role makes into the output block."""

from __future__ import annotations

from typing import Any

from edgelstm_targets.numba_cuda.device.intrinsics import U64, add64, inline, store_global_if


def make_output(offsets: tuple[int, ...]) -> Any:
    """write(y, element, value, flag): to wherever it is wanted, unless the flag is 0."""
    if not offsets:

        @inline
        def nowhere(y, element, value, flag):
            pass

        return nowhere
    rest = make_output(offsets[1:])
    offset = offsets[0]

    @inline
    def write(y, element, value, flag):
        store_global_if(add64(y, U64(offset) + U64(element) * U64(4)), value, flag)
        rest(y, element, value, flag)

    return write
