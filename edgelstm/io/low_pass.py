"""What a lower rate cannot hold, taken out before samples are picked at that rate."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import is_floating
from edgelstm.extras import load_extra
from edgelstm.io.block import Array, Block, SampleFlag
from edgelstm.io.blocks import join_blocks

WORTH = 1.05
"""Ratio of rates from which a low-pass is worth its delay; below, 5 % of the spectrum may fold."""

_CUTOFF = 0.4
"""Of the lower rate; -6 dB there, -50 dB at half of it."""

_HALF_WIDTH = 8.0
"""In samples of the lower rate."""


def design_low_pass(rate_hz: float, lower_hz: float) -> NDArray[np.float64]:
    """Coefficients for going from one rate to a lower one; their number is odd, their sum 1.

    Raises:
        TargetUnavailableError: SciPy is not installed.
    """
    signal = load_extra("scipy.signal", "resample", "rates below the sensor's")
    half = round(_HALF_WIDTH * rate_hz / lower_hz)
    taps = signal.firwin(2 * half + 1, _CUTOFF * lower_hz, fs=rate_hz)
    return np.asarray(taps, np.float64)


class LowPass:
    """A stage that filters floating-point frames without a shift in time.

    Samples come out with their own stamps, `delay_s` later than they came in. At gaps, at samples
    that mean nothing, and at both ends, the nearest sample stands for what is not there. The
    result does not depend on blocks, bit for bit.

    Args:
        taps: symmetric, an odd number.
        rate_hz: of the samples.
        gap_s: a step that is longer parts the stream.
    """

    def __init__(self, taps: NDArray[np.float64], rate_hz: float, gap_s: float) -> None:
        self._taps = taps
        self._half = len(taps) // 2
        self._gap = gap_s
        self.delay_s = self._half / rate_hz
        self._held: Block | None = None
        self._history: dict[str, Array] = {}

    def feed(self, block: Block) -> list[Block]:
        """Samples that have all their neighbours."""
        done: list[Block] = []
        if not len(block):
            return done
        bad = ~_is_usable(block)
        last = np.nan if self._held is None else self._held.stamps[-1]
        steps = np.diff(np.concatenate([[last], block.stamps]))
        parts = (steps > self._gap) | bad | ((block.flags & SampleFlag.RESET) > 0)
        parts[1:] |= bad[:-1]
        edges = [0, *(np.flatnonzero(parts[1:]) + 1).tolist(), len(block)]
        for start, stop in pairwise(edges):
            if parts[start]:
                done += self.finish()
            piece = block.part(slice(start, stop))
            if bad[start]:
                done.append(piece)
            else:
                done += self._filter(piece)
        return done

    def finish(self) -> list[Block]:
        """What still waits for its neighbours; filtered as if the last sample stayed."""
        held, self._held = self._held, None
        if held is None:
            return []
        tail = held.at(np.full(self._half, len(held) - 1))
        return [self._apply(held, tail)]

    @property
    def waiting(self) -> int:
        """Samples that still wait."""
        return 0 if self._held is None else len(self._held)

    def _filter(self, block: Block) -> list[Block]:
        if self._held is None:
            self._history = {
                name: np.repeat(values[:1], self._half, axis=0)
                for name, values in block.frames.items()
            }
        held = block if self._held is None else join_blocks([self._held, block])
        ready = max(len(held) - self._half, 0)
        self._held = held.part(slice(ready, len(held)))
        if not ready:
            return []
        first = held.part(slice(0, ready))
        rest = held.part(slice(ready, ready + self._half))
        return [self._apply(first, rest)]

    def _apply(self, block: Block, behind: Block) -> Block:
        frames = {}
        for name, values in block.frames.items():
            row = np.concatenate([self._history[name], values, behind.frames[name]])
            self._history[name] = row[len(values) : len(values) + self._half]
            if is_floating(values.dtype):
                # One tap after the other: a dot product would round by the length of the block.
                total = np.zeros(values.shape, np.float64)
                for k, tap in enumerate(self._taps):
                    total += tap * row[k : k + len(values)]
                values = total.astype(values.dtype)
            frames[name] = values
        return Block(frames, block.stamps, block.arrival, block.sequence, block.flags)


def _is_usable(block: Block) -> NDArray[np.bool_]:
    usable = (block.flags & SampleFlag.INVALID) == 0
    for values in block.frames.values():
        if is_floating(values.dtype):
            usable &= np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    return np.asarray(usable)
