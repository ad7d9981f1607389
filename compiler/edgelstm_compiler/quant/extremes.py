"""Values of a recording that stand alone far outside of all others: glitches of a sensor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.types import Array

FAR = 16.0
"""How many times beyond the 99th percentile of the distance from the median a value is extreme."""

LONGEST = 5
"""Rows that a glitch lasts at most; what lasts longer is a movement."""

_SHARE = 0.99
_TOLD = 3
_PLACE = re.compile(r"recording (\d+), frame (\d+)")


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the values of each channel lie, glitches left out.

    Shapes:
        median, usual (K,): the 99th percentile of the distance from the median; extreme (n, K).
    """

    median: Array
    usual: Array
    extreme: Array

    @classmethod
    def of(cls, rows: Array) -> Spread:
        """Of samples (n, K)."""
        median = np.median(rows, axis=0)
        distance = np.abs(rows - median)
        count = len(rows)
        position = min(int(_SHARE * (count - 1)), count - 1 - -(-count // 50))
        position = max(position, 0)
        usual = np.partition(distance, position, axis=0)[position]
        extreme = (distance > FAR * usual) & (usual > 0)
        for channel in np.flatnonzero(extreme.any(axis=0)):
            extreme[:, channel] &= ~_lasting(extreme[:, channel])
        return cls(median, usual, extreme)


def _lasting(marked: Array) -> Array:
    """The marked rows that stand in runs longer than `LONGEST`."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    lasting = np.zeros_like(marked)
    for start, stop in bounds.reshape(-1, 2):
        lasting[start:stop] = stop - start > LONGEST
    return lasting


def extreme_warnings(
    name: str, rows: Array, spread: Spread, starts: Sequence[int], per_frame: int
) -> list[str]:
    """The extreme values of an input, with recording and frame (both counted from 1).

    Args:
        name: of the input.
        rows: samples (n, K) of all recordings.
        spread: of the rows.
        starts: the first row of each recording.
        per_frame: rows of one frame.
    """
    found = np.argwhere(spread.extreme)
    texts = []
    for row, channel in found[:_TOLD]:
        recording = int(np.searchsorted(starts, row, side="right"))
        frame = (int(row) - starts[recording - 1]) // per_frame + 1
        times = abs(rows[row, channel] - spread.median[channel]) / spread.usual[channel]
        texts.append(
            f"recording {recording}, frame {frame}: input {name!r} channel {channel} is "
            f"{rows[row, channel]:.4g}, {times:.3g} times as far out as 99 % of its values; "
            "repair the recording, or leave such values out of the ranges with --ranges percentile"
        )
    if len(found) > _TOLD:
        texts.append(f"input {name!r}: {len(found) - _TOLD} further values as far out")
    return texts


def with_files(text: str, files: Sequence[str], first_lines: Sequence[int | None]) -> str:
    """A warning with file and line in place of recording and frame.

    Args:
        text: of a calibration.
        files: name of each recording.
        first_lines: the line of each one's first frame, or None where the file has no lines.
    """

    def named(match: re.Match[str]) -> str:
        index, frame = int(match[1]) - 1, int(match[2])
        if index >= len(files):
            return match[0]
        first = first_lines[index]
        if first is None:
            return f"{files[index]}, frame {frame}"
        return f"{files[index]}, line {first + frame - 1} (frame {frame})"

    return _PLACE.sub(named, text)
