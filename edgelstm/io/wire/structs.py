"""Packed numbers, as `struct` describes them: `<6h`, `<Ifff`; framed by messages or marks."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence

from edgelstm.errors import RecordingError
from edgelstm.io.wire.base import CUT_AT_START, CUT_RECORD, WRONG_LENGTH, RowList, Rows

_NUMBERS = re.compile(r"[@=<>!]?(?:\s*[0-9]*[xbBhHiIlLqQnNefd?])+\s*")
IDLE_S = 0.02
"""Without a mark, a record that is not whole after such a silence is cut."""


class Structs:
    """Rows out of records of equal length.

    Args:
        layout: for `struct`; numbers only.
        columns: names in order.
        mark: bytes in front of every record, by which a stream without messages is found into.
        skip: bytes at the start of a message that are no record.
        idle_s: see `IDLE_S`.

    Raises:
        RecordingError: the layout is none, or does not fit the names.
    """

    def __init__(
        self,
        layout: str,
        columns: Sequence[str] = (),
        mark: bytes = b"",
        skip: int = 0,
        idle_s: float = IDLE_S,
    ) -> None:
        if not _NUMBERS.fullmatch(layout):
            raise RecordingError(
                f"struct:{layout} is no layout of numbers as Python's struct has them, such as "
                "struct:<6h (six signed 16-bit integers, the lowest byte first)"
            )
        self._struct = struct.Struct(layout)
        count = len(self._struct.unpack(bytes(self._struct.size)))
        if not count or (columns and len(columns) != count):
            raise RecordingError(
                f"struct:{layout} has {count} numbers, and columns= names {len(columns)}"
            )
        self.names = tuple(columns) or tuple(map(str, range(count)))
        self.has_names = bool(columns)
        self._mark = mark
        self._skip = skip
        self._idle_s = idle_s
        self._rest = b""
        self._last = float("inf")
        self._is_cut = False

    def begin(self, is_cut: bool) -> None:
        """A connection begins."""
        self._rest = b""
        self._last = float("inf")
        self._is_cut = is_cut

    def end(self) -> Mapping[str, int]:
        """A connection ends."""
        pending, self._rest = self._rest, b""
        return {CUT_RECORD: 1} if pending else {}

    def feed(self, data: bytes, now: float) -> Rows:
        """Bytes of a stream."""
        rows = RowList(len(self.names))
        size = self._struct.size
        if not self._mark:
            buffer = self._aligned(data, now, rows)
            whole = len(buffer) - len(buffer) % size
            self._unpack(buffer[:whole], rows)
            self._rest = buffer[whole:]
            return rows.done()
        self._rest = self._find_marks(self._rest + data, rows)
        return rows.done()

    def _aligned(self, data: bytes, now: float, rows: RowList) -> bytes:
        """Pending bytes that begin with a record, as far as silences tell where records begin."""
        is_after_silence = now - self._last > self._idle_s
        self._last = now
        if self._is_cut and not is_after_silence:
            rows.refused[CUT_AT_START] += 1
            return b""
        self._is_cut = False
        if self._rest and is_after_silence:
            rows.refused[CUT_RECORD] += 1
            self._rest = b""
        return self._rest + data

    def message(self, data: bytes) -> Rows:
        """One message: whole records behind the bytes that are skipped."""
        rows = RowList(len(self.names))
        body = data[self._skip :]
        step = len(self._mark) + self._struct.size
        if len(data) < self._skip or len(body) % step or not body:
            rows.fault(WRONG_LENGTH)
        elif self._mark:
            rest = self._find_marks(body, rows)
            if rest:
                rows.refused[CUT_RECORD] += 1
        else:
            self._unpack(body, rows)
        return rows.done()

    def _find_marks(self, buffer: bytes, rows: RowList) -> bytes:
        """Records behind their marks; what is left over. Bytes between records are counted once.

        What stands behind a record begins with a mark again, as far as it has come: else the
        record is one that lacks bytes, and runs into the next one.
        """
        mark, size = self._mark, self._struct.size
        at, is_lost = 0, False
        while True:
            found = buffer.find(mark, at)
            start = found if found >= 0 else max(len(buffer) - len(mark) + 1, at)
            if (start > at or is_lost) and start > 0:
                is_lost = False
                rows.refused[self._between()] += 1
            if found < 0:
                return buffer[start:]
            end = found + len(mark) + size
            if end > len(buffer):
                return buffer[found:]
            behind = buffer[end : end + len(mark)]
            if not mark.startswith(behind):
                at, is_lost = found + 1, True
                continue
            self._is_cut = False
            self._unpack(buffer[found + len(mark) : end], rows)
            at = end

    def _between(self) -> str:
        reason = CUT_AT_START if self._is_cut else CUT_RECORD
        self._is_cut = False
        return reason

    def _unpack(self, data: bytes, rows: RowList) -> None:
        for values in self._struct.iter_unpack(data):
            rows.add([float(value) for value in values])
