"""Words that go from the image to shared memory: tables of functions, biases, scales."""

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
from edgelstm_targets.numba_cuda.image import TABLE_BYTES, SharedWords
from edgelstm_targets.numba_cuda.places import RoleThreads


def make_words_load(words: SharedWords, threads: int) -> Any:
    """load(t, base, weights): all of them, by so many threads."""
    image, shared, count = words.image, words.shared, words.nbytes // 4

    @inline
    def load(t, base, weights):
        at = t
        while at < U32(count):
            value = load_global_word(add64(weights, U64(image) + U64(at) * U64(4)))
            store_shared_word(add(base, add(U32(shared), mul(at, U32(4)))), value)
            at = add(at, U32(threads))

    return load


def make_table_load(place: RoleThreads) -> Any:
    """load(t, base, weights): all tables of the role, by its threads."""
    if place.tables is None:

        @inline
        def nothing(t, base, weights):
            pass

        return nothing
    return make_words_load(place.tables, place.threads)


def table_address(place: RoleThreads, index: int) -> int:
    """Where a table of the role begins in shared memory, beyond the base."""
    assert place.tables is not None
    return place.tables.shared + index * TABLE_BYTES
