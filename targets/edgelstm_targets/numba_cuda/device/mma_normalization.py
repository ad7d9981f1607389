"""Roles that mix the elements of a vector, for a group of streams: softmax, layer normalization.

Some neighbouring lanes share a stream, more of them for longer vectors; each walks over its part.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.activations import exponential
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    div,
    inline,
    load_global,
    reciprocal_approx,
    rem,
    shuffle_xor,
)
from edgelstm_targets.numba_cuda.device.mma_outputs import make_element_output
from edgelstm_targets.numba_cuda.device.mma_puts import make_element_put
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    GroupCode,
    make_element_load,
    nothing_to_finish,
    nothing_to_prepare,
)
from edgelstm_targets.numba_cuda.device.reduction import plus
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import IntegerSoftmaxRole, LayerNormRole, SoftmaxRole

_EACH = 8
"""Elements that a lane takes before a second lane is worth it."""


def make_group_softmax(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> GroupCode:
    """exp(x - max) / sum, or x - max - log(sum)."""
    role = place.role
    assert isinstance(role, SoftmaxRole)
    extent, is_log = role.target.extent, role.is_log
    lanes = share_lanes(extent)
    locate, read, store = make_access(placement, place, role, sizes, lanes)
    total_of = make_meeting(lanes, plus, shuffle_xor)
    largest_of = make_meeting(lanes, _larger, shuffle_xor)
    passes, rounds = -(-placement.group * lanes // place.threads), -(-extent // lanes)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        for p in range(passes):
            stream, part, is_mine = locate(t, p)
            top = F32(-math.inf)
            for j in range(rounds):
                top = max(top, read(base, frame, stream, add(part, U32(j * lanes))))
            top = largest_of(top)
            total = F32(0)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                power = exponential(read(base, frame, stream, element) - top)
                total += cuda.selp(element < U32(extent), power, F32(0))
            total = total_of(total)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = read(base, frame, stream, element) - top
                if is_log:
                    value = value - math.log(total)
                else:
                    value = exponential(value) * reciprocal_approx(total)
                store(base, y, frame, stream, element, value, is_mine)

    return GroupCode(0, nothing_to_prepare, step, nothing_to_finish)


def make_group_layer_norm(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias."""
    role = place.role
    assert isinstance(role, LayerNormRole)
    extent, epsilon = role.target.extent, role.epsilon
    lanes = share_lanes(extent)
    locate, read, store = make_access(placement, place, role, sizes, lanes)
    total_of = make_meeting(lanes, plus, shuffle_xor)
    passes, rounds = -(-placement.group * lanes // place.threads), -(-extent // lanes)
    scale = placement.constants[role.scale.offset_bytes]
    has_bias = role.bias is not None
    bias = placement.constants[role.bias.offset_bytes] if role.bias is not None else 0

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        for p in range(passes):
            stream, part, is_mine = locate(t, p)
            total = F32(0)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                value = read(base, frame, stream, element)
                total += cuda.selp(element < U32(extent), value, F32(0))
            mean = total_of(total) * F32(1 / extent)
            squares = F32(0)
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                far = read(base, frame, stream, element) - mean
                centred = cuda.selp(element < U32(extent), far, F32(0))
                squares += centred * centred
            variance = total_of(squares) * F32(1 / extent)
            factor = F32(1) / math.sqrt(variance + F32(epsilon))
            for j in range(rounds):
                element = add(part, U32(j * lanes))
                at = U64(min(element, U32(extent - 1))) * U64(4)
                value = (read(base, frame, stream, element) - mean) * factor
                value = value * load_global(add64(weights, U64(scale) + at))
                if has_bias:
                    value = value + load_global(add64(weights, U64(bias) + at))
                store(base, y, frame, stream, element, value, is_mine)

    return GroupCode(0, nothing_to_prepare, step, nothing_to_finish)


def share_lanes(extent: int) -> int:
    """Neighbouring lanes that share a stream: a power of two."""
    wanted = -(-extent // _EACH)
    return min(32, 1 << (wanted - 1).bit_length())


def make_access(
    placement: GroupPlacement,
    place: GroupRole,
    role: SoftmaxRole | LayerNormRole | IntegerSoftmaxRole,
    sizes: BlockSizes,
    lanes: int,
) -> tuple[Any, Any, Any]:
    """Returns locate(t, p), read(base, frame, stream, element) and store(...).

    Lanes beyond the end read the last element, those beyond the group the last stream, and store
    nothing, so that the warp never parts.
    """
    group, threads, extent = placement.group, place.threads, role.target.extent
    load = make_element_load(placement.elements[role.x], role.x.dtype)
    put, write = (
        make_element_put(placement, role.target),
        make_element_output(role.outputs, role.target.dtype, sizes.outputs),
    )

    @inline
    def locate(t, p):
        at = add(t, U32(p * threads))
        stream = div(at, U32(lanes))
        return min(stream, U32(group - 1)), rem(at, U32(lanes)), stream < U32(group)

    @inline
    def read(base, frame, stream, element):
        return load(base, frame, stream, min(element, U32(extent - 1)))

    @inline
    def store(base, y, frame, stream, element, value, is_mine):
        if is_mine & (element < U32(extent)):
            put(base, frame, stream, element, value)
            write(y, base, stream, element, value)

    return locate, read, store


def make_meeting(lanes: int, combine: Any, shuffle: Any) -> Any:
    """meet(value): combined over the lanes that share a stream, by a shuffle of its type."""
    rounds = lanes.bit_length() - 1

    @inline
    def meet(value):
        for k in range(rounds):
            value = combine(value, shuffle(value, U32(1 << k)))
        return value

    return meet


@inline
def _larger(a, b):
    return max(a, b)
