"""A section of a product: weights brought to where they stay, and multiplied with their vector.

Which quads of the weights stand in registers, in shared memory or in the image is the placement's
choice and constant in the code.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.elements import make_slot, same
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    anew,
    band,
    bits_of,
    float_of,
    inline,
    load_global,
    mul,
)
from edgelstm_targets.numba_cuda.device.words import COPY, FETCH_GLOBAL, FETCH_SHARED, make_dot
from edgelstm_targets.numba_cuda.places import RolePlace, SectionPlace


def make_section(place: RolePlace, section: SectionPlace) -> tuple[Any, Any]:
    """load(w, t, rank, base, weights), and add_up(acc, w, t, rank, turn, base, weights, frame).

    Only the parts that there are become code: weights in registers, in shared memory, streamed.
    """
    loads, sums = [], []
    streamed = section.quads - section.in_registers - section.in_shared
    if section.in_registers:
        loads.append(_make_load_registers(place, section))
        sums.append(_make_sum_registers(place, section))
    if section.in_shared:
        loads.append(_make_load_shared(place, section))
        sums.append(_make_sum_shared(place, section))
    if streamed:
        sums.append(_make_sum_streamed(place, section))
    return in_turn(loads or [load_nothing]), sums_in_turn(sums)


def _make_load_registers(place: RolePlace, section: SectionPlace) -> Any:
    origin_of, fetch = _make_origin(place, section), FETCH_GLOBAL[section.words]
    count, words, first = section.in_registers * section.gates, section.words, section.first_word
    row = 4 * words * place.threads

    @inline
    def load(w, t, rank, base, weights):
        origin = origin_of(t, rank, weights)
        fresh = cuda.local.array(words, U32)
        for j in range(count):
            fetch(fresh, 0, add64(origin, U64(j * row)))
            for k in range(words):
                w[first + j * words + k] = float_of(fresh[k])

    return load


def _make_load_shared(place: RolePlace, section: SectionPlace) -> Any:
    origin_of, copy = _make_origin(place, section), COPY[section.words]
    gates, passes, shared, each = section.gates, place.passes, section.shared, 4 * section.words
    held, count, row = section.in_registers * gates, section.in_shared * gates, each * place.threads
    pass_bytes = section.quads * gates * row

    @inline
    def load(w, t, rank, base, weights):
        origin = origin_of(t, rank, weights)
        near = add(base, add(U32(shared), mul(t, U32(each))))
        for turn in range(passes):
            for j in range(count):
                source = add64(origin, U64(turn * pass_bytes + (held + j) * row))
                copy(source, add(near, U32((turn * count + j) * row)))

    return load


def _make_origin(place: RolePlace, section: SectionPlace) -> Any:
    """origin(t, rank, weights): address of a thread's first word of the section in the image."""
    each, image = 4 * section.words, section.image
    block_bytes = place.passes * section.quads * section.gates * each * place.threads

    @inline
    def origin(t, rank, weights):
        return add64(weights, U64(image) + U64(rank) * U64(block_bytes) + U64(t) * U64(each))

    return origin


def _make_vector(place: RolePlace, section: SectionPlace) -> Any:
    """vector(t, base, frame): address of this lane's first chunk of the vector."""
    slot, before, lanes = make_slot(section.ring), section.before, place.lanes
    chunk_bytes = section.form.chunk(section.words) * section.form.vector_bytes

    @inline
    def vector(t, base, frame):
        lane = band(t, U32(lanes - 1))
        return add(slot(base, frame - U32(before)), mul(lane, U32(chunk_bytes)))

    return vector


def _make_close(place: RolePlace, section: SectionPlace) -> tuple[Any, Any]:
    """open(sum) -> what a quad is added to; close(sum, total, t, rank, turn, q, g, weights) -> sum.

    Quads with a scale of their own are added up apart.
    """
    if section.group_scales < 0:

        @inline
        def close(before, total, t, rank, turn, q, g, weights):
            return total

        return same, close
    image, gates, row = section.group_scales, section.gates, 4 * place.threads
    pass_bytes = section.quads * gates * row
    block_bytes = place.passes * pass_bytes

    @inline
    def from_zero(before):
        return F32(0)

    @inline
    def close_scaled(before, total, t, rank, turn, q, g, weights):
        at = U64(image + (q * gates + g) * row) + U64(t) * U64(4)
        at += U64(rank) * U64(block_bytes) + U64(turn) * U64(pass_bytes)
        return before + total * load_global(add64(weights, at))

    return from_zero, close_scaled


