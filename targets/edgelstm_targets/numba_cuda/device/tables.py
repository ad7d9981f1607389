"""Tables of functions of scheme int8-full: from the image into shared memory."""

from __future__ import annotations

from typing import Any

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    inline,
    load_global_word,
    mul,
    store_shared_word,
)
from edgelstm_targets.numba_cuda.image import TABLE_BYTES
from edgelstm_targets.numba_cuda.mma_places import GroupRole
from edgelstm_targets.numba_cuda.places import RolePlace


def make_table_load(place: RolePlace | GroupRole) -> Any:
    """load(t, base, weights): all tables of the role, by its threads."""
    shared, image, threads = place.tables, place.tables_image, place.threads
    words = place.tables_bytes // 4
    if words == 0:

        @inline
        def nothing(t, base, weights):
            pass

        return nothing

    @inline
    def load(t, base, weights):
        at = t
        while at < U32(words):
            value = load_global_word(add64(weights, U64(image) + U64(at) * U64(4)))
            store_shared_word(add(base, add(U32(shared), mul(at, U32(4)))), value)
            at = add(at, U32(threads))

    return load


def table_address(place: RolePlace | GroupRole, index: int) -> int:
    """Where a table of the role begins in shared memory, beyond the base."""
    return place.tables + index * TABLE_BYTES
