"""Scores of single samples to scores that do not flicker."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SmoothingKind = Literal["mean", "median", "vote", "exponential"]
SMOOTHING_KINDS: tuple[SmoothingKind, ...] = get_args(SmoothingKind)


class Smoother:
    """Smooths each column over samples; row i stands for sample i.

    `mean`, `median` and `vote` look as far ahead as back, and hand a row on `delay` samples later;
    at both ends they look at what there is. `vote` gives the share of samples in which a column was
    the largest. `exponential` looks back only. Rows with NaN do not count; where there is nothing
    else the result is NaN. Nothing depends on how rows come in blocks, bit for bit.

    Args:
        kind: see above.
        samples: width of the window; for `exponential` the time constant.
    """

    STATE = ("_rows", "_behind", "_last")

    def __init__(self, kind: SmoothingKind, samples: float) -> None:
        self._kind = kind
        self.delay = 0 if kind == "exponential" else int(samples) // 2
        self._rows: Array | None = None
        self._behind = 0  # rows kept in front of the first that is not handed on
        self._weight = 1.0 if samples <= 0 else float(-np.expm1(-1.0 / samples))
        self._last: Array | None = None

    def feed(self, scores: Array) -> Array:
        """Rows `(n, C)`; the smoothed ones that are known by now."""
        scores = np.asarray(scores, np.float64)
        if self._kind == "exponential":
            return self._follow(scores)
        if self._kind == "vote":
            scores = _votes(scores)
        rows = scores if self._rows is None else np.concatenate([self._rows, scores])
        return self._smooth(rows, max(len(rows) - self._behind - self.delay, 0))

    def finish(self) -> Array | None:
        """The rows that still waited; None where nothing ever came."""
        if self._rows is None:
            return None
        return self._smooth(self._rows, len(self._rows) - self._behind)

    def _smooth(self, rows: Array, count: int) -> Array:
        """The next `count` rows."""
        known = np.asarray(np.isfinite(rows).all(axis=1))
        first, width = self._behind, self.delay
        places = np.arange(first, first + count)
        if self._kind == "median":
            result = _medians(rows, known, places, width)
        else:
            total, weight = np.zeros((count, rows.shape[1])), np.zeros(count)
            for step in range(-width, width + 1):
                at = places + step
                inside = (at >= 0) & (at < len(rows))
                at = np.clip(at, 0, max(len(rows) - 1, 0))
                counts = inside & known[at] if len(rows) else inside
                total += np.where(counts[:, None], rows[at], 0.0)
                weight += counts
            with np.errstate(invalid="ignore"):
                result = np.where(
                    weight[:, None] > 0, total / np.maximum(weight, 1)[:, None], np.nan
                )
        start = max(first + count - width, 0)
        self._rows = rows[start:]
        self._behind = first + count - start
        return np.asarray(result)

    def _follow(self, scores: Array) -> Array:
        result = np.empty_like(scores)
        for i, row in enumerate(scores):
            if np.isfinite(row).all():
                last = self._last
                self._last = row if last is None else last + self._weight * (row - last)
            result[i] = np.nan if self._last is None else self._last
        return result


def _votes(scores: Array) -> Array:
    known = np.asarray(np.isfinite(scores).all(axis=1))
    votes = np.zeros_like(scores)
    votes[np.arange(len(scores)), np.where(known[:, None], scores, 0.0).argmax(axis=1)] = 1.0
    votes[~known] = np.nan
    return votes


def _medians(rows: Array, known: Array, places: Array, width: int) -> Array:
    result = np.full((len(places), rows.shape[1]), np.nan)
    for i, place in enumerate(places):
        part = slice(max(place - width, 0), place + width + 1)
        window = rows[part][known[part]]
        if len(window):
            result[i] = np.median(window, axis=0)
    return result