def _make_sum_registers(place: RolePlace, section: SectionPlace) -> Any:
    vector_of, dot = _make_vector(place, section), make_dot(section, place.lanes)
    read, step, kind, count = dot.read, dot.step, dot.kind, dot.count
    begin, close = _make_close(place, section)
    gates, skip, words = section.gates, section.skip, section.words
    held, first = section.in_registers, section.first_word
    word = _make_word(place, section)

    @inline
    def add_up(acc, w, t, rank, turn, base, weights, frame):
        vector = vector_of(t, base, frame)
        x = cuda.local.array(count, kind)
        for q in range(held):
            read(x, vector, q)
            for g in range(gates):
                a = g + skip * (g >> 1)
                total = begin(acc[a])
                for k in range(words):
                    value = word(w, first + (q * gates + g) * words + k)
                    total = step(total, value, x, k)
                acc[a] = close(acc[a], total, t, rank, turn, q, g, weights)

    return add_up


def _make_word(place: RolePlace, section: SectionPlace) -> Any:
    """word(w, i): word i of a thread's weights.

    What the compiler makes of it ahead of the first frame takes registers for good; that is left to
    it, or to as many words as there are registers for.
    """
    numbers, spare = section.form.numbers, place.spare
    if spare is None or numbers == 1:

        @inline
        def kept(w, i):
            return bits_of(w[i])

        return kept
    ahead = spare // (numbers - 1)

    @inline
    def word(w, i):
        value = bits_of(w[i])
        if i >= ahead:
            value = anew(value)
        return value

    return word


def _make_sum_shared(place: RolePlace, section: SectionPlace) -> Any:
    vector_of, dot = _make_vector(place, section), make_dot(section, place.lanes)
    read, step, kind, count = dot.read, dot.step, dot.kind, dot.count
    begin, close = _make_close(place, section)
    gates, skip, words = section.gates, section.skip, section.words
    held, stored, shared = section.in_registers, section.in_shared, section.shared
    fetch, each = FETCH_SHARED[words], 4 * words
    row = each * place.threads
    pass_bytes = stored * gates * row

    @inline
    def add_up(acc, w, t, rank, turn, base, weights, frame):
        vector = vector_of(t, base, frame)
        x, fresh = cuda.local.array(count, kind), cuda.local.array(words, U32)
        near = add(base, add(U32(shared), mul(t, U32(each))))
        near = add(near, mul(turn, U32(pass_bytes)))
        for q in range(stored):
            read(x, vector, held + q)
            for g in range(gates):
                a = g + skip * (g >> 1)
                fetch(fresh, 0, add(near, U32((q * gates + g) * row)))
                total = begin(acc[a])
                for k in range(words):
                    total = step(total, fresh[k], x, k)
                acc[a] = close(acc[a], total, t, rank, turn, held + q, g, weights)

    return add_up


def _make_sum_streamed(place: RolePlace, section: SectionPlace) -> Any:
    vector_of, dot = _make_vector(place, section), make_dot(section, place.lanes)
    read, step, kind, count = dot.read, dot.step, dot.kind, dot.count
    begin, close = _make_close(place, section)
    gates, skip, words = section.gates, section.skip, section.words
    kept = section.in_registers + section.in_shared
    streamed = section.quads - kept
    origin_of, fetch = _make_origin(place, section), FETCH_GLOBAL[words]
    row = 4 * words * place.threads
    pass_bytes = section.quads * gates * row

    @inline
    def add_up(acc, w, t, rank, turn, base, weights, frame):
        vector = vector_of(t, base, frame)
        x, fresh = cuda.local.array(count, kind), cuda.local.array(words, U32)
        far = add64(origin_of(t, rank, weights), U64(turn) * U64(pass_bytes))
        far = add64(far, U64(kept * gates * row))
        for q in range(streamed):
            read(x, vector, kept + q)
            for g in range(gates):
                a = g + skip * (g >> 1)
                fetch(fresh, 0, add64(far, U64((q * gates + g) * row)))
                total = begin(acc[a])
                for k in range(words):
                    total = step(total, fresh[k], x, k)
                acc[a] = close(acc[a], total, t, rank, turn, kept + q, g, weights)

    return add_up


def in_turn(functions: list[Any]) -> Any:
    """All functions (w, t, rank, base, weights), one after another."""
    first = functions[0]
    if len(functions) == 1:
        return first
    rest = in_turn(functions[1:])

    @inline
    def both(w, t, rank, base, weights):
        first(w, t, rank, base, weights)
        rest(w, t, rank, base, weights)

    return both


def sums_in_turn(functions: list[Any]) -> Any:
    """All functions (acc, w, t, rank, turn, base, weights, frame), one after another."""
    first = functions[0]
    if len(functions) == 1:
        return first
    rest = sums_in_turn(functions[1:])

    @inline
    def both(acc, w, t, rank, turn, base, weights, frame):
        first(acc, w, t, rank, turn, base, weights, frame)
        rest(acc, w, t, rank, turn, base, weights, frame)

    return both


@inline
def load_nothing(w, t, rank, base, weights):
    """There is nothing to bring."""
    pass
