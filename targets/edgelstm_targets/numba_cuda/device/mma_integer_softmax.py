"""The role of softmax on whole numbers (scheme int8-full) for a group of streams."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    add,
    div,
    inline,
    least,
    most,
    mul,
    shift_left,
    shift_right,
    shuffle_xor_word,
    sub,
    word,
)
from edgelstm_targets.numba_cuda.device.mma_normalization import make_access, share_lanes
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode, nothing_to_finish
from edgelstm_targets.numba_cuda.device.rounding import look_up_unit, make_rounding_shift
from edgelstm_targets.numba_cuda.device.tables import make_table_load, table_address
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import IntegerSoftmaxRole

_LOWEST = word(-32768)


def make_group_integer_softmax(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """The formula of `integer_softmax.py`; lanes share a stream."""
    role = place.role
    assert isinstance(role, IntegerSoftmaxRole)
    extent, multiplier = role.target.extent, role.multiplier
    lanes = share_lanes(extent)
    locate, read, store = make_access(placement, place, role, sizes, lanes)
    load_tables, table = make_table_load(place), table_address(place, 0)
    scaled = make_rounding_shift(role.shift)
    total_of, largest_of = _make_meeting(lanes, add), _make_meeting(lanes, most)
    passes, rounds = -(-placement.group * lanes // place.threads), -(-extent // lanes)

    @inline
    def power(base, frame, stream, element, top):
        x = read(base, frame, stream, element)
        below = most(scaled(mul(sub(x, top), U32(multiplier))), U32(_LOWEST))
        return look_up_unit(add(base, U32(table)), below)

    @inline
    def prepare(w, t, live, base, weights, state, x):
        load_tables(t, base, weights)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        for p in range(passes):
            stream, part, is_mine = locate(t, p)
            top = U32(_LOWEST)
            for j in range(rounds):
                top = most(top, read(base, frame, stream, add(part, U32(j * lanes))))
            top = largest_of(top)
            total = U32(0)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = power(base, frame, stream, element, top)
                total = add(total, cuda.selp(element < U32(extent), value, U32(0)))
            total = total_of(total)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = power(base, frame, stream, element, top)
                numerator = add(shift_left(value, U32(15)), shift_right(total, U32(1)))
                share = least(div(numerator, total), U32(32767))
                store(base, y, frame, stream, element, share, is_mine)

    return GroupCode(0, prepare, step, nothing_to_finish)


def _make_meeting(lanes: int, combine: Any) -> Any:
    """meet(value): combined over the lanes that share a stream."""
    rounds = lanes.bit_length() - 1

    @inline
    def meet(value):
        for k in range(rounds):
            value = combine(value, shuffle_xor_word(value, U32(1 << k)))
        return value

    return meet
