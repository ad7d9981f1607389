"""Weights as fragments of tensor cores."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.engines.cuda_image import make_image
from edgelstm_compiler.ir.kernels import Bias, Phase, Section, Source
from edgelstm_targets.numba_cuda.mma_image import FragmentImage, Operand, TiledPhase
from edgelstm_targets.numba_cuda.precision import (
    FULL,
    PackedPhase,
    PackedSection,
    Part,
    Stretch,
    WeightForm,
    packed_phases,
)

UNITS, GATES = 11, 2


@pytest.mark.parametrize(
    ("operand", "extent", "cover"),
    [
        (Operand.HALVES, 1, (0, 1)),
        (Operand.HALVES, 16, (0, 1)),
        (Operand.HALVES, 17, (1, 0)),
        (Operand.HALVES, 33, (1, 1)),
        (Operand.BYTES, 32, (0, 1)),
        (Operand.BYTES, 33, (1, 0)),
        (Operand.BYTES, 65, (1, 1)),
    ],
)
def test_pairs_and_tail_cover_a_vector(
    operand: Operand, extent: int, cover: tuple[int, int]
) -> None:
    """A tail of one product where it saves half a pair."""
    assert operand.count_pairs(extent) == cover


def phase_of(extent: int) -> Phase:
    """One section of two gates."""
    return Phase((Bias((0,)), Bias((1,))), (Section(Source.X, extent, (0, 1), (0, 1)),))


def test_every_weight_stands_where_its_lane_reads_it() -> None:
    """Lane 4 n + m holds inputs 4 m to 4 m + 3 of unit n, of every product; the rest is zero."""
    extent = 41
    phase = phase_of(extent)
    weights = np.arange(1, UNITS * extent * GATES + 1, dtype=np.float32)
    weights = weights.reshape(UNITS, extent, GATES)
    blob = np.concatenate([np.full((UNITS, 2), 5000), weights.reshape(UNITS, -1)], 1)
    (packed,) = packed_phases(FULL, (phase,), UNITS, 0, has_peepholes=False)
    image, tiled = FragmentImage(), TiledPhase(phase, packed, UNITS, 2)
    image.add_rows(packed.bias, tiled)
    pairs, tail = image.add_fragments(packed.sections[0], Operand.HALVES, extent, tiled)
    made = make_image(blob.astype(np.float32).reshape(-1).view(np.uint8), image.layouts)
    check_fragments(made, pairs, tail, weights, np.float16)


def test_every_byte_stands_where_its_lane_reads_it() -> None:
    """The same of int8, which the blob holds by groups of four inputs, the last one cut short."""
    extent = 70
    rng = np.random.default_rng(3)
    weights = rng.integers(-127, 128, (UNITS, extent, GATES)).astype(np.int8)
    groups, rest = extent // 4, extent % 4
    whole = weights[:, : 4 * groups].reshape(UNITS, groups, 4, GATES).transpose(0, 1, 3, 2)
    last = weights[:, 4 * groups :].transpose(0, 2, 1)
    blob = np.concatenate([whole.reshape(UNITS, -1), last.reshape(UNITS, -1)], 1)
    stretches = (
        Stretch(0, (groups, 4), (4 * GATES, 1, 4)),
        Stretch(4 * groups * GATES, (1, rest), (rest * GATES, 1, rest)),
    )
    section = PackedSection(stretches, extent * GATES, GATES, WeightForm.BYTES, None)
    packed = PackedPhase(Part(0, extent * GATES, GATES, "i8"), None, (section,))
    image, tiled = FragmentImage(), TiledPhase(phase_of(extent), packed, UNITS, 2)
    pairs, tail = image.add_fragments(section, Operand.BYTES, extent, tiled)
    made = make_image(blob.reshape(-1).view(np.uint8), image.layouts)
    check_fragments(made, pairs, tail, weights, np.int8)


def check_fragments(
    made: np.ndarray, pairs: int, tail: int, weights: np.ndarray, kind: type[np.generic]
) -> None:
    """[tile][pair][gate][lane][product][2 words] and [tile][gate][lane][2 words]."""
    each = 8 // np.dtype(kind).itemsize
    first = made[pairs : pairs + 2 * GATES * 512].view(kind).reshape(2, 1, GATES, 32, 2, each)
    last = made[tail : tail + 2 * GATES * 256].view(kind).reshape(2, GATES, 32, each)
    padded = np.zeros((16, 12 * each, GATES), weights.dtype)
    padded[: len(weights), : weights.shape[1]] = weights
    for lane in range(32):
        unit, start = lane // 4, each * (lane % 4)
        for tile in range(2):
            rows = padded[8 * tile + unit].T
            for product in range(2):
                at = 4 * each * product + start
                np.testing.assert_array_equal(
                    first[tile, 0, :, lane, product], rows[:, at : at + each]
                )
            at = 8 * each + start
            np.testing.assert_array_equal(last[tile, :, lane], rows[:, at : at + each])


def test_numbers_of_units_become_words() -> None:
    """Int16 multipliers as int32: those of two neighbouring units side by side, row by row."""
    values = np.arange(UNITS * GATES, dtype=np.int16).reshape(UNITS, GATES) - 9
    part = Part(0, 2 * GATES, GATES, "i16")
    packed = PackedPhase(part, None, ())
    image, tiled = FragmentImage(), TiledPhase(phase_of(1), packed, UNITS, 2)
    place = image.add_rows(part, tiled)
    made = make_image(values.reshape(-1).view(np.uint8), image.layouts)[place:]
    found = made[: 16 * GATES * 4].view(np.int32).reshape(8, GATES, 2)
    padded = np.zeros((16, GATES), np.int32)
    padded[:UNITS] = values
    np.testing.assert_array_equal(found, padded.reshape(8, 2, GATES).transpose(0, 2, 1))
