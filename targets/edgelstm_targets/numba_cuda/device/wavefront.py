"""The kernel: all roles of a model side by side, a frame apart from each other, for T frames.

Parameters, all of them addresses or counts:
```
weights   the image of the weights
state     one state block a stream, streams behind each other
x         input blocks   [frame][stream]
y         output blocks  [frame][stream]
active    one uint32 a stream: 0 leaves the stream as it is
mail      words of the exchange, one area a stream; before them one counter a stream
frames    T
streams   B
```
Blocks of one stream follow each other in the grid.
"""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import types

from edgelstm_targets.numba_cuda.chips import WARP
from edgelstm_targets.numba_cuda.device.dense import make_dense
from edgelstm_targets.numba_cuda.device.elementwise import make_elementwise
from edgelstm_targets.numba_cuda.device.integer_softmax import make_integer_softmax
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    block_index,
    div,
    inline,
    load_counter,
    load_flag,
    mul,
    rem,
    shared_base,
    store_counter,
    store_shared,
    sub,
    thread_index,
    uniform,
)
from edgelstm_targets.numba_cuda.device.normalization import make_layer_norm, make_softmax
from edgelstm_targets.numba_cuda.device.recurrent import RoleCode, make_recurrent
from edgelstm_targets.numba_cuda.device.team import Alone, Cluster, Exchange, Team
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    ElementwiseRole,
    IntegerSoftmaxRole,
    LayerNormRole,
    RecurrentRole,
    SoftmaxRole,
)
from edgelstm_targets.numba_cuda.places import Placement, RolePlace
from edgelstm_targets.numba_cuda.toolkit import KernelSource

COUNTER_BYTES = 128
"""What stands before the words of each stream."""

SIGNATURE = types.void(U64, U64, U64, U64, U64, U64, U32, U32)


def make_team(name: str, size: int) -> Team:
    """The team of that name."""
    if name == "exchange":
        return Exchange()
    return Cluster(size) if name == "cluster" else Alone()


def make_wavefront(
    placement: Placement,
    team: Team,
    name: str,
    last_lag: int,
    signature_bytes: tuple[int, int, int],
) -> KernelSource:
    """The kernel of a placement.

    Args:
        placement: what stands where.
        team: how the blocks of a stream work together.
        name: of the entry point.
        last_lag: frames that the last role is behind the first.
        signature_bytes: sizes of the state, input and output block of a stream.
    """
    size, threads = placement.team, placement.threads
    state_bytes, input_bytes, output_bytes = signature_bytes
    vector_words = placement.vector_bytes // 4
    meet = team.meet(threads)
    run = _make_body(placement, placement.roles[-1], team, last_lag, meet, output_bytes)
    for place in reversed(placement.roles[:-1]):
        body = _make_body(placement, place, team, last_lag, meet, output_bytes)
        run = _either((place.first_thread + place.threads) // WARP, body, run)
    is_tagged = team.name == "exchange"
    mail_bytes = mail_size(team)

    def kernel(weights, state, x, y, active, mail, frames, streams):
        t = thread_index()
        stream = div(block_index(), U32(size))
        rank = rem(block_index(), U32(size))
        warp = uniform(div(t, U32(WARP)))
        flag = load_flag(add64(active, U64(stream) * U64(4)))
        if uniform(flag) != U32(0):
            base = shared_base()
            at = t
            while at < U32(vector_words):
                store_shared(add(base, mul(at, U32(4))), F32(0))
                at = add(at, U32(threads))
            box = add64(mail, U64(stream) * U64(mail_bytes))
            tag = U32(0)
            if is_tagged:
                tag = load_counter(box)
            meet()
            run(
                warp,
                t,
                rank,
                base,
                weights,
                add64(state, U64(stream) * U64(state_bytes)),
                add64(x, U64(stream) * U64(input_bytes)),
                add64(y, U64(stream) * U64(output_bytes)),
                add64(box, U64(COUNTER_BYTES)),
                tag,
                frames,
                U64(streams) * U64(input_bytes),
                U64(streams) * U64(output_bytes),
            )
            # Everybody's words of the last frame were here, so everybody has read the counter.
            if is_tagged and (rank == U32(0)) & (t == U32(0)):
                store_counter(box, add(tag, frames))

    return KernelSource(kernel, SIGNATURE, name, threads, size if team.name == "cluster" else 1)


def mail_size(team: Team) -> int:
    """Global memory of a stream: the counter and the words; known once the kernel is made."""
    if team.name != "exchange":
        return 0
    return COUNTER_BYTES + -(-team.mail_bytes // COUNTER_BYTES) * COUNTER_BYTES


def _either(limit: int, first: Any, rest: Any) -> Any:
    """Warps below the limit do the first, all others the rest."""

    @inline
    def run(warp, t, rank, base, weights, state, x, y, mail, tag, frames, x_step, y_step):
        if warp < U32(limit):
            first(warp, t, rank, base, weights, state, x, y, mail, tag, frames, x_step, y_step)
        else:
            rest(warp, t, rank, base, weights, state, x, y, mail, tag, frames, x_step, y_step)

    return run


def _make_body(
    placement: Placement, place: RolePlace, team: Team, last_lag: int, meet: Any, output_bytes: int
) -> Any:
    """All that the threads of one role do from the first frame to the last."""
    code = make_code(placement, place, team)
    prepare, step, finish = code.prepare, code.step, code.finish
    words, first, lag = max(code.words, 1), place.first_thread, place.lag

    @inline
    def body(warp, thread, rank, base, weights, state, x, y, mail, tag, frames, x_step, y_step):
        t = sub(thread, U32(first))
        w = cuda.local.array(words, F32)
        prepare(w, t, rank, base, weights, state, x)
        meet()
        slot = U32(0)
        while slot < add(frames, U32(last_lag)):
            frame = sub(slot, U32(lag))
            # Before its first frame a role's number wraps round to a large one.
            if frame < frames:
                here = add64(y, U64(frame) * y_step)
                step(w, t, rank, base, weights, x, here, mail, tag, frame, frames, x_step)
            meet()
            slot = add(slot, U32(1))
        finish(t, rank, base, state, frames)

    return body


def make_code(placement: Placement, place: RolePlace, team: Team) -> RoleCode:
    """The parts of a role."""
    match place.role:
        case RecurrentRole():
            return make_recurrent(placement, place, team)
        case DenseRole():
            return make_dense(placement, place)
        case ElementwiseRole():
            return make_elementwise(placement, place)
        case SoftmaxRole():
            return make_softmax(placement, place)
        case IntegerSoftmaxRole():
            return make_integer_softmax(placement, place)
        case LayerNormRole():
            return make_layer_norm(placement, place)
    raise TypeError(f"no code for {type(place.role).__name__}")
