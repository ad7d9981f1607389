"""The kernel for groups of streams: layers on warps of their own, then the rest on all of them.

Roles are a frame apart from each other, one barrier a frame, as in `wavefront.py`, and so are the
parameters; but a block owns `group` neighbouring streams, and the last group may be a part of one.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.chips import WARP
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    block_index,
    div,
    float_of,
    inline,
    load_flag,
    mul,
    shared_base,
    store_shared,
    sub,
    thread_index,
    uniform,
)
from edgelstm_targets.numba_cuda.device.mma_dense import make_group_dense
from edgelstm_targets.numba_cuda.device.mma_elementwise import make_group_elementwise
from edgelstm_targets.numba_cuda.device.mma_integer_softmax import make_group_integer_softmax
from edgelstm_targets.numba_cuda.device.mma_normalization import (
    make_group_layer_norm,
    make_group_softmax,
)
from edgelstm_targets.numba_cuda.device.mma_recurrent import make_group_recurrent
from edgelstm_targets.numba_cuda.device.mma_rows import BlockSizes, GroupCode, flag_of
from edgelstm_targets.numba_cuda.device.wavefront import SIGNATURE
from edgelstm_targets.numba_cuda.mma_places import FLAG_BYTES, GroupPlacement, GroupRole
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    ElementwiseRole,
    IntegerSoftmaxRole,
    LayerNormRole,
    RecurrentRole,
    SoftmaxRole,
)
from edgelstm_targets.numba_cuda.toolkit import KernelSource


def make_group_kernel(
    placement: GroupPlacement, name: str, last_lag: int, sizes: BlockSizes
) -> KernelSource:
    """The kernel of a placement.

    Args:
        placement: what stands where.
        name: of the entry point.
        last_lag: frames that the last role is behind the first.
        sizes: of a stream's blocks.
    """
    group, threads = placement.group, placement.threads
    layers = [(place, _make_code(placement, place, sizes)) for place in placement.layers]
    side = [(place, _make_code(placement, place, sizes)) for place in placement.side]
    prepare, turn, finish = _make_layers(layers)
    for place, code in side:
        prepare = _both_prepare(prepare, code.prepare)
        turn = _both_turn(turn, _make_turn(place, code.step))
    words = max(1, *(place.first_word + code.words for place, code in (*layers, *side)), 1)
    first_word, last_word = FLAG_BYTES // 4, placement.cleared_bytes // 4
    state_bytes, input_bytes, output_bytes = sizes.state, sizes.inputs, sizes.outputs
    live_of = _make_live(group)

    def kernel(weights, state, x, y, active, mail, frames, streams):
        t = thread_index()
        base = shared_base()
        first = mul(block_index(), U32(group))
        at = t
        while at < U32(group):
            stream = add(first, at)
            flag = U32(0)
            if stream < streams:
                # The caller's flags are any non-zero word; roles want 0 or 1.
                flag = U32(load_flag(add64(active, U64(stream) * U64(4))) != U32(0))
            store_shared(add(base, mul(at, U32(4))), float_of(flag))
            at = add(at, U32(threads))
        at = add(t, U32(first_word))
        while at < U32(last_word):
            store_shared(add(base, mul(at, U32(4))), F32(0))
            at = add(at, U32(threads))
        barrier(U32(0), U32(threads))
        warp, live = uniform(div(t, U32(WARP))), live_of(base, t)
        own_state = add64(state, U64(first) * U64(state_bytes))
        own_x = add64(x, U64(first) * U64(input_bytes))
        own_y = add64(y, U64(first) * U64(output_bytes))
        x_step, y_step = U64(streams) * U64(input_bytes), U64(streams) * U64(output_bytes)
        w = cuda.local.array(words, F32)
        prepare(warp, w, t, live, base, weights, own_state, own_x)
        barrier(U32(0), U32(threads))
        slot = U32(0)
        while slot < add(frames, U32(last_lag)):
            turn(warp, w, t, live, base, weights, own_x, own_y, slot, frames, x_step, y_step)
            barrier(U32(0), U32(threads))
            slot = add(slot, U32(1))
        finish(warp, w, t, live, base, own_state, frames)

    return KernelSource(kernel, SIGNATURE, name, threads, residents=placement.residents)


def _make_layers(layers: list[tuple[GroupRole, GroupCode]]) -> tuple[Any, Any, Any]:
    """prepare, turn and finish of all layers: each warp does those of its own."""
    prepare, turn, finish = _prepare_nothing, _turn_nothing, _finish_nothing
    for place, code in reversed(layers):
        end, first = (place.first_thread + place.threads) // WARP, place.first_thread
        is_last = place is layers[-1][0]
        step = _make_turn(place, code.step)
        prepare = _either_prepare(end, first, code.prepare, None if is_last else prepare)
        turn = _either_turn(end, first, step, None if is_last else turn)
        finish = _either_finish(end, first, code.finish, None if is_last else finish)
    return prepare, turn, finish


def _make_turn(place: GroupRole, step: Any) -> Any:
    """turn(...): the role's frame of a slot, if it has one."""
    lag = place.lag

    @inline
    def turn(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step):
        frame = sub(slot, U32(lag))
        # Before its first frame a role's number wraps round to a large one.
        if frame < frames:
            here = add64(y, U64(frame) * y_step)
            step(w, t, live, base, weights, x, here, frame, frames, x_step)

    return turn


