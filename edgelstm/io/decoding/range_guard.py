"""Samples that are not like those the model was calibrated on: outside, clipped, or stuck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.description import Column
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.decoding.recipe import RangeRule
from edgelstm.io.tally import Tally

Array = NDArray[Any]

_NEAR_END = 0.8
"""Share of the known range from which an extreme value can be the end of a sensor's range."""


class RangeGuard:
    """A stage that marks samples `OUT_OF_RANGE`; it changes no value, and drops nothing.

    A channel is outside beyond its known range and some slack; clipped where it stays exactly at
    the largest or smallest value that it ever had, near the end of its range or beyond; stuck where
    it does not change at all. The counts by channel stand in `tally.noted`.

    Args:
        rule: see there.
        columns: of each input that something is known about.
        rate_hz: of the samples.
    """

    def __init__(
        self, rule: RangeRule, columns: Mapping[str, tuple[Column, ...]], rate_hz: float
    ) -> None:
        self.tally = Tally()
        self._channels = {
            name: _Channels(rule, items, rate_hz, self.tally) for name, items in columns.items()
        }

    def feed(self, block: Block) -> list[Block]:
        """The block, with flags."""
        n = len(block)
        self.tally.seen += n
        self.tally.fed += n
        if not n:
            return [block]
        usable = (block.flags & SampleFlag.INVALID) == 0
        marked = np.zeros(n, np.bool_)
        for name, channels in self._channels.items():
            if name in block.frames:
                marked |= channels.see(block.frames[name].reshape(n, -1), usable)
        if not marked.any():
            return [block]
        self.tally.noted["out of range"] += int(marked.sum())
        flags = np.where(marked, block.flags | np.uint8(SampleFlag.OUT_OF_RANGE), block.flags)
        return [replace(block, flags=flags.astype(np.uint8))]

    def finish(self) -> list[Block]:
        """Nothing waits here."""
        return []


@dataclass(slots=True)
class _Runs:
    """What a channel was up to now."""

    values: Array
    lengths: Array
    lows: Array
    highs: Array


class _Channels:
    """The channels of one input."""

    def __init__(
        self, rule: RangeRule, columns: tuple[Column, ...], rate_hz: float, tally: Tally
    ) -> None:
        self._names = [column.name for column in columns]
        self._tally = tally
        low = np.array([-np.inf if c.low is None else c.low for c in columns])
        high = np.array([np.inf if c.high is None else c.high for c in columns])
        known = np.isfinite(low) & np.isfinite(high)
        span = np.where(known, high - low, 0.0)
        self._floor, self._ceiling = low - rule.slack * span, high + rule.slack * span
        middle = np.where(known, (np.where(known, low, 0) + np.where(known, high, 0)) / 2, 0.0)
        self._upper = np.where(known, middle + _NEAR_END * span / 2, -np.inf)
        self._lower = np.where(known, middle - _NEAR_END * span / 2, np.inf)
        self._clipped = max(round(rule.saturated_s * rate_hz), 2) if rule.saturated_s else 0
        self._stuck = max(round(rule.stuck_s * rate_hz), 2) if rule.stuck_s else 0
        count = len(columns)
        self._runs = _Runs(
            np.full(count, np.nan),
            np.zeros(count, np.int64),
            np.full(count, np.inf),
            np.full(count, -np.inf),
        )

    def see(self, table: Array, usable: Array) -> Array:
        """Which rows are to be marked."""
        table = np.where(usable[:, None], table.astype(np.float64), np.nan)
        marked = (table < self._floor) | (table > self._ceiling)
        self._count("outside", marked)
        lengths, lows, highs = self._follow(table)
        if self._clipped:
            is_end = ((table >= highs) & (table >= self._upper)) | (
                (table <= lows) & (table <= self._lower)
            )
            clipped = (lengths >= self._clipped) & is_end & (lows < highs)
            self._count("clipped", clipped)
            marked = marked | clipped
        if self._stuck:
            stuck = lengths >= self._stuck
            self._count("stuck", stuck)
            marked = marked | stuck
        return np.asarray(marked.any(axis=1))

    def _follow(self, table: Array) -> tuple[Array, Array, Array]:
        """How long each value has been the same, and the extremes up to it."""
        runs, n = self._runs, len(table)
        before = np.vstack([runs.values, table[:-1]])
        at = np.arange(n)[:, None]
        begins = np.maximum.accumulate(np.where(table != before, at, -1), axis=0)
        lengths = np.where(begins < 0, runs.lengths + at + 1, at - begins + 1)
        lengths[np.isnan(table)] = 0
        lows = np.fmin.accumulate(np.vstack([runs.lows, table]))[1:]
        highs = np.fmax.accumulate(np.vstack([runs.highs, table]))[1:]
        self._runs = _Runs(table[-1], lengths[-1], lows[-1], highs[-1])
        return lengths, lows, highs

    def _count(self, what: str, marked: Array) -> None:
        for k in np.flatnonzero(marked.any(axis=0)).tolist():
            self._tally.noted[f"{what}: {self._names[k]}"] += int(marked[:, k].sum())
