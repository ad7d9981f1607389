"""The product of packed weights with vectors in shared memory, and the sum over a unit's lanes.

Every thread reads quads of a vector and the weights of all its unit's gates for them; which quads
of the weights stand in registers, in shared memory or in the image is the placement's choice and
constant in the code. Float sums without scales are added over all sections before the lanes meet;
sums of whole numbers and those with a scale by row meet section by section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda

from edgelstm_compiler.ir.kernels import Source
from edgelstm_targets.numba_cuda.device.elements import make_slot, same
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add,
    add64,
    band,
    bits_of,
    div,
    float_of,
    float_of_word,
    inline,
    load_global,
    load_global_i16,
    load_global_word,
    mul,
    shuffle_xor,
    shuffle_xor_word,
)
from edgelstm_targets.numba_cuda.device.rounding import make_rounding_shift
from edgelstm_targets.numba_cuda.device.words import COPY, FETCH_GLOBAL, FETCH_SHARED, make_dot
from edgelstm_targets.numba_cuda.placement import PhasePlace, RolePlace, SectionPlace
from edgelstm_targets.numba_cuda.precision import Integer


@dataclass(frozen=True, slots=True)
class Product:
    """The code of a phase's product.

    Args:
        load: (w, t, rank, base, weights): brings weights where they stay.
        total: (w, t, lane, rank, turn, unit, base, weights, frame): of pass `turn`, the sum with
            its bias that `lane_accumulator` gives this lane. F32, or a word in scheme int8-full.
        words: registers used so far.
    """

    load: Any
    total: Any
    words: int


def make_product(place: RolePlace, phase: PhasePlace, words: int) -> Product:
    """The product of a phase.

    Args:
        place: the role.
        phase: the phase.
        words: registers of a thread that are taken: weights, and what other phases keep.
    """
    is_whole = is_integer(place)
    bias, keep_bias, words = _make_bias(place, phase, words)
    keeps = [keep_bias]
    apart = phase.sections[0].form.is_whole or any(s.scales >= 0 for s in phase.sections)
    sections = [_make_section(place, section) for section in phase.sections]
    loads = [load for load, _ in sections]
    if apart:
        total = bias
        for section, (_, add_up) in zip(phase.sections, sections, strict=True):
            scale, keep, words = _make_scale(place, phase, section, words)
            keeps.append(keep)
            total = _add_apart(place, phase, section, add_up, scale, total, is_whole)
    else:
        total = _add_together([add_up for _, add_up in sections], place, phase, bias)
    return Product(_in_turn([*loads, *keeps]), total, words)


def _in_turn(functions: list[Any]) -> Any:
    first = functions[0]
    if len(functions) == 1:
        return first
    rest = _in_turn(functions[1:])

    @inline
    def both(w, t, rank, base, weights):
        first(w, t, rank, base, weights)
        rest(w, t, rank, base, weights)

    return both


def _add_together(add_ups: list[Any], place: RolePlace, phase: PhasePlace, bias: Any) -> Any:
    """All sections into the same sums, which the lanes then share."""
    reduce = make_reduction(phase.accumulators, place.lanes)
    add_up = _sum_in_turn(add_ups)

    @inline
    def total(w, t, lane, rank, turn, unit, base, weights, frame):
        acc = cuda.local.array(4, F32)
        for a in range(4):
            acc[a] = F32(0)
        add_up(acc, w, t, rank, turn, base, weights, frame)
        return reduce(acc, lane) + bias(w, t, lane, rank, turn, unit, base, weights, frame)

    return total


def _sum_in_turn(functions: list[Any]) -> Any:
    first = functions[0]
    if len(functions) == 1:
        return first
    rest = _sum_in_turn(functions[1:])

    @inline
    def both(acc, w, t, rank, turn, base, weights, frame):
        first(acc, w, t, rank, turn, base, weights, frame)
        rest(acc, w, t, rank, turn, base, weights, frame)

    return both


def _add_apart(
    place: RolePlace,
    phase: PhasePlace,
    section: SectionPlace,
    add_up: Any,
    scale: Any,
    before: Any,
    is_whole: bool,
) -> Any:
    """One section: its sums over the lanes, scaled by row, added to what was there before."""
    whole_sums = section.form.is_whole
    kind = U32 if whole_sums else F32
    reduce = make_reduction(phase.accumulators, place.lanes, whole_sums)
    plus = add if is_whole else _plus

    @inline
    def total(w, t, lane, rank, turn, unit, base, weights, frame):
        acc = cuda.local.array(4, kind)
        for a in range(4):
            acc[a] = kind(0)
        add_up(acc, w, t, rank, turn, base, weights, frame)
        mine = scale(reduce(acc, lane), w, lane, unit, weights)
        return plus(before(w, t, lane, rank, turn, unit, base, weights, frame), mine)

    return total


def _make_section(place: RolePlace, section: SectionPlace) -> tuple[Any, Any]:
    """load(w, t, rank, base, weights), and add_up(acc, w, t, rank, turn, base, weights, frame)."""
    slot, dot = make_slot(section.ring), make_dot(section, place.lanes)
    read, step, kind, count = dot.read, dot.step, dot.kind, dot.count
    before, gates, skip, quads = section.before, section.gates, section.skip, section.quads
    held, stored, words = section.in_registers, section.in_shared, section.words
    streamed = quads - held - stored
    kept = held + stored
    first, image, shared = section.first_word, section.image, section.shared
    threads, lanes, passes = place.threads, place.lanes, place.passes
    each = 4 * words
    row = threads * each
    chunk_bytes = section.form.chunk(words) * section.form.vector_bytes
    pass_bytes = quads * gates * row
    block_bytes = passes * pass_bytes
    shared_pass = stored * gates * row
    fetch_near, fetch_far, copy = FETCH_SHARED[words], FETCH_GLOBAL[words], COPY[words]

    @inline
    def load(w, t, rank, base, weights):
        origin = add64(weights, U64(image) + U64(rank) * U64(block_bytes) + U64(t) * U64(each))
        if held > 0:
            fresh = cuda.local.array(words, U32)
            for j in range(held * gates):
                fetch_far(fresh, 0, add64(origin, U64(j * row)))
                for k in range(words):
                    w[first + j * words + k] = float_of(fresh[k])
        near = add(base, add(U32(shared), mul(t, U32(each))))
        for turn in range(passes):
            for j in range(stored * gates):
                place_in_image = turn * pass_bytes + (held * gates + j) * row
                at = add(near, U32(turn * shared_pass + j * row))
                copy(add64(origin, U64(place_in_image)), at)

    @inline
    def add_up(acc, w, t, rank, turn, base, weights, frame):
        lane = band(t, U32(lanes - 1))
        vector = add(slot(base, frame - U32(before)), mul(lane, U32(chunk_bytes)))
        x = cuda.local.array(count, kind)
        fresh = cuda.local.array(words, U32)
        for q in range(held):
            read(x, vector, q)
            for g in range(gates):
                a = g + skip * (g >> 1)
                for k in range(words):
                    acc[a] = step(acc[a], bits_of(w[first + (q * gates + g) * words + k]), x, k)
        if stored > 0:
            near = add(base, add(U32(shared), mul(t, U32(each))))
            near = add(near, mul(turn, U32(shared_pass)))
            for q in range(stored):
                read(x, vector, held + q)
                for g in range(gates):
                    a = g + skip * (g >> 1)
                    fetch_near(fresh, 0, add(near, U32((q * gates + g) * row)))
                    for k in range(words):
                        acc[a] = step(acc[a], fresh[k], x, k)
        if streamed > 0:
            far = U64(image + kept * gates * row) + U64(t) * U64(each)
            far += U64(rank) * U64(block_bytes) + U64(turn) * U64(pass_bytes)
            far = add64(weights, far)
            for q in range(streamed):
                read(x, vector, kept + q)
                for g in range(gates):
                    a = g + skip * (g >> 1)
                    fetch_far(fresh, 0, add64(far, U64((q * gates + g) * row)))
                    for k in range(words):
                        acc[a] = step(acc[a], fresh[k], x, k)

    return load, add_up


def _make_bias(place: RolePlace, phase: PhasePlace, words: int) -> tuple[Any, Any, int]:
    """The bias of the lane's sum: read (as `total`), keep (as `load`), registers so far."""
    is_whole = is_integer(place)
    load = load_global_word if is_whole else load_global
    fetch = _make_fetch_row(phase.accumulators, phase.accumulators, phase.bias, load, 4)
    get, keep, words = _make_kept(place, words, fetch, is_whole)

    @inline
    def read(w, t, lane, rank, turn, unit, base, weights, frame):
        return get(w, lane, unit, weights)

    return read, keep, words


