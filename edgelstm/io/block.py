"""Samples with their time: what every live source gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class SampleFlag(IntFlag):
    """What is to be known about a sample besides its values."""

    NONE = 0
    INVALID = 1
    """Its values mean nothing: a line that cannot be read, a sensor that is silent."""
    HELD = 2
    """Repeats the last valid sample."""
    INTERPOLATED = 4
    """Computed from its neighbours."""
    AFTER_GAP = 8
    """Samples before it are missing."""
    CLOCK_JUMP = 16
    """The source's clock jumped in front of it."""
    OUT_OF_RANGE = 32
    """A channel is outside what the model was calibrated on."""
    RESET = 64
    """The model is to start afresh in front of it: the gap was too long."""


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of one source that came together, in the source's order.

    Shapes:
        frames: `(n, *frame)` by input; the others `(n,)`.

    Units:
        stamps, arrival: seconds.

    Args:
        frames: values by input of the model, or by channel group before inputs are assigned.
        stamps: float64, by the source's own clock; NaN where it gives none.
        arrival: float64, by this machine's monotonic clock (`time.monotonic`).
        sequence: int64, the source's numbering of its samples; together with the source's name it
            is the sample's key, the same whenever the same recording is replayed.
        flags: uint8, bits of `SampleFlag`.
    """

    frames: Mapping[str, Array]
    stamps: NDArray[np.float64]
    arrival: NDArray[np.float64]
    sequence: NDArray[np.int64]
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.sequence)

    def part(self, part: slice) -> Block:
        """Some of the samples."""
        return self._of(part)

    def at(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Block:
        """The samples that indices or a mask name, in that order, copied."""
        return self._of(rows)

    def _of(self, part: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Block:
        return Block(
            {name: values[part] for name, values in self.frames.items()},
            self.stamps[part],
            self.arrival[part],
            self.sequence[part],
            self.flags[part],
        )
