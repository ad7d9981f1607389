"""Rounding that compensates: each column takes up what rounding the ones before it did to a sum.

Of a row the joint operand [x; h] counts: what W loses, R can make up for.
Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.moments import Moments
from edgelstm_compiler.quant.scheme import Damping


@dataclass(frozen=True, slots=True)
class Strength:
    """What is added to the variance of each operand.

    Args:
        own: share of its own variance.
        mean: share of the mean variance of operands of one unit: what rests in the recordings
            moves elsewhere, if only from its initial state.
        few: the same for each operand per row of the recordings: few rows correlate by chance.
    """

    own: float
    mean: float
    few: float


STRENGTHS = {
    Damping.LIGHT: Strength(0.05, 0.0, 0.0),
    Damping.MEDIUM: Strength(0.02, 0.0, 0.1),
    Damping.HEAVY: Strength(0.05, 0.02, 0.1),
}
SWEEPS = 3


def diagonal(
    deviation: Array, x_columns: int, rows: int, strength: Strength, *, is_x_inner: bool
) -> Array:
    """What is added to the correlations' diagonal (K,).

    Without it, operands that hardly move in the recordings take up the errors of all others in
    steps by the hundred: nothing is left of the error there, and everything of it elsewhere.

    Args:
        deviation: of the joint operand [x; h] (K,), never zero.
        x_columns: how many of it are x.
        rows: of the recordings, one for each product.
        strength: how much is added.
        is_x_inner: layers compute x, so its columns have one unit; else channels have their own.
    """
    few = strength.few * len(deviation) / max(rows, 1)
    parts = np.split(np.square(deviation), [x_columns])
    found = [
        strength.own + (strength.mean + few) * part.mean() / part for part in parts if part.size
    ]
    if not is_x_inner:
        found[0] = np.full(x_columns, strength.own + few)
    return np.concatenate(found)


def compensated(
    weights: Array,
    scale: Array,
    steps: Array,
    correlation: Array,
    deviation: Array,
    added: Array,
    limits: tuple[int, int],
) -> Array:
    """Steps of a layer's rows with the least error of their sums that rounding in turn finds.

    Args:
        weights: of the joint operand (rows, K).
        scale: of each weight's step (rows, K).
        steps: rounded to the nearest; kept in rows where nothing better is found.
        correlation: of the operand (K, K).
        deviation: of the operand (K,).
        added: to the diagonal of the correlation (K,), `diagonal`.
        limits: smallest and largest step.
    """
    wide, size = weights * deviation, scale * deviation
    order = np.argsort(-np.square(deviation * scale.mean(axis=0)), kind="stable")
    damped = correlation + np.diag(added)
    try:
        upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
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
    seen: int,
    strength: Strength,
    *,
    is_x_inner: bool,
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
        seen: rows of the recordings that the moments are of.
        strength: of the damping.
        is_x_inner: whether layers compute the operand's first part.
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
            added = diagonal(deviation, len(x_deviation), seen, strength, is_x_inner=is_x_inner)
            result[d, block] = compensated(
                weights[d, block],
                scale[d, block],
                steps[d, block],
                correlation,
                deviation,
                added,
                limits,
            )
    return result