def _make_scale(
    place: RolePlace, phase: PhasePlace, section: SectionPlace, words: int
) -> tuple[Any, Any, int]:
    """scale(sum, w, lane, unit, weights) of the lane's row; keep and registers as `_make_bias`."""
    precision = place.role.precision  # type: ignore[attr-defined]
    is_whole = isinstance(precision, Integer)
    load, size = (load_global_i16, 2) if is_whole else (load_global, 4)
    fetch = _make_fetch_row(phase.accumulators, section.gates, section.scales, load, size)
    get, keep, words = _make_kept(place, words, fetch, is_whole)
    if is_whole:
        narrow = make_rounding_shift(input_shift(precision, section.source))

        @inline
        def scale_rounded(total, w, lane, unit, weights):
            return mul(narrow(total), get(w, lane, unit, weights))

        return scale_rounded, keep, words
    as_number = float_of_word if section.form.is_whole else same

    @inline
    def scale(total, w, lane, unit, weights):
        return as_number(total) * get(w, lane, unit, weights)

    return scale, keep, words


def is_integer(place: RolePlace) -> bool:
    """Whether the role computes in whole numbers throughout."""
    return isinstance(place.role.precision, Integer)  # type: ignore[attr-defined]


def input_shift(precision: Integer, source: Source) -> int:
    """By how much sums over x, or over h, are shifted before they are scaled."""
    op = precision.op
    shift: int = op.x_shift if source is Source.X else op.h_shift  # type: ignore[union-attr]
    return shift


