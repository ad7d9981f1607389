"""Finds the range of an activation from the histogram of its magnitudes."""

from __future__ import annotations

import itertools

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.scheme import Observer

BINS = 2048
"""Bins of a histogram of |x| / largest over [0, 1]."""

_SCARCE = 255

_RATIOS = np.linspace(0.05, 1.0, 96)


def clip_ratio(histogram: Array, observer: Observer, percentile: float, levels: int) -> float:
    """The share of the largest magnitude that the range should reach to.

    Args:
        histogram: counts of |x| / largest.
        observer: the rule.
        percentile: share of values inside, in percent, for `Observer.PERCENTILE`.
        levels: steps on each side of zero (127 for int8); the range is scarce in 8 bits only.
    """
    total = float(histogram.sum())
    if total == 0.0 or levels > _SCARCE:
        return 1.0
    match observer:
        case Observer.MIN_MAX:
            return 1.0
        case Observer.PERCENTILE:
            inside = np.cumsum(histogram) >= total * percentile / 100.0
            return float((np.argmax(inside) + 1) / histogram.size)
        case Observer.MSE:
            return _least_squares(histogram, levels)
        case Observer.ENTROPY:
            return _least_divergence(histogram, levels)


def _least_squares(histogram: Array, levels: int) -> float:
    """Rounding noise inside of the range against what is cut off outside."""
    centres = (np.arange(histogram.size) + 0.5) / histogram.size
    best, least = 1.0, np.inf
    for ratio in _RATIOS:
        step = ratio / levels
        outside = np.maximum(centres - ratio, 0.0)
        inside = histogram[centres <= ratio].sum() * step * step / 12.0
        error = float((histogram * outside * outside).sum() + inside)
        if error < least:
            best, least = float(ratio), error
    return best


def _least_divergence(histogram: Array, levels: int) -> float:
    """Kullback-Leibler divergence of the quantized distribution (as in TensorRT)."""
    best, least = 1.0, np.inf
    for ratio in _RATIOS:
        kept = max(levels, round(ratio * histogram.size))
        wanted = histogram[:kept].astype(np.float64).copy()
        wanted[-1] += histogram[kept:].sum()
        edges = np.linspace(0, kept, levels + 1).astype(int)
        found = np.zeros(kept)
        for a, b in itertools.pairwise(edges):
            filled = histogram[a:b] > 0
            if filled.any():
                found[a:b][filled] = histogram[a:b].sum() / filled.sum()
        p, q = wanted / wanted.sum(), found / max(found.sum(), 1.0)
        live = (p > 0) & (q > 0)
        lost = float(p[(p > 0) & (q == 0)].sum())
        divergence = float((p[live] * np.log(p[live] / q[live])).sum()) + 10.0 * lost
        if divergence < least:
            best, least = kept / histogram.size, divergence
    return best
