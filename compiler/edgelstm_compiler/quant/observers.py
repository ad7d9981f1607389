"""Finds the range of an activation from the histogram of its magnitudes.

Bins are logarithmic: a value a million times the others takes nothing of their resolution.
"""

from __future__ import annotations

import itertools

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.scheme import Observer

PER_OCTAVE = 16
OCTAVES = 48
BINS = PER_OCTAVE * OCTAVES
"""Bins of a histogram of |x| / largest, `PER_OCTAVE` to each factor of two below 1."""

_EDGES = np.exp2((np.arange(BINS) + 1 - BINS) / PER_OCTAVE)
_CENTRES = np.exp2((np.arange(BINS) + 0.5 - BINS) / PER_OCTAVE)

_SCARCE = 255

_RATIOS = np.linspace(0.05, 1.0, 96)
_FINE = 2048


def histogram(ratios: Array) -> Array:
    """Counts of |x| / largest; what lies below the lowest bin is counted in it."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(np.asarray(ratios, np.float64).ravel())
    positions = np.ceil(np.maximum(octaves, -float(OCTAVES)) * PER_OCTAVE) - 1 + BINS
    return np.bincount(np.clip(positions, 0, BINS - 1).astype(np.int64), minlength=BINS)


def pooled(histograms: Array, largest: Array) -> Array:
    """One histogram of |x| / the largest of all from those of channels.

    Shapes:
        histograms (K, BINS), largest (K,) of each channel.
    """
    top = float(largest.max(initial=0.0)) or 1.0
    total = np.zeros(BINS, np.int64)
    for counts, own in zip(histograms, largest, strict=True):
        share = own / top
        down = BINS if share <= 0 else int(np.floor(-np.log2(share) * PER_OCTAVE))
        down = min(down, BINS - 1)
        total[: BINS - down] += counts[down:]
        total[0] += counts[:down].sum()
    return total


def clip_ratio(counts: Array, observer: Observer, percentile: float, levels: int) -> float:
    """The share of the largest magnitude that the range should reach to.

    Args:
        counts: a `histogram`.
        observer: the rule.
        percentile: share of values inside, in percent, for `Observer.PERCENTILE`.
        levels: steps on each side of zero (127 for int8).
    """
    total = float(counts.sum())
    if total == 0.0:
        return 1.0
    match observer:
        case Observer.MIN_MAX:
            return 1.0
        case Observer.PERCENTILE:
            inside = np.cumsum(counts) >= total * percentile / 100.0
            return float(_EDGES[np.argmax(inside)])
        case Observer.MSE:
            return _least_squares(counts, levels)
        case Observer.ENTROPY:
            # Finer steps than the histogram tells apart lose no information.
            return 1.0 if levels > _SCARCE else _least_divergence(_linear(counts), levels)


def _least_squares(counts: Array, levels: int) -> float:
    """Rounding noise inside of the range against what is cut off outside."""
    inside = np.cumsum(counts)
    beyond = [np.append(np.cumsum((counts * p)[::-1])[::-1][1:], 0.0) for p in _powers()]
    cut = beyond[2] - 2.0 * _EDGES * beyond[1] + np.square(_EDGES) * beyond[0]
    noise = inside * np.square(_EDGES / levels) / 12.0
    # From the largest range down: of equal errors the wider range.
    error = (cut + noise)[::-1]
    return float(_EDGES[::-1][int(np.argmin(error))])


def _powers() -> tuple[Array, Array, Array]:
    return np.ones(BINS), _CENTRES, np.square(_CENTRES)


def _linear(counts: Array) -> Array:
    """Counts in bins of equal width over [0, 1], each bin spread evenly over its extent."""
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    edges = np.concatenate([[0.0], _EDGES])
    return np.diff(np.interp(np.linspace(0.0, 1.0, _FINE + 1), edges, sums))


def _least_divergence(counts: Array, levels: int) -> float:
    """Kullback-Leibler divergence of the quantized distribution (as in TensorRT)."""
    best, least = 1.0, np.inf
    for ratio in _RATIOS:
        kept = max(levels, round(ratio * counts.size))
        wanted = counts[:kept].astype(np.float64).copy()
        wanted[-1] += counts[kept:].sum()
        edges = np.linspace(0, kept, levels + 1).astype(int)
        found = np.zeros(kept)
        for a, b in itertools.pairwise(edges):
            filled = counts[a:b] > 0
            if filled.any():
                found[a:b][filled] = counts[a:b].sum() / filled.sum()
        p, q = wanted / wanted.sum(), found / max(found.sum(), 1.0)
        live = (p > 0) & (q > 0)
        lost = float(p[(p > 0) & (q == 0)].sum())
        divergence = float((p[live] * np.log(p[live] / q[live])).sum()) + 10.0 * lost
        if divergence < least:
            best, least = kept / counts.size, divergence
    return best
