"""The product of packed weights with vectors in shared memory, and the sum over a unit's lanes.

Every thread reads quads of a vector (four inputs) and the weights of all its unit's gates for them;
which quads of the weights stand in registers, in shared memory or in the image is the placement's
choice and constant in the code.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    inline,
    load_global4,
    load_shared4,
    mul,
    shuffle_xor,
    store_shared4,
)
from edgelstm_targets.numba_cuda.placement import PhasePlace, Ring, RolePlace, SectionPlace


def make_slot(ring: Ring) -> Any:
    """slot(base, frame): address of a frame's vector."""
    offset, step, mask = ring.offset, ring.step, ring.mask

    @inline
    def slot(base, frame):
        return add(base, add(U32(offset), mul(band(frame, U32(mask)), U32(step))))

    return slot


def make_product(place: RolePlace, phase: PhasePlace) -> tuple[Any, Any]:
    """The two halves of a product.

    Returns:
        load(w, t, rank, base, weights): brings weights where they stay;
        total(acc, w, t, rank, turn, base, weights, frame): adds to the accumulators of a thread
        what its lane sees of pass `turn`.
    """
    load, total = _make_section(place, phase.sections[0])
    for section in phase.sections[1:]:
        load, total = _both(load, total, *_make_section(place, section))
    return load, total


def _both(load_a: Any, total_a: Any, load_b: Any, total_b: Any) -> tuple[Any, Any]:
    @inline
    def load(w, t, rank, base, weights):
        load_a(w, t, rank, base, weights)
        load_b(w, t, rank, base, weights)

    @inline
    def total(acc, w, t, rank, turn, base, weights, frame):
        total_a(acc, w, t, rank, turn, base, weights, frame)
        total_b(acc, w, t, rank, turn, base, weights, frame)

    return load, total


def _make_section(place: RolePlace, section: SectionPlace) -> tuple[Any, Any]:
    slot = make_slot(section.ring)
    before, gates, skip, quads = section.before, section.gates, section.skip, section.quads
    held, stored = section.in_registers, section.in_shared
    streamed = quads - held - stored
    kept = held + stored
    first, image, shared = section.first_word, section.image, section.shared
    threads, lanes, passes = place.threads, place.lanes, place.passes
    row = threads * 16
    vector_row = 16 * lanes
    block_bytes = passes * quads * gates * row
    pass_bytes = quads * gates * row
    shared_pass = stored * gates * row

    @inline
    def load(w, t, rank, base, weights):
        origin = add64(weights, U64(image) + U64(rank) * U64(block_bytes) + U64(t) * U64(16))
        for q in range(held):
            for g in range(gates):
                i = first + (q * gates + g) * 4
                w0, w1, w2, w3 = load_global4(add64(origin, U64((q * gates + g) * row)))
                w[i] = w0
                w[i + 1] = w1
                w[i + 2] = w2
                w[i + 3] = w3
        near = add(base, add(U32(shared), mul(t, U32(16))))
        for turn in range(passes):
            for j in range(stored * gates):
                place_in_image = turn * pass_bytes + (held * gates + j) * row
                w0, w1, w2, w3 = load_global4(add64(origin, U64(place_in_image)))
                at = add(near, U32(turn * shared_pass + j * row))
                store_shared4(at, w0, w1, w2, w3)

    @inline
    def total(acc, w, t, rank, turn, base, weights, frame):
        lane = band(t, U32(lanes - 1))
        vector = add(slot(base, frame - U32(before)), mul(lane, U32(16)))
        for q in range(held):
            x0, x1, x2, x3 = load_shared4(add(vector, U32(q * vector_row)))
            for g in range(gates):
                i = first + (q * gates + g) * 4
                a = g + skip * (g >> 1)
                acc[a] += w[i] * x0
                acc[a] += w[i + 1] * x1
                acc[a] += w[i + 2] * x2
                acc[a] += w[i + 3] * x3
        if stored > 0:
            near = add(base, add(U32(shared), mul(t, U32(16))))
            near = add(near, mul(turn, U32(shared_pass)))
            for q in range(stored):
                x0, x1, x2, x3 = load_shared4(add(vector, U32((held + q) * vector_row)))
                for g in range(gates):
                    a = g + skip * (g >> 1)
                    w0, w1, w2, w3 = load_shared4(add(near, U32((q * gates + g) * row)))
                    acc[a] += w0 * x0
                    acc[a] += w1 * x1
                    acc[a] += w2 * x2
                    acc[a] += w3 * x3
        if streamed > 0:
            far = U64(image + kept * gates * row) + U64(t) * U64(16)
            far += U64(rank) * U64(block_bytes) + U64(turn) * U64(pass_bytes)
            far = add64(weights, far)
            for q in range(streamed):
                x0, x1, x2, x3 = load_shared4(add(vector, U32((kept + q) * vector_row)))
                for g in range(gates):
                    a = g + skip * (g >> 1)
                    w0, w1, w2, w3 = load_global4(add64(far, U64((q * gates + g) * row)))
                    acc[a] += w0 * x0
                    acc[a] += w1 * x1
                    acc[a] += w2 * x2
                    acc[a] += w3 * x3

    return load, total


def make_reduction(accumulators: int, lanes: int) -> Any:
    """reduce(acc, lane): the sum over a unit's lanes of the accumulator that this lane is given.

    With four accumulators lanes 0, 1, 2, 3 (and again 4, 5, ...) are given 0, 2, 1, 3; with two,
    0 and 1 in turn; a single one is given to all. Halving the accumulators while the lanes meet
    takes 3 exchanges where summing each alone takes 8.
    """
    if accumulators in (3, 4):
        return _reduce_four(lanes)
    return _reduce_two(lanes) if accumulators == 2 else _reduce_one(lanes, 1)


def _reduce_one(lanes: int, first: int) -> Any:
    """Plain sum over lanes that differ in the bits from `first` on."""
    if first >= lanes:

        @inline
        def keep(acc, lane):
            return acc[0]

        return keep
    rounds = (lanes // first).bit_length() - 1

    @inline
    def reduce(acc, lane):
        z = acc[0]
        for k in range(rounds):
            z = z + shuffle_xor(z, U32(first << k))
        return z

    return reduce


def _reduce_two(lanes: int) -> Any:
    rest = _reduce_one(lanes, 2)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        mine = cuda.selp(odd, acc[1], acc[0])
        other = cuda.selp(odd, acc[0], acc[1])
        acc[0] = mine + shuffle_xor(other, U32(1))
        return rest(acc, lane)

    return reduce


def _reduce_four(lanes: int) -> Any:
    rest = _reduce_one(lanes, 4)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        high = band(lane, U32(2)) != U32(0)
        a = cuda.selp(odd, acc[2], acc[0])
        b = cuda.selp(odd, acc[3], acc[1])
        a = a + shuffle_xor(cuda.selp(odd, acc[0], acc[2]), U32(1))
        b = b + shuffle_xor(cuda.selp(odd, acc[1], acc[3]), U32(1))
        mine = cuda.selp(high, b, a)
        other = cuda.selp(high, a, b)
        acc[0] = mine + shuffle_xor(other, U32(2))
        return rest(acc, lane)

    return reduce


def lane_accumulator(accumulators: int, lane: int) -> int:
    """Which accumulator `make_reduction` gives to a lane."""
    if accumulators in (3, 4):
        return 2 * (lane & 1) + ((lane >> 1) & 1)
    return lane & 1 if accumulators == 2 else 0
