"""Turns class probabilities per sample into a debounced time line of phases; runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[str, float, float]


def phase_timeline(
    phases: NDArray[Any],
    labels: Sequence[str],
    rate_hz: float,
    min_duration_s: float = 0.4,
) -> list[Span]:
    """The phases of a recording in order, without flicker.

    A sample takes the class that the majority of the samples within `min_duration_s / 2` around it
    has; what still lasts less than `min_duration_s` is then given to its longer neighbour.

    Args:
        phases: probabilities (T, C), also (1, T, C), or class indices (T,).
        labels: the names of the C classes.
        rate_hz: samples per second.
        min_duration_s: the shortest phase that is told; 0 tells every change.

    Returns:
        (label, start_s, end_s) per phase; a phase ends where the next one starts.
    """
    indices = _class_indices(phases, len(labels))
    if rate_hz <= 0 or min_duration_s < 0:
        raise ValueError(f"need rate_hz > 0, min_duration_s >= 0: {rate_hz}, {min_duration_s}")
    shortest = round(min_duration_s * rate_hz)
    smooth = _majority(indices, len(labels), shortest // 2)
    runs = _merge_short(_runs(smooth), shortest)
    return [(labels[index], start / rate_hz, end / rate_hz) for index, start, end in runs]


def format_timeline(timeline: Sequence[Span]) -> str:
    """One phase per line: start, end, duration and label."""
    return "\n".join(
        f"{start:7.2f} s - {end:6.2f} s  {end - start:5.2f} s  {label}"
        for label, start, end in timeline
    )


def _class_indices(phases: NDArray[Any], classes: int) -> NDArray[np.intp]:
    values = np.asarray(phases)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        if values.shape[1] != classes:
            raise ValueError(f"probabilities have {values.shape[1]} classes, labels {classes}")
        return np.asarray(np.argmax(values, axis=1), dtype=np.intp)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"expected (T, C) or integer (T,), found {values.dtype} {values.shape}")
    if values.size and not 0 <= values.min() <= values.max() < classes:
        raise ValueError(f"class indices must lie in 0..{classes - 1}")
    return values.astype(np.intp)


def _majority(indices: NDArray[np.intp], classes: int, half: int) -> NDArray[np.intp]:
    """The most frequent class among the samples at most `half` away; a tie keeps the sample."""
    if half == 0 or indices.size == 0:
        return indices
    steps = indices.size
    present = indices[:, None] == np.arange(classes)
    counts = np.zeros((steps + 1, classes))
    np.cumsum(present, axis=0, out=counts[1:])
    at = np.arange(steps)
    window = counts[np.minimum(at + half + 1, steps)] - counts[np.maximum(at - half, 0)]
    return np.asarray(np.argmax(window + 0.5 * present, axis=1), dtype=np.intp)


def _runs(indices: NDArray[np.intp]) -> list[tuple[int, int, int]]:
    """(class, start, end) of every stretch of equal classes."""
    if indices.size == 0:
        return []
    edges = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), int(indices.size)]
    return [(int(indices[a]), a, b) for a, b in pairwise(edges)]


def _merge_short(runs: list[tuple[int, int, int]], shortest: int) -> list[tuple[int, int, int]]:
    """Gives the shortest run to its longer neighbour until none is below `shortest` samples."""
    merged = list(runs)
    while len(merged) > 1:
        at = min(range(len(merged)), key=lambda i: merged[i][2] - merged[i][1])
        if merged[at][2] - merged[at][1] >= shortest:
            break
        neighbours = [i for i in (at - 1, at + 1) if 0 <= i < len(merged)]
        heir = max(neighbours, key=lambda i: merged[i][2] - merged[i][1])
        merged[at] = (merged[heir][0], merged[at][1], merged[at][2])
        joined: list[tuple[int, int, int]] = []
        for run in merged:
            if joined and joined[-1][0] == run[0]:
                joined[-1] = (run[0], joined[-1][1], run[2])
            else:
                joined.append(run)
        merged = joined
    return merged
