"""The role of softmax on whole numbers (scheme int8-full) for a group of streams."""

from __future__ import annotations

from numba import cuda

from edgelstm_targets.numba_cuda.device.integer_softmax import LOWEST, make_terms
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    inline,
    most,
    shuffle_xor_word,
)
from edgelstm_targets.numba_cuda.device.mma_normalization import (
    make_access,
    make_meeting,
    share_lanes,
)
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode, nothing_to_finish
from edgelstm_targets.numba_cuda.device.tables import make_table_load
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import IntegerSoftmaxRole


def make_group_integer_softmax(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """Some neighbouring lanes share a stream."""
    role = place.role
    assert isinstance(role, IntegerSoftmaxRole)
    extent = role.target.extent
    lanes = share_lanes(extent)
    locate, read, store = make_access(placement, place, role, sizes, lanes)
    load_tables = make_table_load(place)
    power, share = make_terms(role, place)
    total_of = make_meeting(lanes, add, shuffle_xor_word)
    largest_of = make_meeting(lanes, most, shuffle_xor_word)
    passes, rounds = -(-placement.group * lanes // place.threads), -(-extent // lanes)

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load_tables(t, base, weights)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        for p in range(passes):
            stream, part, is_mine = locate(t, p)
            top = U32(LOWEST)
            for j in range(rounds):
                top = most(top, read(base, frame, stream, add(part, U32(j * lanes))))
            top = largest_of(top)
            total = U32(0)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = power(read(base, frame, stream, element), top, base)
                total = add(total, cuda.selp(element < U32(extent), value, U32(0)))
            total = total_of(total)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = power(read(base, frame, stream, element), top, base)
                store(base, y, frame, stream, element, share(value, total), is_mine)

    return GroupCode(0, prepare, step, nothing_to_finish)
