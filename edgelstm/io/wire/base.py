"""What every wire format offers: bytes in, rows of numbers out, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_LINE_BYTES = 64 << 10
"""A longer line is refused, and never held in memory."""

MAX_MESSAGE_BYTES = 1 << 20
"""A longer message is refused unread."""

CUT_AT_START = "joined in the middle"
CUT_LINE = "cut line"
CUT_RECORD = "cut record"
TOO_LONG = "too long"
BAD_BYTE = "bad byte"
NOT_A_NUMBER = "not a number"
WRONG_LENGTH = "wrong length"
NOT_JSON = "not JSON"
MISSING = "missing value"


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples that some bytes held.

    Shapes:
        values: `(n, columns)`.

    Args:
        values: a row for each sample; NaN where there is no number.
        faults: rows that could not be read, with the reason.
        refused: what was no sample at all, by reason.
    """

    values: NDArray[np.float64]
    faults: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


class Wire(Protocol):
    """Reads one format; has a memory only where the bytes are a stream without messages."""

    @property
    def names(self) -> Sequence[str]:
        """The columns; empty until they are known."""
        ...

    @property
    def has_names(self) -> bool:
        """Whether the names say what the columns are, or only count them."""
        ...

    def feed(self, data: bytes, now: float) -> Rows:
        """Bytes of a stream, cut anywhere.

        Args:
            data: what came.
            now: monotonic clock when it came.
        """
        ...

    def message(self, data: bytes) -> Rows:
        """One message, which is whole."""
        ...

    def begin(self, is_cut: bool) -> None:
        """A connection begins; `is_cut`: its first bytes may be the end of something."""
        ...

    def end(self) -> Mapping[str, int]:
        """A connection ends: what was pending is lost, counted by reason."""
        ...


class RowList:
    """Collects rows of one call.

    Args:
        columns: how many there are; 0 while that is unknown.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._values: list[Sequence[float]] = []
        self._faults: dict[int, str] = {}
        self.refused: Counter[str] = Counter()

    def add(self, row: Sequence[float]) -> None:
        """A row that was read; the first one says how many columns there are."""
        self._columns = self._columns or len(row)
        self._values.append(row)

    def fault(self, reason: str) -> None:
        """A row that could not be read; none while nobody knows how long rows are."""
        if not self._columns:
            self.refused[reason] += 1
            return
        self._faults[len(self._values)] = reason
        self._values.append([float("nan")] * self._columns)

    def done(self) -> Rows:
        """All of them."""
        values = np.array(self._values, np.float64).reshape(len(self._values), self._columns)
        return Rows(values, self._faults, self.refused)