def _make_fetch_row(accumulators: int, rows: int, image: int, load: Any, size: int) -> Any:
    """fetch(lane, unit, weights): of [unit][row], the row of the sum that the lane is given.

    A section without that sum has fewer rows; whatever row is taken then, its sum is zero.
    """
    four, two = accumulators in (3, 4), accumulators == 2
    last = rows - 1

    @inline
    def fetch(lane, unit, weights):
        which = U32(0)
        if four:
            which = add(mul(band(lane, U32(1)), U32(2)), band(div(lane, U32(2)), U32(1)))
            which = min(which, U32(last))
        if two:
            which = band(lane, U32(1))
        element = add(mul(unit, U32(rows)), which)
        return load(add64(weights, U64(image) + U64(element) * U64(size)))

    return fetch


def _make_kept(place: RolePlace, words: int, fetch: Any, is_whole: bool) -> tuple[Any, Any, int]:
    """get(w, lane, unit, weights), keep (as `load`), registers so far.

    With one pass it stays in a register.
    """
    lanes, tile = place.lanes, place.tile
    if place.passes > 1:

        @inline
        def fetch_again(w, lane, unit, weights):
            return fetch(lane, unit, weights)

        return fetch_again, _keep_nothing, words
    from_register, to_register = (bits_of, float_of) if is_whole else (same, same)

    @inline
    def keep(w, t, rank, base, weights):
        unit = add(mul(rank, U32(tile)), div(t, U32(lanes)))
        w[words] = to_register(fetch(band(t, U32(lanes - 1)), unit, weights))

    @inline
    def get(w, lane, unit, weights):
        return from_register(w[words])

    return get, keep, words + 1


@inline
def _keep_nothing(w, t, rank, base, weights):
    pass


def make_reduction(accumulators: int, lanes: int, is_whole: bool = False) -> Any:
    """reduce(acc, lane): the sum over a unit's lanes of the accumulator that this lane is given.

    With four accumulators lanes 0, 1, 2, 3 (and again 4, 5, ...) are given 0, 2, 1, 3; with two,
    0 and 1 in turn; a single one is given to all. Halving the accumulators while the lanes meet
    takes 3 exchanges where summing each alone takes 8.
    """
    plus, exchange = (add, shuffle_xor_word) if is_whole else (_plus, shuffle_xor)
    if accumulators in (3, 4):
        return _reduce_four(lanes, plus, exchange)
    if accumulators == 2:
        return _reduce_two(lanes, plus, exchange)
    return _reduce_one(lanes, 1, plus, exchange)


@inline
def _plus(a, b):
    return a + b


def _reduce_one(lanes: int, first: int, plus: Any, exchange: Any) -> Any:
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
            z = plus(z, exchange(z, U32(first << k)))
        return z

    return reduce


def _reduce_two(lanes: int, plus: Any, exchange: Any) -> Any:
    rest = _reduce_one(lanes, 2, plus, exchange)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        mine = cuda.selp(odd, acc[1], acc[0])
        other = cuda.selp(odd, acc[0], acc[1])
        acc[0] = plus(mine, exchange(other, U32(1)))
        return rest(acc, lane)

    return reduce


def _reduce_four(lanes: int, plus: Any, exchange: Any) -> Any:
    rest = _reduce_one(lanes, 4, plus, exchange)

    @inline
    def reduce(acc, lane):
        odd = band(lane, U32(1)) != U32(0)
        high = band(lane, U32(2)) != U32(0)
        a = cuda.selp(odd, acc[2], acc[0])
        b = cuda.selp(odd, acc[3], acc[1])
        a = plus(a, exchange(cuda.selp(odd, acc[0], acc[2]), U32(1)))
        b = plus(b, exchange(cuda.selp(odd, acc[1], acc[3]), U32(1)))
        mine = cuda.selp(high, b, a)
        other = cuda.selp(high, a, b)
        acc[0] = plus(mine, exchange(other, U32(2)))
        return rest(acc, lane)

    return reduce


def lane_accumulator(accumulators: int, lane: int) -> int:
    """Which accumulator `make_reduction` gives to a lane."""
    if accumulators in (3, 4):
        return 2 * (lane & 1) + ((lane >> 1) & 1)
    return lane & 1 if accumulators == 2 else 0
