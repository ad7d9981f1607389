"""The role of a chain of element-wise operations for a group of streams, and of fetching input."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.device.chain import make_chain
from edgelstm_targets.numba_cuda.device.elements import (
    AS_FLOAT,
    FROM_FLOAT,
    LOAD_GLOBAL_IF,
    same,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    div,
    inline,
    load_global2_if,
    load_global4_if,
    mul,
    rem,
)
from edgelstm_targets.numba_cuda.device.mma_outputs import make_element_output
from edgelstm_targets.numba_cuda.device.mma_puts import make_element_put, make_neighbours_put
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    GroupCode,
    flag_of,
    make_element_load,
    nothing_to_finish,
    nothing_to_prepare,
)
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import ElementwiseRole, Vector


def make_group_elementwise(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """The code of an element-wise role."""
    role = place.role
    assert isinstance(role, ElementwiseRole)
    if isinstance(role.source, int):
        return _make_fetch(placement, place, role, role.source, sizes)
    extent, threads, dtype = role.target.extent, place.threads, role.target.dtype
    total = placement.group * extent
    apply, put = _make_apply(placement, role), make_element_put(placement, role.target)
    read = make_element_load(placement.elements[role.source], role.source_dtype)
    write = make_element_output(role.outputs, dtype, sizes.outputs)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        at = t
        while at < U32(total):
            stream, element = div(at, U32(extent)), rem(at, U32(extent))
            value = read(base, frame, stream, element)
            value = apply(value, element, base, weights, frame, stream)
            put(base, frame, stream, element, value)
            write(y, base, stream, element, value)
            at = add(at, U32(threads))

    return GroupCode(0, nothing_to_prepare, step, nothing_to_finish)


def _make_fetch(
    placement: GroupPlacement,
    place: GroupRole,
    role: ElementwiseRole,
    offset: int,
    sizes: BlockSizes,
) -> GroupCode:
    """Frames are fetched as many elements at a time as stand aligned, one frame ahead if small."""
    extent, threads, item = role.target.extent, place.threads, role.source_dtype.itemsize
    grain = _grain(role, offset, sizes)
    grains = extent // grain
    total = placement.group * grains
    rounds, first = -(-total // threads), place.first_word
    is_ahead = place.words >= rounds * grain
    load = _make_load(role.source_dtype, grain)
    store = _make_store(placement, role, grain, sizes)
    input_bytes, words = sizes.inputs, rounds * grain

    @inline
    def fetch(w, start, j, t, base, x):
        at = add(t, U32(j * threads))
        # Beyond the last the first is fetched again, and dropped.
        known = min(at, U32(total - 1))
        stream, element = div(known, U32(grains)), mul(rem(known, U32(grains)), U32(grain))
        there = U64(stream) * U64(input_bytes) + U64(offset) + U64(element) * U64(item)
        load(w, start, add64(x, there), flag_of(base, stream))

    @inline
    def use(w, start, j, t, base, weights, y, frame):
        at = add(t, U32(j * threads))
        if at < U32(total):
            stream, element = div(at, U32(grains)), mul(rem(at, U32(grains)), U32(grain))
            store(w, start, base, weights, y, frame, stream, element)

    if not is_ahead:

        @inline
        def step(w, t, live, base, weights, x, y, frame, frames, x_step):
            here = add64(x, U64(frame) * x_step)
            for j in range(rounds):
                values = cuda.local.array(4, F32)
                fetch(values, 0, j, t, base, here)
                use(values, 0, j, t, base, weights, y, frame)

        return GroupCode(0, nothing_to_prepare, step, nothing_to_finish)

    @inline
    def prepare(w, t, live, base, weights, state, x):
        for j in range(rounds):
            fetch(w, first + j * grain, j, t, base, x)

    @inline
    def step_ahead(w, t, live, base, weights, x, y, frame, frames, x_step):
        for j in range(rounds):
            use(w, first + j * grain, j, t, base, weights, y, frame)
        after = add(frame, U32(1))
        if after < frames:
            here = add64(x, U64(after) * x_step)
            for j in range(rounds):
                fetch(w, first + j * grain, j, t, base, here)

    return GroupCode(words, prepare, step_ahead, nothing_to_finish)


def _grain(role: ElementwiseRole, offset: int, sizes: BlockSizes) -> int:
    """Elements of a frame that are fetched at once."""
    if role.source_dtype is not DType.F32:
        return 1
    extent = role.target.extent
    return next(
        n for n in (4, 2, 1) if not (extent % n or offset % (4 * n) or sizes.inputs % (4 * n))
    )


def _make_load(dtype: DType, grain: int) -> Any:
    """load(w, start, address, flag): the elements as float32, or zeros."""
    if grain == 4:

        @inline
        def load_four(w, start, at, flag):
            v0, v1, v2, v3 = load_global4_if(at, flag)
            w[start] = v0
            w[start + 1] = v1
            w[start + 2] = v2
            w[start + 3] = v3

        return load_four
    if grain == 2:

        @inline
        def load_two(w, start, at, flag):
            v0, v1 = load_global2_if(at, flag)
            w[start] = v0
            w[start + 1] = v1

        return load_two

    fetch, as_float = LOAD_GLOBAL_IF[dtype], AS_FLOAT[dtype]

    @inline
    def load_one(w, start, at, flag):
        w[start] = as_float(fetch(at, flag))

    return load_one


def _make_store(
    placement: GroupPlacement, role: ElementwiseRole, grain: int, sizes: BlockSizes
) -> Any:
    """store(w, start, base, weights, y, frame, stream, element): changed, to their readers."""
    apply = _make_apply(placement, role, is_fetched=True)
    write = make_element_output(role.outputs, role.target.dtype, sizes.outputs)
    if grain == 1:
        put = make_element_put(placement, role.target)

        @inline
        def store_one(w, start, base, weights, y, frame, stream, element):
            value = apply(w[start], element, base, weights, frame, stream)
            put(base, frame, stream, element, value)
            write(y, base, stream, element, value)

        return store_one
    put_pair, pairs = make_neighbours_put(placement, role.target), grain // 2

    @inline
    def store_pairs(w, start, base, weights, y, frame, stream, element):
        for k in range(pairs):
            here = add(element, U32(2 * k))
            after = add(here, U32(1))
            low = apply(w[start + 2 * k], here, base, weights, frame, stream)
            high = apply(w[start + 2 * k + 1], after, base, weights, frame, stream)
            put_pair(base, frame, stream, here, low, high)
            write(y, base, stream, here, low)
            write(y, base, stream, after, high)

    return store_pairs


def _make_apply(
    placement: GroupPlacement, role: ElementwiseRole, *, is_fetched: bool = False
) -> Any:
    """apply(value, element, base, weights, frame, stream): the chain, from and to elements.

    Args:
        placement: what stands where.
        role: with the chain.
        is_fetched: elements are float32 already.
    """

    def make_vector(vector: Vector) -> Any:
        read = make_element_load(placement.elements[vector], vector.dtype)

        @inline
        def operand(element, base, weights, frame, stream):
            return read(base, frame, stream, element)

        return operand

    chain = make_chain(role, placement.constants, make_vector)
    as_float = same if is_fetched else AS_FLOAT[role.source_dtype]
    as_element = FROM_FLOAT[role.target.dtype]

    @inline
    def apply(value, element, base, weights, frame, stream):
        return as_element(chain(as_float(value), element, base, weights, frame, stream))

    return apply
