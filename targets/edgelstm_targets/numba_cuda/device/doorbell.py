"""The kernel that stays: it takes frame after frame of one stream as the host rings for them.

Parameters:
```
weights   the image of the weights
state     the state block, read at the start and written at the end
x         the input block, filled by the host
y         the output block, read by the host
bell      words between host and kernel (`edgelstm/engines/cuda_doorbell.py`)
mail      words of the exchange, and the relay
patience  after about so many microseconds without a frame the kernel ends
seen      number of the last frame that is answered
```
The first block hears the bell and hands its number to the others of the team, so that all of them
take the same frames and end together. A frame is loaded behind the acquire of its number, outputs
are stored before the release of theirs; between a thread that does either and the rest of its block
stands a barrier.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm.engines.cuda_doorbell import DONE_PLACE, GONE_PLACE
from edgelstm_targets.numba_cuda.chips import WARP
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    bits_of,
    block_index,
    div,
    float_of,
    global_timer,
    inline,
    load_bell,
    load_counter,
    load_relay,
    load_shared,
    mul,
    nanosleep,
    shared_base,
    store_answer_if,
    store_counter,
    store_peer_if,
    store_relay_if,
    store_shared,
    store_shared_if,
    sub,
    thread_index,
    uniform,
)
from edgelstm_targets.numba_cuda.device.team import Team
from edgelstm_targets.numba_cuda.device.wavefront import (
    COUNTER_BYTES,
    SIGNATURE,
    make_code,
)
from edgelstm_targets.numba_cuda.pipeline import ElementwiseRole
from edgelstm_targets.numba_cuda.places import Placement, RolePlace
from edgelstm_targets.numba_cuda.toolkit import KernelSource

WORD_BYTES = 128
"""Shared memory behind everything else: the number that the block goes by."""

_STOP = 0xFFFFFFFF
_RELAY = 64
"""Offset of the word (mark, number) from the counter of the exchange."""

_MICROSECOND = 10  # as a shift of nanoseconds
_SPIN = 100
_NAP_NS = 400
"""Microseconds of polling without a pause, and the pauses after that."""


def make_doorbell(placement: Placement, team: Team, name: str, last_lag: int) -> KernelSource:
    """The kernel of a placement.

    Args:
        placement: what stands where.
        team: how the blocks of the stream work together.
        name: of the entry point.
        last_lag: frames that the last role is behind the first.
    """
    threads = placement.threads
    vector_words = placement.vector_bytes // 4
    meet = team.meet(threads)
    run = _make_body(placement, placement.roles[-1], team, last_lag, meet)
    for place in reversed(placement.roles[:-1]):
        body = _make_body(placement, place, team, last_lag, meet)
        run = _either((place.first_thread + place.threads) // WARP, body, run)
    is_tagged = team.name == "exchange"

    def kernel(weights, state, x, y, bell, mail, patience, seen):
        t = thread_index()
        base = shared_base()
        at = t
        while at < U32(vector_words):
            store_shared(add(base, mul(at, U32(4))), F32(0))
            at = add(at, U32(threads))
        tag = U32(0)
        if is_tagged:
            tag = load_counter(mail)
        meet()
        run(
            uniform(div(t, U32(WARP))),
            t,
            block_index(),
            base,
            weights,
            state,
            x,
            y,
            bell,
            mail,
            tag,
            patience,
            seen,
        )

    cluster = placement.team if team.name == "cluster" else 1
    return KernelSource(kernel, SIGNATURE, name, threads, cluster)


def _either(limit: int, first: Any, rest: Any) -> Any:
    """Warps below the limit do the first, all others the rest."""

    @inline
    def run(warp, t, rank, base, weights, state, x, y, bell, box, tag, patience, seen):
        if warp < U32(limit):
            first(warp, t, rank, base, weights, state, x, y, bell, box, tag, patience, seen)
        else:
            rest(warp, t, rank, base, weights, state, x, y, bell, box, tag, patience, seen)

    return run


def _make_body(placement: Placement, place: RolePlace, team: Team, last_lag: int, meet: Any) -> Any:
    """All that the threads of one role do until the host stops ringing."""
    code = make_code(placement, place, team)
    prepare, step, finish = code.prepare, code.step, code.finish
    words, first, lag = max(code.words, 1), place.first_thread, place.lag
    is_first = first == 0
    hear = _make_hear(placement, team, meet, is_first)
    role = place.role
    # Roles that read the input hold its next frame; it is there only once the bell has rung.
    reads_input = isinstance(role, ElementwiseRole) and isinstance(role.source, int)
    fetch = prepare if reads_input else _fetch_nothing
    answer = _answer if is_first else _answer_nothing
    keep_count = _keep_count if is_first and team.name == "exchange" else _keep_nothing

    @inline
    def body(warp, thread, rank, base, weights, state, x, y, bell, box, tag, patience, seen):
        t = sub(thread, U32(first))
        w = cuda.local.array(words, F32)
        mail = add64(box, U64(COUNTER_BYTES))
        prepare(w, t, rank, base, weights, state, x)
        meet()
        frame = U32(0)
        number = hear(thread, rank, base, bell, box, add(tag, U32(1)), patience, seen)
        while number != U32(_STOP):
            fetch(w, t, rank, base, weights, state, x)
            slot = U32(0)
            while slot < U32(last_lag + 1):
                if slot == U32(lag):
                    after = add(frame, U32(1))
                    step(w, t, rank, base, weights, x, y, mail, tag, frame, after, U64(0))
                meet()
                slot = add(slot, U32(1))
            answer(thread, rank, bell, number)
            frame = add(frame, U32(1))
            mark = add(add(tag, frame), U32(1))
            number = hear(thread, rank, base, bell, box, mark, patience, number)
        finish(t, rank, base, state, frame)
        keep_count(thread, rank, box, add(tag, frame))

    return body


@inline
def _fetch_nothing(w, t, rank, base, weights, state, x):
    pass


@inline
def _answer(thread, rank, bell, number):
    place = add64(bell, U64(DONE_PLACE) + U64(rank) * U64(4))
    store_answer_if(place, number, U32(thread == U32(0)))


@inline
def _answer_nothing(thread, rank, bell, number):
    pass


@inline
def _keep_count(thread, rank, box, count):
    # One more than there were frames: the word that said stop bears a mark, too.
    if (rank == U32(0)) & (thread == U32(0)):
        store_counter(box, add(count, U32(1)))


@inline
def _keep_nothing(thread, rank, box, count):
    pass


def _make_hear(placement: Placement, team: Team, meet: Any, is_first: bool) -> Any:
    """hear(thread, rank, base, bell, box, mark, patience, seen) -> the next number, or STOP.

    The first warp of the first block listens; `mark` tells the words of the relay apart.
    """
    place = placement.shared_bytes
    listen, spread = _make_listen(), _make_spread(team, placement.team, place)

    @inline
    def read(base):
        return bits_of(load_shared(add(base, U32(place))))

    if not is_first:

        @inline
        def follow(thread, rank, base, bell, box, mark, patience, seen):
            meet()
            return read(base)

        return follow

    @inline
    def hear(thread, rank, base, bell, box, mark, patience, seen):
        if uniform(div(thread, U32(WARP))) == U32(0):
            number = seen
            if rank == U32(0):
                number = listen(thread, bell, patience, seen)
            spread(thread, rank, base, box, mark, number)
        meet()
        return read(base)

    return hear


def _make_listen() -> Any:
    """listen(lane, bell, patience, seen): a whole warp, until the bell shows another number."""

    @inline
    def listen(lane, bell, patience, seen):
        start = global_timer()
        waited = U32(0)
        number = uniform(load_bell(bell))
        while (number == seen) & (waited < patience):
            if waited > U32(_SPIN):
                nanosleep(U32(_NAP_NS))
            waited = uniform(U32((global_timer() - start) >> U64(_MICROSECOND)))
            number = uniform(load_bell(bell))
        if number == seen:
            number = U32(_STOP)
            store_answer_if(add64(bell, U64(GONE_PLACE)), U32(1), U32(lane == U32(0)))
        return number

    return listen


def _make_spread(team: Team, size: int, place: int) -> Any:
    """spread(lane, rank, base, box, mark, number): to the shared memory of all blocks.

    Called by the first warp of each block; the number is the first block's.
    """
    if team.name == "exchange":

        @inline
        def relay(lane, rank, base, box, mark, number):
            at = add64(box, U64(_RELAY))
            if rank == U32(0):
                word = (U64(mark) << U64(32)) | U64(number)
                store_relay_if(at, word, U32(lane == U32(0)))
            else:
                word = load_relay(at)
                while uniform(U32(word >> U64(32))) != mark:
                    word = load_relay(at)
            heard = uniform(U32(word & U64(0xFFFFFFFF)))
            store_shared_if(add(base, U32(place)), float_of(heard), U32(lane == U32(0)))

        return relay
    if team.name == "cluster":

        @inline
        def push(lane, rank, base, box, mark, number):
            for peer in range(size):
                mine = U32((lane == U32(peer)) & (rank == U32(0)))
                store_peer_if(add(base, U32(place)), U32(peer), float_of(number), mine)

        return push

    @inline
    def keep(lane, rank, base, box, mark, number):
        store_shared_if(add(base, U32(place)), float_of(number), U32(lane == U32(0)))

    return keep
