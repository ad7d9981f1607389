"""Rounding that compensates: each column takes up what rounding the ones before it did to a sum.

Of a row the joint operand [x; h] counts: what W loses, R can make up for.
Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.moments import Moments

DAMPING = 0.05
"""Added to the correlations' diagonal: recordings are few."""

SWEEPS = 3


def compensated(
    weights: Array,
    scale: Array,
    steps: Array,
    correlation: Array,
    deviation: Array,
    limits: tuple[int, int],
) -> Array:
    """Steps of a layer's rows with the least error of their sums that rounding in turn finds.

    Args:
        weights: of the joint operand (rows, K).
        scale: of each weight's step (rows, K).
        steps: rounded to the nearest; kept in rows where nothing better is found.
        correlation: of the operand (K, K).
        deviation: of the operand (K,).
        limits: smallest and largest step.
    """
    wide, size = weights * deviation, scale * deviation
    order = np.argsort(-np.square(deviation * scale.mean(axis=0)), kind="stable")
    matrix = correlation[np.ix_(order, order)] + DAMPING * np.eye(len(order))
    try:
        upper = np.linalg.cholesky(np.linalg.inv(matrix)).T
    except np.linalg.LinAlgError:
        return steps
    left, size_in_order = wide[:, order].copy(), size[:, order]
    found = np.empty_like(left)
    for k in range(len(order)):
        found[:, k] = np.clip(np.rint(left[:, k] / size_in_order[:, k]), *limits)
        error = (left[:, k] - found[:, k] * size_in_order[:, k]) / upper[k, k]
        left[:, k + 1 :] -= error[:, None] * upper[k, k + 1 :]
    moved = np.empty_like(found)
    moved[:, order] = found
    damped = correlation + DAMPING * np.eye(len(order))
    before, after = (
        np.einsum("rk,kl,rl->r", e, damped, e, optimize=True)
        for e in (wide - steps * size, wide - moved * size)
    )
    best = np.where((after < before)[:, None], moved, steps)
    return _refined(wide, size, best, damped, limits).astype(steps.dtype)


def _refined(
    wide: Array, size: Array, steps: Array, matrix: Array, limits: tuple[int, int]
) -> Array:
    """Each step in turn to its best, the others as they are, until `SWEEPS` have passed."""
    found = steps.astype(np.float64)
    slope = (wide - found * size) @ matrix
    for _ in range(SWEEPS):
        for k in range(found.shape[1]):
            wanted = found[:, k] + slope[:, k] / (matrix[k, k] * size[:, k])
            new = np.clip(np.rint(wanted), *limits)
            change = (new - found[:, k]) * size[:, k]
            found[:, k] = new
            slope -= change[:, None] * matrix[k]
    return found


def compensated_layer(
    moments: Moments | None,
    positions: Sequence[int],
    weights: Array,
    scale: Array,
    steps: Array,
    x_deviation: Array,
    limits: tuple[int, int],
) -> Array:
    """The same for all rows of a recurrent layer (D, G*H, I+H), or of a dense one (1, N, K).

    Args:
        moments: of the layer, or None: nothing is known.
        positions: for each row block the kind of its operand.
        weights: (D, rows, K).
        scale: of each weight's step.
        steps: rounded to the nearest.
        x_deviation: of the operand's first part as it is quantized, never zero.
        limits: smallest and largest step.
    """
    if moments is None or moments.deviation.shape[-1] != weights.shape[-1]:
        return steps
    result = steps.copy()
    rows = weights.shape[1] // len(positions)
    for d, kinds in enumerate(moments.correlation):
        for kind, correlation in enumerate(kinds):
            block = np.repeat(np.array(positions) == kind, rows)
            deviation = moments.deviation[d, kind].copy()
            deviation[: len(x_deviation)] = x_deviation
            floor = 1e-3 * float(deviation[len(x_deviation) :].max(initial=0.0))
            deviation[len(x_deviation) :] = np.maximum(deviation[len(x_deviation) :], floor or 1.0)
            result[d, block] = compensated(
                weights[d, block], scale[d, block], steps[d, block], correlation, deviation, limits
            )
    return result
