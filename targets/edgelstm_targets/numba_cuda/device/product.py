"""The product of packed weights with vectors in shared memory, and the sum over a unit's lanes.

Every thread reads quads of a vector and the weights of all its unit's gates for them. Float sums
without scales are added over all sections before the lanes meet; sums of whole numbers and those
with a scale by row meet section by section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda

from edgelstm_compiler.ir.kernels import Source
from edgelstm_targets.numba_cuda.device.elements import same
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
)
from edgelstm_targets.numba_cuda.device.reduction import make_reduction, plus
from edgelstm_targets.numba_cuda.device.rounding import make_rounding_shift
from edgelstm_targets.numba_cuda.device.sections import (
    in_turn,
    load_nothing,
    make_section,
    sums_in_turn,
)
from edgelstm_targets.numba_cuda.places import PhasePlace, RolePlace, SectionPlace
from edgelstm_targets.numba_cuda.precision import Integer


@dataclass(frozen=True, slots=True)
class Product:
    """The code of a phase's product.

    Args:
        load: (w, t, rank, base, weights): brings weights where they stay.
        total: (w, t, lane, rank, turn, unit, base, weights, frame): of pass `turn`, the sum with
            its bias that `make_reduction` gives this lane. F32, or a word in scheme int8-full.
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
    sections = [make_section(place, section) for section in phase.sections]
    loads = [load for load, _ in sections]
    if apart:
        total = bias
        for section, (_, add_up) in zip(phase.sections, sections, strict=True):
            scale, keep, words = _make_scale(place, phase, section, words)
            keeps.append(keep)
            total = _add_apart(place, phase, section, add_up, scale, total, is_whole)
    else:
        total = _add_together([add_up for _, add_up in sections], place, phase, bias)
    return Product(in_turn([*loads, *keeps]), total, words)


def _add_together(add_ups: list[Any], place: RolePlace, phase: PhasePlace, bias: Any) -> Any:
    """All sections into the same sums, which the lanes then share."""
    reduce = make_reduction(phase.accumulators, place.lanes)
    add_up = sums_in_turn(add_ups)

    @inline
    def total(w, t, lane, rank, turn, unit, base, weights, frame):
        acc = cuda.local.array(4, F32)
        for a in range(4):
            acc[a] = F32(0)
        add_up(acc, w, t, rank, turn, base, weights, frame)
        return reduce(acc, lane) + bias(w, t, lane, rank, turn, unit, base, weights, frame)

    return total


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
    combine = add if is_whole else plus

    @inline
    def total(w, t, lane, rank, turn, unit, base, weights, frame):
        acc = cuda.local.array(4, kind)
        for a in range(4):
            acc[a] = kind(0)
        add_up(acc, w, t, rank, turn, base, weights, frame)
        mine = scale(reduce(acc, lane), w, lane, unit, weights)
        return combine(before(w, t, lane, rank, turn, unit, base, weights, frame), mine)

    return total


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

        return fetch_again, load_nothing, words
    from_register, to_register = (bits_of, float_of) if is_whole else (same, same)

    @inline
    def keep(w, t, rank, base, weights):
        unit = add(mul(rank, U32(tile)), div(t, U32(lanes)))
        w[words] = to_register(fetch(band(t, U32(lanes - 1)), unit, weights))

    @inline
    def get(w, lane, unit, weights):
        return from_register(w[words])

    return get, keep, words + 1
