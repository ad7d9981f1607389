"""Sums of whole numbers on tensor cores: each section added up apart, scaled by row, and joined.

The contract is `edgelstm_compiler/quant/README.md`. Scheme int8-full goes on in whole numbers:
`rs(sum, shift) * multiplier`; scheme int8 in float32: `float(sum) * scale`.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    add,
    float_of_word,
    inline,
    load_shared2,
    load_shared_word2,
    mul,
    shift_left,
    shift_right,
)
from edgelstm_targets.numba_cuda.device.mma_product import (
    make_copy_in,
    make_group_product,
    make_section,
    make_start,
    make_words_address,
)
from edgelstm_targets.numba_cuda.device.product import input_shift
from edgelstm_targets.numba_cuda.mma_places import FragmentPlace, GroupPhase, GroupRole
from edgelstm_targets.numba_cuda.pipeline import DenseRole, RecurrentRole
from edgelstm_targets.numba_cuda.precision import Integer


def number_of(place: GroupRole) -> Any:
    """The type of a role's sums: words in scheme int8-full, otherwise float32."""
    assert isinstance(place.role, (RecurrentRole, DenseRole))
    return U32 if isinstance(place.role.precision, Integer) else F32


def make_sums(place: GroupRole, phase: GroupPhase) -> tuple[Any, Any]:
    """Load and total, as of `make_group_product`; sums are of the type `number_of`."""
    if not phase.is_scaled:
        return make_group_product(place, phase)
    load = make_copy_in(place, phase.bias)
    total = make_start(place, phase, load_shared_word2 if number_of(place) is U32 else load_shared2)
    for section in phase.sections:
        load, total = _make_scaled(place, phase, section, load, total)
    return load, total


def _make_scaled(
    place: GroupRole, phase: GroupPhase, section: FragmentPlace, load: Any, total: Any
) -> tuple[Any, Any]:
    """The same with one section more."""
    load_section, add_up = make_section(place, phase, section)
    assert section.scales is not None
    load_scales = make_copy_in(place, section.scales)
    join = _make_join(place, phase, section)
    size, rounding = 4 * phase.accumulators * place.chunk, _rounding(place, section)
    behind, whole = size * (section.planes - 1), size * section.planes

    @inline
    def load_all(w, t, base, weights):
        load(w, t, base, weights)
        load_section(w, t, base, weights)
        load_scales(w, t, base, weights)

    @inline
    def total_all(acc, w, lane, tile, row, base, weights, frame):
        total(acc, w, lane, tile, row, base, weights, frame)
        part = cuda.local.array(whole, U32)
        for n in range(behind):
            part[n] = U32(0)
        for n in range(size):
            part[behind + n] = U32(rounding)
        add_up(part, w, lane, tile, row, base, weights, frame)
        join(acc, part, lane, tile, base)

    return load_all, total_all


def _make_join(place: GroupRole, phase: GroupPhase, section: FragmentPlace) -> Any:
    """join(acc, part, lane, tile, base): adds a section's sums, scaled, to all of them."""
    count, chunk, gates, skip = phase.accumulators, place.chunk, section.gates, section.skip
    assert section.scales is not None
    address = make_words_address(section.scales, gates)
    value_of = _make_value(section, 4 * count * chunk)
    scale = _make_scale(place, section)
    load_two = load_shared_word2 if number_of(place) is U32 else load_shared2

    @inline
    def join(acc, part, lane, tile, base):
        near = address(lane, tile, base)
        for a in range(gates):
            even, odd = load_two(add(near, U32(8 * a)))
            for m in range(chunk):
                n = (m * count + a + skip * (a >> 1)) * 4
                acc[n] = scale(acc[n], value_of(part, n), even)
                acc[n + 1] = scale(acc[n + 1], value_of(part, n + 1), odd)
                acc[n + 2] = scale(acc[n + 2], value_of(part, n + 2), even)
                acc[n + 3] = scale(acc[n + 3], value_of(part, n + 3), odd)

    return join


def _make_value(section: FragmentPlace, behind: int) -> Any:
    """value(part, n): a sum; where the vector has two planes, that of high bytes counts 256."""
    if section.planes == 1:

        @inline
        def single(part, n):
            return part[n]

        return single

    @inline
    def joined(part, n):
        return add(shift_left(part[n], U32(8)), part[n + behind])

    return joined


def _rounding(place: GroupRole, section: FragmentPlace) -> int:
    """What a section's sums begin with: then a shift alone rounds half up."""
    shift = _shift(place, section)
    return 1 << (shift - 1) if shift else 0


def _shift(place: GroupRole, section: FragmentPlace) -> int:
    precision = place.role.precision  # type: ignore[attr-defined]
    return input_shift(precision, section.source) if isinstance(precision, Integer) else 0


def _make_scale(place: GroupRole, section: FragmentPlace) -> Any:
    """scale(before, sum, factor): `before` and the scaled sum."""
    if number_of(place) is F32:

        @inline
        def scaled(before, value, factor):
            return before + float_of_word(value) * factor

        return scaled
    shift = _shift(place, section)

    @inline
    def multiplied(before, value, factor):
        return add(before, mul(shift_right(value, U32(shift)), factor))

    return multiplied
