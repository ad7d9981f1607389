"""The product of a group's vectors with fragments of weights, on tensor cores.

Which pairs of inputs have their weights in registers, in shared memory or in the image is the
placement's choice and constant in the code. Sums of a lane: for each row of 16 streams and each
accumulator four, (stream g, unit 2m), (g, 2m + 1), (g + 8, 2m), (g + 8, 2m + 1) with g = lane / 4
and m = lane % 4; the epilogue of a cell takes them from there.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    bits_of,
    div,
    inline,
    load_global,
    load_global2,
    load_global4,
    load_shared2,
    load_shared4,
    mul,
    multiply_halves,
    rem,
    store_shared,
    store_shared4,
)
from edgelstm_targets.numba_cuda.device.mma_rows import make_rows_slot
from edgelstm_targets.numba_cuda.mma_image import PAIR_BYTES, TAIL_BYTES
from edgelstm_targets.numba_cuda.mma_places import FragmentPlace, GroupPhase, GroupRole

PRODUCT_BYTES = 64
"""What a row of two streams has for one product."""

ROW_STEP = 8
"""Rows of two streams from one product to the next."""

_LANE_WORDS = 4


def make_group_product(place: GroupRole, phase: GroupPhase) -> tuple[Any, Any]:
    """The two halves of a product.

    Returns:
        load(w, t, base, weights): brings weights where they stay, and the bias to shared memory;
        total(acc, w, lane, tile, row, base, weights, frame): sets the sums of a tile, for
        `place.chunk` times 16 streams, the first of them the lane's row `row` of two streams.
    """
    load, total = _make_bias(place, phase)
    for section in phase.sections:
        load, total = _both(load, total, *_make_pairs(place, phase, section))
        if section.tail:
            load, total = _both(load, total, *_make_tail(place, phase, section))
    return load, total


def _both(load_a: Any, total_a: Any, load_b: Any, total_b: Any) -> tuple[Any, Any]:
    @inline
    def load(w, t, base, weights):
        load_a(w, t, base, weights)
        load_b(w, t, base, weights)

    @inline
    def total(acc, w, lane, tile, row, base, weights, frame):
        total_a(acc, w, lane, tile, row, base, weights, frame)
        total_b(acc, w, lane, tile, row, base, weights, frame)

    return load, total


def _make_bias(place: GroupRole, phase: GroupPhase) -> tuple[Any, Any]:
    count, chunk, threads = phase.accumulators, place.chunk, place.threads
    image, shared, words = phase.bias_image, phase.bias, phase.bias_bytes // 4

    @inline
    def load(w, t, base, weights):
        at = t
        while at < U32(words):
            value = load_global(add64(weights, U64(image) + U64(at) * U64(4)))
            store_shared(add(base, add(U32(shared), mul(at, U32(4)))), value)
            at = add(at, U32(threads))

    @inline
    def total(acc, w, lane, tile, row, base, weights, frame):
        unit_pair = add(mul(tile, U32(4)), band(lane, U32(3)))
        near = add(base, add(U32(shared), mul(unit_pair, U32(8 * count))))
        for a in range(count):
            low, high = load_shared2(add(near, U32(8 * a)))
            for m in range(chunk):
                n = (m * count + a) * 4
                acc[n] = low
                acc[n + 1] = high
                acc[n + 2] = low
                acc[n + 3] = high

    return load, total


def _make_multiply(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> Any:
    """multiply(acc, m, a0, a1, a2, a3, f, first, step): all gates, for row m.

    The weights of gate a are the words f[first + a * step] and the next.
    """
    count, gates, skip = phase.accumulators, section.gates, section.skip

    @inline
    def multiply(acc, m, a0, a1, a2, a3, f, first, step):
        for a in range(gates):
            n = (m * count + a + skip * (a >> 1)) * 4
            i = first + a * step
            d0, d1, d2, d3 = multiply_halves(
                bits_of(a0),
                bits_of(a1),
                bits_of(a2),
                bits_of(a3),
                bits_of(f[i]),
                bits_of(f[i + 1]),
                acc[n],
                acc[n + 1],
                acc[n + 2],
                acc[n + 3],
            )
            acc[n] = d0
            acc[n + 1] = d1
            acc[n + 2] = d2
            acc[n + 3] = d3

    return multiply


def _make_pairs(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> tuple[Any, Any]:
    """The products of 32 inputs each."""
    slot, multiply = make_rows_slot(section.rows), _make_multiply(place, phase, section)
    before, gates, pairs, pitch = section.before, section.gates, section.pairs, section.rows.pitch
    held, stored = section.in_registers, section.in_shared
    streamed = pairs - held - stored
    first, image, shared, chunk = section.first_word, section.image, section.shared, place.chunk
    pair_bytes = gates * PAIR_BYTES
    tile_bytes, shared_tile = pairs * pair_bytes, stored * pair_bytes
    words = gates * _LANE_WORDS
    copy_in = _make_copy(
        place, image + held * pair_bytes, tile_bytes, section.shared, stored * pair_bytes
    )

    @inline
    def load(w, t, base, weights):
        if held > 0:
            # Registers hold weights where a warp has one tile: that of its number.
            tile, lane = div(t, U32(32)), band(t, U32(31))
            origin = add64(weights, U64(image) + U64(tile) * U64(tile_bytes))
            origin = add64(origin, U64(lane) * U64(16))
            for j in range(held * gates):
                w0, w1, w2, w3 = load_global4(add64(origin, U64(j * PAIR_BYTES)))
                w[first + 4 * j] = w0
                w[first + 4 * j + 1] = w1
                w[first + 4 * j + 2] = w2
                w[first + 4 * j + 3] = w3
        if stored > 0:
            copy_in(t, base, weights)

    @inline
    def rows_of(acc, near, f, start):
        for m in range(chunk):
            at = add(near, U32(m * ROW_STEP * pitch))
            a0, a1, a2, a3 = load_shared4(at)
            b0, b1, b2, b3 = load_shared4(add(at, U32(PRODUCT_BYTES)))
            multiply(acc, m, a0, a1, a2, a3, f, start, _LANE_WORDS)
            multiply(acc, m, b0, b1, b2, b3, f, start + 2, _LANE_WORDS)

    @inline
    def fetch(f, far):
        for a in range(gates):
            w0, w1, w2, w3 = load_global4(add64(far, U64(a * PAIR_BYTES)))
            f[4 * a] = w0
            f[4 * a + 1] = w1
            f[4 * a + 2] = w2
            f[4 * a + 3] = w3

    @inline
    def total(acc, w, lane, tile, row, base, weights, frame):
        near = add(slot(base, frame - U32(before)), mul(row, U32(pitch)))
        near = add(near, mul(band(lane, U32(3)), U32(16)))
        for q in range(held):
            rows_of(acc, add(near, U32(2 * q * PRODUCT_BYTES)), w, first + q * words)
        if stored > 0:
            mine = add(base, add(U32(shared), mul(tile, U32(shared_tile))))
            mine = add(mine, mul(lane, U32(16)))
            for q in range(stored):
                f = cuda.local.array(16, F32)
                for a in range(gates):
                    place_of_gate = add(mine, U32((q * gates + a) * PAIR_BYTES))
                    w0, w1, w2, w3 = load_shared4(place_of_gate)
                    f[4 * a] = w0
                    f[4 * a + 1] = w1
                    f[4 * a + 2] = w2
                    f[4 * a + 3] = w3
                rows_of(acc, add(near, U32(2 * (held + q) * PRODUCT_BYTES)), f, 0)
        if streamed > 0:
            far = U64(image + (held + stored) * pair_bytes) + U64(tile) * U64(tile_bytes)
            far = add64(weights, far + U64(lane) * U64(16))
            ahead = cuda.local.array(16, F32)
            fetch(ahead, far)
            for q in range(streamed):
                now = cuda.local.array(16, F32)
                for i in range(words):
                    now[i] = ahead[i]
                if q + 1 < streamed:
                    fetch(ahead, add64(far, U64((q + 1) * pair_bytes)))
                rows_of(acc, add(near, U32(2 * (held + stored + q) * PRODUCT_BYTES)), now, 0)

    return load, total


def _make_tail(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> tuple[Any, Any]:
    """The product of the last 16 inputs."""
    slot, multiply = make_rows_slot(section.rows), _make_multiply(place, phase, section)
    before, gates, pairs, pitch = section.before, section.gates, section.pairs, section.rows.pitch
    is_held, is_stored = section.tail == "registers", section.tail == "shared"
    word, image, shared = section.tail_word, section.image_tail, section.shared_tail
    chunk = place.chunk
    tile_bytes = gates * TAIL_BYTES
    copy_in = _make_copy(place, image, tile_bytes, shared, tile_bytes)

    @inline
    def load(w, t, base, weights):
        if is_held:
            tile, lane = div(t, U32(32)), band(t, U32(31))
            origin = add64(weights, U64(image) + U64(tile) * U64(tile_bytes))
            origin = add64(origin, U64(lane) * U64(8))
            for a in range(gates):
                w0, w1 = load_global2(add64(origin, U64(a * TAIL_BYTES)))
                w[word + 2 * a] = w0
                w[word + 2 * a + 1] = w1
        if is_stored:
            copy_in(t, base, weights)

    @inline
    def total(acc, w, lane, tile, row, base, weights, frame):
        f = cuda.local.array(8, F32)
        for a in range(gates):
            if is_held:
                f[2 * a] = w[word + 2 * a]
                f[2 * a + 1] = w[word + 2 * a + 1]
            elif is_stored:
                mine = add(base, add(U32(shared), mul(tile, U32(tile_bytes))))
                mine = add(mine, mul(lane, U32(8)))
                w0, w1 = load_shared2(add(mine, U32(a * TAIL_BYTES)))
                f[2 * a] = w0
                f[2 * a + 1] = w1
            else:
                far = add64(weights, U64(image) + U64(tile) * U64(tile_bytes))
                far = add64(far, U64(lane) * U64(8))
                w0, w1 = load_global2(add64(far, U64(a * TAIL_BYTES)))
                f[2 * a] = w0
                f[2 * a + 1] = w1
        near = add(slot(base, frame - U32(before)), mul(row, U32(pitch)))
        near = add(near, add(U32(2 * pairs * PRODUCT_BYTES), mul(band(lane, U32(3)), U32(16))))
        for m in range(chunk):
            a0, a1, a2, a3 = load_shared4(add(near, U32(m * ROW_STEP * pitch)))
            multiply(acc, m, a0, a1, a2, a3, f, 0, 2)

    return load, total


def _make_copy(place: GroupRole, image: int, image_tile: int, shared: int, kept: int) -> Any:
    """copy(t, base, weights): `kept` bytes of every tile from the image to shared memory."""
    quads, tile_quads, threads = place.tiles * kept // 16, max(kept // 16, 1), place.threads

    @inline
    def copy(t, base, weights):
        at = t
        while at < U32(quads):
            tile, rest = div(at, U32(tile_quads)), rem(at, U32(tile_quads))
            there = U64(image) + U64(tile) * U64(image_tile) + U64(rest) * U64(16)
            w0, w1, w2, w3 = load_global4(add64(weights, there))
            store_shared4(add(base, add(U32(shared), mul(at, U32(16)))), w0, w1, w2, w3)
            at = add(at, U32(threads))

    return copy