@inline
def _prepare_nothing(warp, w, t, live, base, weights, state, x):
    pass


@inline
def _turn_nothing(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step):
    pass


@inline
def _finish_nothing(warp, w, t, live, base, state, frames):
    pass


def _either_prepare(end: int, start: int, first: Any, rest: Any | None) -> Any:
    """Warps below the end prepare the first, all others the rest."""
    if rest is None:

        @inline
        def only(warp, w, t, live, base, weights, state, x):
            first(w, sub(t, U32(start)), live, base, weights, state, x)

        return only

    @inline
    def prepare(warp, w, t, live, base, weights, state, x):
        if warp < U32(end):
            first(w, sub(t, U32(start)), live, base, weights, state, x)
        else:
            rest(warp, w, t, live, base, weights, state, x)

    return prepare


def _either_turn(end: int, start: int, first: Any, rest: Any | None) -> Any:
    if rest is None:

        @inline
        def only(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step):
            mine = sub(t, U32(start))
            first(warp, w, mine, live, base, weights, x, y, slot, frames, x_step, y_step)

        return only

    @inline
    def turn(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step):
        if warp < U32(end):
            mine = sub(t, U32(start))
            first(warp, w, mine, live, base, weights, x, y, slot, frames, x_step, y_step)
        else:
            rest(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step)

    return turn


def _either_finish(end: int, start: int, first: Any, rest: Any | None) -> Any:
    if rest is None:

        @inline
        def only(warp, w, t, live, base, state, frames):
            first(w, sub(t, U32(start)), live, base, state, frames)

        return only

    @inline
    def finish(warp, w, t, live, base, state, frames):
        if warp < U32(end):
            first(w, sub(t, U32(start)), live, base, state, frames)
        else:
            rest(warp, w, t, live, base, state, frames)

    return finish


def _both_prepare(first: Any, second: Any) -> Any:
    @inline
    def prepare(warp, w, t, live, base, weights, state, x):
        first(warp, w, t, live, base, weights, state, x)
        second(w, t, live, base, weights, state, x)

    return prepare


def _both_turn(first: Any, second: Any) -> Any:
    @inline
    def turn(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step):
        first(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step)
        second(warp, w, t, live, base, weights, x, y, slot, frames, x_step, y_step)

    return turn


def _make_live(group: int) -> Any:
    """live(base, t): bit k says whether the lane's stream lane / 4 + 8 * k is moved on."""
    count = group // 8

    @inline
    def live_of(base, t):
        bits, mine = U32(0), div(band(t, U32(31)), U32(4))
        for k in range(count):
            bits = add(bits, mul(flag_of(base, add(mine, U32(8 * k))), U32(1 << k)))
        return bits

    return live_of


def _make_code(placement: GroupPlacement, place: GroupRole, sizes: BlockSizes) -> GroupCode:
    match place.role:
        case RecurrentRole():
            return make_group_recurrent(placement, place, sizes)
        case DenseRole():
            return make_group_dense(placement, place, sizes)
        case ElementwiseRole():
            return make_group_elementwise(placement, place, sizes)
        case SoftmaxRole():
            return make_group_softmax(placement, place, sizes)
        case IntegerSoftmaxRole():
            return make_group_integer_softmax(placement, place, sizes)
        case LayerNormRole():
            return make_group_layer_norm(placement, place, sizes)
    raise TypeError(f"no code for {type(place.role).__name__}")
