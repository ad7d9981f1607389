"""Weights as fragments of tensor cores."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.engines.cuda_image import make_image
from edgelstm_compiler.ir.kernels import Bias, Phase, Section, Source
from edgelstm_targets.numba_cuda.mma_image import FragmentImage, TiledPhase, count_pairs


@pytest.mark.parametrize(
    ("extent", "cover"), [(1, (0, 1)), (16, (0, 1)), (17, (1, 0)), (32, (1, 0)), (33, (1, 1))]
)
def test_pairs_and_tail_cover_a_vector(extent: int, cover: tuple[int, int]) -> None:
    """A tail of 16 inputs where it saves half a pair."""
    assert count_pairs(extent) == cover


def test_every_weight_stands_where_its_lane_reads_it() -> None:
    """Lane 4 n + m holds inputs 4 m to 4 m + 3 of unit n, of every product; the rest is zero."""
    units, extent, gates = 11, 41, 2
    phase = Phase((Bias((0,)), Bias((1,))), (Section(Source.X, extent, (0, 1), (0, 1)),))
    weights = np.arange(1, units * extent * gates + 1, dtype=np.float32)
    weights = weights.reshape(units, extent, gates)
    blob = np.concatenate([np.full((units, 2), 5000), weights.reshape(units, -1)], 1)
    image, tiled = FragmentImage(), TiledPhase(phase, 0, units, 2, False)
    image.add_bias(tiled)
    pairs, tail = image.add_fragments(tiled, 0)
    made = make_image(blob.astype(np.float32).reshape(-1).view(np.uint8), image.layouts)
    # [tile][pair][gate][lane][product][4] and [tile][gate][lane][4].
    first = made[pairs : pairs + 2 * 2 * 512].view(np.float16).reshape(2, 1, 2, 32, 2, 4)
    last = made[tail : tail + 2 * 2 * 256].view(np.float16).reshape(2, 2, 32, 4)
    padded = np.zeros((16, 48, gates), np.float32)
    padded[:units, :extent] = weights
    for lane in range(32):
        unit, start = lane // 4, 4 * (lane % 4)
        for tile in range(2):
            rows = padded[8 * tile + unit].T
            for product in range(2):
                at = 16 * product + start
                np.testing.assert_array_equal(
                    first[tile, 0, :, lane, product], rows[:, at : at + 4]
                )
            np.testing.assert_array_equal(last[tile, :, lane], rows[:, 32 + start : 36 + start])
