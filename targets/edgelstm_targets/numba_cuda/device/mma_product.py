"""The product of a group's vectors with fragments of weights, on tensor cores.

Which pairs of products have their weights in registers, in shared memory or in the image is the
placement's choice and constant in the code. Sums of a lane: for each row of 16 streams and each
accumulator four, (stream g, unit 2m), (g, 2m + 1), (g + 8, 2m), (g + 8, 2m + 1) with g = lane / 4
and m = lane % 4; the epilogue of a cell takes them from there. Vectors of 16-bit whole numbers have
sums of their low bytes behind those of their high ones; `mma_sums.py` brings them together.
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
    load_global2,
    load_global4,
    load_shared2,
    load_shared4,
    mul,
    multiply_bytes,
    multiply_halves,
    multiply_unsigned,
    rem,
    store_shared4,
)
from edgelstm_targets.numba_cuda.device.mma_rows import make_rows_slot
from edgelstm_targets.numba_cuda.device.tables import make_words_load
from edgelstm_targets.numba_cuda.image import SharedWords
from edgelstm_targets.numba_cuda.mma_image import PAIR_BYTES, TAIL_BYTES, Operand
from edgelstm_targets.numba_cuda.mma_places import (
    FragmentPlace,
    GroupPhase,
    GroupRole,
)

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
    load = make_copy_in(place, phase.bias)
    total = make_start(place, phase, load_shared2)
    for section in phase.sections:
        section_load, add_up = make_section(place, phase, section)
        load, total = _then(load, section_load), _then_total(total, add_up)
    return load, total


def make_section(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> tuple[Any, Any]:
    """load(w, t, base, weights), and add_up(acc, w, lane, tile, row, base, weights, frame)."""
    load, add_up = _make_pairs(place, phase, section)
    if section.tail:
        tail_load, tail_add_up = _make_tail(place, phase, section)
        load, add_up = _then(load, tail_load), _then_total(add_up, tail_add_up)
    return load, add_up


def _then(first: Any, second: Any) -> Any:
    @inline
    def load(w, t, base, weights):
        first(w, t, base, weights)
        second(w, t, base, weights)

    return load


def _then_total(first: Any, second: Any) -> Any:
    @inline
    def total(acc, w, lane, tile, row, base, weights, frame):
        first(acc, w, lane, tile, row, base, weights, frame)
        second(acc, w, lane, tile, row, base, weights, frame)

    return total


def make_copy_in(place: GroupRole, words: SharedWords) -> Any:
    """load(w, t, base, weights): words of units, by the role's threads."""
    copy = make_words_load(words, place.threads)

    @inline
    def load(w, t, base, weights):
        copy(t, base, weights)

    return load


def make_words_address(words: SharedWords, rows: int) -> Any:
    """address(lane, tile, base): what the lane's two units have there, [row][2]."""
    shared = words.shared

    @inline
    def address(lane, tile, base):
        unit_pair = add(mul(tile, U32(4)), band(lane, U32(3)))
        return add(base, add(U32(shared), mul(unit_pair, U32(8 * rows))))

    return address


def make_start(place: GroupRole, phase: GroupPhase, load_two: Any) -> Any:
    """start(acc, w, lane, tile, row, base, weights, frame): sums are their biases."""
    count, chunk = phase.accumulators, place.chunk
    address = make_words_address(phase.bias, count)

    @inline
    def start(acc, w, lane, tile, row, base, weights, frame):
        near = address(lane, tile, base)
        for a in range(count):
            low, high = load_two(add(near, U32(8 * a)))
            for m in range(chunk):
                n = (m * count + a) * 4
                acc[n] = low
                acc[n + 1] = high
                acc[n + 2] = low
                acc[n + 3] = high

    return start


def _make_multiply(
    place: GroupRole, phase: GroupPhase, section: FragmentPlace, plane: int = 0
) -> Any:
    """multiply(acc, m, a0, a1, a2, a3, f, first, step): all gates, for row m.

    The weights of gate a are the words f[first + a * step] and the next. Plane 1 are low bytes.
    """
    count, gates, skip = phase.accumulators, section.gates, section.skip
    behind = plane * place.chunk * count * 4
    product = multiply_halves
    if section.operand is Operand.BYTES:
        product = multiply_unsigned if plane else multiply_bytes

    @inline
    def multiply(acc, m, a0, a1, a2, a3, f, first, step):
        for a in range(gates):
            n = behind + (m * count + a + skip * (a >> 1)) * 4
            i = first + a * step
            d0, d1, d2, d3 = product(
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


def _make_rows(place: GroupRole, phase: GroupPhase, section: FragmentPlace, products: int) -> Any:
    """rows(acc, near, f, start, step): the streams of all rows times fragments that a lane holds.

    `near` is the lane's part of the first row, f[start] the first word of the first gate.
    """
    rows = _make_plane(place, phase, section, products, 0)
    if section.planes == 1:
        return rows
    low = _make_plane(place, phase, section, products, 1)

    @inline
    def both(acc, near, f, start, step):
        rows(acc, near, f, start, step)
        low(acc, near, f, start, step)

    return both


def _make_plane(
    place: GroupRole, phase: GroupPhase, section: FragmentPlace, products: int, plane: int
) -> Any:
    multiply = _make_multiply(place, phase, section, plane)
    chunk, pitch, first = place.chunk, section.rows.pitch, plane * section.rows.low

    @inline
    def rows(acc, near, f, start, step):
        for m in range(chunk):
            for k in range(products):
                at = add(near, U32(first + m * ROW_STEP * pitch + k * PRODUCT_BYTES))
                a0, a1, a2, a3 = load_shared4(at)
                multiply(acc, m, a0, a1, a2, a3, f, start + 2 * k, step)

    return rows


def _make_pairs(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> tuple[Any, Any]:
    """The products, two at a time."""
    slot, rows_of = make_rows_slot(section.rows), _make_rows(place, phase, section, 2)
    before, gates, pairs, pitch = section.before, section.gates, section.pairs, section.rows.pitch
    held, stored = section.in_registers, section.in_shared
    streamed = pairs - held - stored
    first, image, shared = section.first_word, section.image, section.shared
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
            rows_of(acc, add(near, U32(2 * q * PRODUCT_BYTES)), w, first + q * words, _LANE_WORDS)
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
                rows_of(acc, add(near, U32(2 * (held + q) * PRODUCT_BYTES)), f, 0, _LANE_WORDS)
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
                rows_of(
                    acc,
                    add(near, U32(2 * (held + stored + q) * PRODUCT_BYTES)),
                    now,
                    0,
                    _LANE_WORDS,
                )

    return load, total


def _make_tail(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> tuple[Any, Any]:
    """The last product, if it is single."""
    slot, rows_of = make_rows_slot(section.rows), _make_rows(place, phase, section, 1)
    before, gates, pairs, pitch = section.before, section.gates, section.pairs, section.rows.pitch
    is_held, is_stored = section.tail == "registers", section.tail == "shared"
    word, image, shared = section.tail_word, section.image_tail, section.shared_tail
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
        rows_of(acc, near, f, 0, 2)

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
