"""Weights in few bits."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.quant.weights import (
    pack_nibbles,
    quantize_coded_rows,
    quantize_groups,
    quantize_rows,
)


def _weights(columns: int = 45) -> np.ndarray:
    weights = np.random.default_rng(1).standard_normal((2, 6, columns)) ** 3
    weights[0, 3] = 0.0
    return weights.astype(np.float32)


def test_rows_without_clipping() -> None:
    """The largest weight of each row is 127, the error at most half a step."""
    w = _weights()
    rows = quantize_rows(w, clip=False)
    live = np.abs(w).max(axis=-1) > 0
    assert (np.abs(rows.steps.astype(int)).max(axis=-1)[live] == 127).all()
    assert (np.abs(rows.restored - w) <= 0.5001 * rows.scale[..., None]).all()


@pytest.mark.parametrize("quantize", [quantize_rows, quantize_groups])
def test_clipping_lessens_the_error(quantize: object) -> None:
    """The searched scale has no larger squared error than the largest weight's."""
    w = _weights()
    errors = [
        np.square(quantize(w, clip=clip).restored - w).sum(axis=-1)  # type: ignore[operator]
        for clip in (True, False)
    ]
    assert (errors[0] <= errors[1] * 1.01 + 1e-9).all()


def test_importance_moves_the_error() -> None:
    """Columns whose input is large are quantized better."""
    w = _weights()
    importance = np.full(45, 1e-6)
    importance[:4] = 1.0
    plain, weighted = (
        quantize_rows(w, clip=True, importance=share).restored for share in (None, importance)
    )
    errors = [np.square(q - w)[..., :4].sum() for q in (plain, weighted)]
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 70])
def test_groups_are_restored_by_the_operator(columns: int) -> None:
    """DequantizeWeights restores packed int4 as the quantizer meant it."""
    groups = quantize_groups(_weights(columns), clip=True)
    assert groups.steps.min() >= -8
    assert groups.steps.max() <= 7
    fields = {"storage": "i4", "columns": columns, "transposed": False}
    (found,) = apply("DequantizeWeights", fields, [pack_nibbles(groups.steps), groups.scale])
    np.testing.assert_allclose(found, groups.restored, rtol=1e-6)


def test_transposed_weights() -> None:
    """Dense weights come back as (K, N)."""
    rows = quantize_rows(_weights()[0], clip=True)
    fields = {"storage": "i8", "columns": 45, "transposed": True}
    (found,) = apply("DequantizeWeights", fields, [rows.steps, rows.scale])
    np.testing.assert_allclose(found, rows.restored.T, rtol=1e-6)


@pytest.mark.parametrize("quantize", [quantize_rows, quantize_coded_rows, quantize_groups])
def test_zero_rows_have_no_scale_of_their_own(quantize: object) -> None:
    """Their scale is the smallest of the others: it must not take bits from what it shares."""
    w = 1e-4 * _weights()
    w[1, 2] = 0.0
    rows = quantize(w, clip=True)  # type: ignore[operator]
    dead = ~w.any(axis=-1)
    scale = np.abs(rows.scale.astype(np.float64))
    assert scale[dead].max() <= scale[~dead].max()
    assert not rows.steps[dead].any()
    assert np.square(rows.restored - w).sum() < 0.02 * np.square(w).sum()
