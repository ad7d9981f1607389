"""A light for each channel: is its signal worth anything, and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 2.0
"""What a light looks back."""

_FEWEST_ROWS = 20
_SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Light:
    """What there is to say about a channel.

    Args:
        level: `good`, `doubtful` or `bad`.
        reason: a key of the page's texts.
        value: what goes into the text; NaN for nothing.
    """

    level: str
    reason: str
    value: float = math.nan


GOOD = Light("good", "good")


def lights_of(
    channels: NDArray[np.float32],
    is_measured: NDArray[np.bool_],
    limits: Sequence[tuple[float | None, float | None]],
    silent_s: float = 0.0,
) -> list[Light]:
    """A light for each channel.

    Args:
        channels: `(n, c)`, the last samples.
        is_measured: of each sample, whether it is one that a sensor gave.
        limits: the range that the model saw, by channel.
        silent_s: how long nothing has come.
    """
    count = channels.shape[1]
    if silent_s > WINDOW_S:
        return [Light("bad", "silent", silent_s)] * count
    if len(channels) < _FEWEST_ROWS:
        return [Light("doubtful", "starting")] * count
    share = 1.0 - float(is_measured.mean())
    if share > 0.5:
        return [Light("bad", "missing", 100 * share)] * count
    lights = []
    for values, (low, high) in zip(channels.T, limits, strict=True):
        light = _shape(values)
        if light is GOOD:
            light = _range(values, low, high)
        if light is GOOD and share > 0.05:
            light = Light("doubtful", "missing", 100 * share)
        lights.append(light)
    return lights


def _shape(values: NDArray[np.float32]) -> Light:
    """Constant, or flat at its extremes."""
    if not np.isfinite(values).all():
        return Light("bad", "missing")
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Light("bad", "stuck", low)
    for extreme in (low, high):
        at = values == np.float32(extreme)
        # A signal touches its extreme once; one that is cut off stays there.
        if at.mean() > 0.05 and (at[1:] & at[:-1]).sum() >= 5:
            return Light("doubtful", "clipped", extreme)
    return GOOD


def _range(values: NDArray[np.float32], low: float | None, high: float | None) -> Light:
    if low is None or high is None:
        return GOOD
    slack = _SLACK * (high - low)
    outside = float(((values < low - slack) | (values > high + slack)).mean())
    return Light("doubtful", "outside", 100 * outside) if outside > 0.02 else GOOD
