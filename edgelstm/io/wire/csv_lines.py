"""Lines of numbers between commas, semicolons, tabs or spaces, with or without a line of names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from edgelstm.io.columns import plain_name
from edgelstm.io.numbers import Decimal, NotANumberError, is_number, parse_float
from edgelstm.io.wire.base import (
    BAD_BYTE,
    CUT_AT_START,
    NOT_A_NUMBER,
    WRONG_LENGTH,
    RowList,
    Rows,
)
from edgelstm.io.wire.line_stream import LineStream

_PLAIN = re.compile(rb"[0-9+\-.eE,;\t ]+")
_PLAIN_LINES = re.compile(rb"[0-9+\-.eE,;\t \n]+")
_DELIMITERS = ("\t", ";", ",")


class CsvLines:
    """Rows out of lines.

    Args:
        columns: names of the columns in order, where the sender gives none.
        wanted: names that the model's columns have: they tell a line of names from garbage.
        delimiter: between cells; "" to find it.
        decimal: the decimal sign; "" to find it.
    """

    def __init__(
        self,
        columns: Sequence[str] = (),
        wanted: Sequence[str] = (),
        delimiter: str = "",
        decimal: str = "",
    ) -> None:
        self._given = tuple(columns)
        self._wanted = [plain_name(name) for name in wanted]
        self._delimiter = delimiter
        self._decimal = decimal
        self._names: tuple[str, ...] = self._given
        self._has_header = False
        self._header: list[str] = []
        self._width = 0
        self._kept: list[int] | None = None
        self._lines = LineStream()

    @property
    def names(self) -> Sequence[str]:
        """As given, as the sender said, or `0`, `1`, ..."""
        return self._names

    @property
    def has_names(self) -> bool:
        """Whether they are names."""
        return bool(self._given) or self._has_header

    def begin(self, is_cut: bool) -> None:
        """A connection begins."""
        self._lines.begin(is_cut)

    def end(self) -> Mapping[str, int]:
        """A connection ends."""
        return self._lines.end()

    def feed(self, data: bytes, now: float) -> Rows:
        """Bytes of a stream."""
        del now
        return self._read(*self._lines.feed(data))

    def message(self, data: bytes) -> Rows:
        """Lines of a message; the last one needs no end."""
        return self._read([line.rstrip(b"\r") for line in data.split(b"\n")], {})

    def _read(self, lines: Sequence[bytes], faults: Mapping[int, str]) -> Rows:
        plain = None if faults or self._kept is None else self._read_plain(lines)
        if plain is not None:
            return plain
        rows = RowList(len(self._names) if self._kept is not None or not self._has_header else 0)
        for i, line in enumerate(lines):
            reason = faults.get(i)
            if reason == CUT_AT_START:
                if not self._take_header(line, is_cut=True):
                    rows.refused[reason] += 1
            elif reason is not None:
                rows.fault(reason)
            elif line.strip() and not line.startswith(b"#"):
                self._read_line(line, rows)
        return rows.done()

    def _read_plain(self, lines: Sequence[bytes]) -> Rows | None:
        """Lines of which each is a row of numbers, read together; None where one is not."""
        if not self._delimiter.strip(" ") or self._decimal == ",":
            return None
        delimiter, columns = self._delimiter.encode(), len(self._names)
        lines = [line for line in lines if line]
        if any(line.count(delimiter) != columns - 1 for line in lines):
            return None
        if not _PLAIN_LINES.fullmatch(b"\n".join(lines)):
            return None
        try:
            values = [float(cell) for cell in delimiter.join(lines).split(delimiter)]
        except ValueError:
            return None  # an empty cell, or half a number
        return Rows(np.array(values).reshape(len(lines), columns))

    def _read_line(self, line: bytes, rows: RowList) -> None:
        if self._names and self._decimal != "," and _PLAIN.fullmatch(line):
            delimiter = self._delimiter
            cells = line.split(delimiter.encode() if delimiter.strip(" ") else None)
            if len(cells) == len(self._names):
                try:
                    rows.add([float(cell) for cell in cells])
                except ValueError:
                    pass  # an empty cell, or half a number
                else:
                    if self._kept is None:
                        self._kept = list(range(len(cells)))
                        self._width = len(cells)
                    return
        self._read_slowly(line, rows)

    def _read_slowly(self, line: bytes, rows: RowList) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            rows.fault(BAD_BYTE)
            return
        if self._take_header(line, is_cut=False):
            return
        is_first = not self._names
        if not self._delimiter or is_first:
            self._find_layout(text)
        cells = self._cells(text)
        if self._has_header and self._kept is None:
            self._leave_out_texts(cells)
        if self._kept is not None and len(cells) == self._width:
            cells = [cells[i] for i in self._kept]
        try:
            row = [parse_float(cell, "," if self._decimal == "," else ".") for cell in cells]
        except NotANumberError:
            rows.fault(NOT_A_NUMBER)
            return
        if is_first:
            self._names = tuple(map(str, range(len(row))))
        if len(row) != len(self._names):
            rows.fault(WRONG_LENGTH)
            return
        rows.add(row)

    def _take_header(self, line: bytes, is_cut: bool) -> bool:
        """Whether the line holds the names of the columns."""
        try:
            text = line.decode().strip().lstrip("\ufeff")
        except UnicodeDecodeError:
            return False
        if not text or self._given:
            # Names that were given are as good as those that a sender repeats.
            return bool(text) and self._plain(text) == [plain_name(name) for name in self._given]
        names = self._cells(text) if self._delimiter else self._split(text, _delimiter_of(text))
        if self._has_header:
            return names == self._header
        if self._names and any(name not in self._wanted for name in map(plain_name, names)):
            return False
        if not all(re.match(r"[^\W\d]|_", name) and not is_number(name) for name in names):
            return False
        plain = set(map(plain_name, names))
        is_known = bool(self._wanted) and plain.issuperset(self._wanted)
        if not is_known and (is_cut or len(names) < 2):
            return False
        self._delimiter = self._delimiter or _delimiter_of(text)
        self._names = tuple(names)
        self._header = names
        self._width = len(names)
        self._has_header = True
        return True

    def _leave_out_texts(self, cells: Sequence[str]) -> None:
        """The first row shows which columns hold text, such as labels: no model takes them.

        Text in a column that the model takes is a fault of its row.
        """
        if len(cells) != self._width:
            return
        decimal: Decimal = "," if self._decimal == "," else "."
        self._kept = [
            i
            for i, (name, cell) in enumerate(zip(self._header, cells, strict=True))
            if is_number(cell, decimal) or plain_name(name) in self._wanted
        ]
        self._names = tuple(self._header[i] for i in self._kept)

    def _plain(self, text: str) -> list[str]:
        return [plain_name(name) for name in self._split(text, _delimiter_of(text))]

    def _find_layout(self, text: str) -> None:
        if not self._delimiter:
            self._delimiter = _delimiter_of(text)
        if not self._decimal:
            self._decimal = "," if self._delimiter != "," and "," in text else "."

    def _cells(self, text: str) -> list[str]:
        return self._split(text, self._delimiter)

    @staticmethod
    def _split(text: str, delimiter: str) -> list[str]:
        cells = text.split(delimiter) if delimiter.strip(" ") else text.split()
        return [cell.strip().strip('"') for cell in cells]


def _delimiter_of(text: str) -> str:
    return next((sign for sign in _DELIMITERS if sign in text), " ")
