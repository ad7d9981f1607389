"""The role of a chain of element-wise operations for a group of streams, and of fetching input."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.activations import make_function
from edgelstm_targets.numba_cuda.device.elementwise import ARITHMETIC
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    div,
    inline,
    load_global,
    load_global2_if,
    load_global4_if,
    load_global_if,
    load_shared,
    mul,
    rem,
)
from edgelstm_targets.numba_cuda.device.mma_rows import (
    BlockSizes,
    GroupCode,
    flag_of,
    make_element_output,
    make_element_put,
    make_rows_slot,
    make_word_put,
    nothing_to_finish,
    nothing_to_prepare,
)
from edgelstm_targets.numba_cuda.mma_places import GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import Change, Constant, ElementwiseRole, Vector


def make_group_elementwise(
    placement: GroupPlacement, place: GroupRole, sizes: BlockSizes
) -> GroupCode:
    """The code of an element-wise role."""
    role = place.role
    assert isinstance(role, ElementwiseRole)
    if isinstance(role.source, int):
        return _make_fetch(placement, place, role, role.source, sizes)
    extent, threads = role.target.extent, place.threads
    total = placement.group * extent
    apply, put = _make_chain(placement, role), make_element_put(placement, role.target)
    rows = placement.floats[role.source]
    source, pitch = make_rows_slot(rows), rows.pitch
    write = make_element_output(role.outputs, sizes)

    @inline
    def step(w, t, live, base, weights, x, y, frame, frames, x_step):
        at = t
        while at < U32(total):
            stream, element = div(at, U32(extent)), rem(at, U32(extent))
            here = add(source(base, frame), add(mul(stream, U32(pitch)), mul(element, U32(4))))
            value = apply(load_shared(here), element, base, weights, frame, stream)
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
    extent, threads = role.target.extent, place.threads
    grain = next(
        n for n in (4, 2, 1) if not (extent % n or offset % (4 * n) or sizes.inputs % (4 * n))
    )
    grains = extent // grain
    total = placement.group * grains
    rounds, first = -(-total // threads), place.first_word
    is_ahead = place.words >= rounds * grain
    load, store = _make_load(grain), _make_store(placement, role, grain, sizes)
    input_bytes, words = sizes.inputs, rounds * grain

    @inline
    def fetch(w, start, j, t, base, x):
        at = add(t, U32(j * threads))
        # Beyond the last the first is fetched again, and dropped.
        known = min(at, U32(total - 1))
        stream, element = div(known, U32(grains)), mul(rem(known, U32(grains)), U32(grain))
        there = U64(stream) * U64(input_bytes) + U64(offset) + U64(element) * U64(4)
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


def _make_load(grain: int) -> Any:
    """load(w, start, address, flag): the elements, or zeros."""
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

    @inline
    def load_one(w, start, at, flag):
        w[start] = load_global_if(at, flag)

    return load_one


def _make_store(
    placement: GroupPlacement, role: ElementwiseRole, grain: int, sizes: BlockSizes
) -> Any:
    """store(w, start, base, weights, y, frame, stream, element): changed, to their readers."""
    apply, write = _make_chain(placement, role), make_element_output(role.outputs, sizes)
    if grain == 1:
        put = make_element_put(placement, role.target)

        @inline
        def store_one(w, start, base, weights, y, frame, stream, element):
            value = apply(w[start], element, base, weights, frame, stream)
            put(base, frame, stream, element, value)
            write(y, base, stream, element, value)

        return store_one
    put_pair, pairs = make_word_put(placement, role.target), grain // 2

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


def _make_chain(placement: GroupPlacement, role: ElementwiseRole) -> Any:
    """apply(value, element, base, weights, frame, stream): all changes, one after another."""
    chain = _keep
    for change in role.changes:
        chain = _then(chain, _make_change(placement, role, change))
    return chain


@inline
def _keep(value, element, base, weights, frame, stream):
    return value


def _then(first: Any, second: Any) -> Any:
    @inline
    def chain(value, element, base, weights, frame, stream):
        middle = first(value, element, base, weights, frame, stream)
        return second(middle, element, base, weights, frame, stream)

    return chain


def _make_change(placement: GroupPlacement, role: ElementwiseRole, change: Change) -> Any:
    if change.activation is not None:
        function = make_function(change.activation, role.origin)

        @inline
        def call(value, element, base, weights, frame, stream):
            return function(value)

        return call
    if change.operand is None or change.arithmetic is None:
        return _keep
    operand = _make_operand(placement, change.operand)
    combine = ARITHMETIC[change.arithmetic]
    if change.is_swapped:

        @inline
        def swapped(value, element, base, weights, frame, stream):
            return combine(operand(element, base, weights, frame, stream), value)

        return swapped

    @inline
    def plain(value, element, base, weights, frame, stream):
        return combine(value, operand(element, base, weights, frame, stream))

    return plain


def _make_operand(placement: GroupPlacement, operand: Constant | Vector) -> Any:
    if isinstance(operand, Vector):
        rows = placement.floats[operand]
        slot, pitch = make_rows_slot(rows), rows.pitch

        @inline
        def vector(element, base, weights, frame, stream):
            here = add(mul(stream, U32(pitch)), mul(element, U32(4)))
            return load_shared(add(slot(base, frame), here))

        return vector
    image = placement.constants[operand.offset_bytes]
    step = 4 if operand.extent > 1 else 0

    @inline
    def constant(element, base, weights, frame, stream):
        return load_global(add64(weights, U64(image) + U64(element) * U64(step)))

    return constant
