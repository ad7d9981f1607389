"""What goes to browsers as bytes: samples with the model's answers; long stretches as envelopes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<BBHIHHI")
SAMPLES, BACKLOG = 1, 2


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of a stream with what the model said.

    Shapes:
        times, quality: `(n,)`; channels `(n, c)`; scores `(n, p)`.

    Units:
        times: seconds since 1970 (UTC).
    """

    times: NDArray[np.float64]
    channels: NDArray[np.float32]
    scores: NDArray[np.float32]
    quality: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.times)

    def until(self, moment: float) -> Rows:
        """The rows up to a moment."""
        n = int(np.searchsorted(self.times, moment, side="right"))
        return Rows(self.times[:n], self.channels[:n], self.scores[:n], self.quality[:n])


def joined(parts: list[Rows]) -> Rows:
    """Rows one behind another; there is at least one part."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.channels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )


def pack(kind: int, stream: int, rows: Rows) -> bytes:
    """One message, little-endian: 16 bytes of header, times as float64, then float32 by column.

    The header: kind, version, stream, rows, channels, scores, nothing.
    """
    n, c, p = len(rows), rows.channels.shape[1], rows.scores.shape[1]
    return b"".join(
        (
            _HEADER.pack(kind, 1, stream, n, c, p, 0),
            rows.times.astype("<f8").tobytes(),
            rows.channels.T.astype("<f4").tobytes(),
            rows.scores.T.astype("<f4").tobytes(),
            rows.quality.astype("<f4").tobytes(),
        )
    )


def thinned(rows: Rows, most: int) -> Rows:
    """At most so many rows; in each stretch every channel's least and greatest value, in order.

    Args:
        rows: in order.
        most: at least 2.
    """
    n = len(rows)
    if n <= most:
        return rows
    size = -(-2 * n // most)
    size += size % 2  # both rows of a stretch have a time of their own
    count = -(-n // size)
    starts = np.arange(count) * size
    middles = np.minimum(starts + size // 2, n - 1)
    return Rows(
        np.stack([rows.times[starts], rows.times[middles]], axis=1).reshape(-1),
        _extremes(rows.channels, size, count),
        _extremes(rows.scores, size, count),
        np.repeat(np.minimum.reduceat(rows.quality, starts), 2),
    )


def _extremes(table: NDArray[np.float32], size: int, count: int) -> NDArray[np.float32]:
    n, columns = table.shape
    padded = np.concatenate([table, np.repeat(table[-1:], count * size - n, axis=0)])
    stretches = padded.reshape(count, size, columns)
    low, high = stretches.min(axis=1), stretches.max(axis=1)
    is_rising = stretches.argmin(axis=1) <= stretches.argmax(axis=1)
    both = np.stack([np.where(is_rising, low, high), np.where(is_rising, high, low)], axis=1)
    return np.ascontiguousarray(both.reshape(2 * count, columns))
