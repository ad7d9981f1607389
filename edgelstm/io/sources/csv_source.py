"""Frames out of CSV: a row is a frame, and a line that is none stands as a fault in its place."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, TypeAlias

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.base import Array, Batch, Fault
from edgelstm.io.columns import choose_columns, columns_by_input, find_columns, find_time
from edgelstm.io.limits import BLOCK_ROWS, HEAD_LINES
from edgelstm.io.numbers import Decimal, NotANumberError, is_missing, is_number
from edgelstm.io.sources.csv_cells import is_plain, read_numbers, read_tensor
from edgelstm.io.sources.csv_layout import Layout, find_layout, is_first_data
from edgelstm.io.sources.csv_rows import (
    COMMENT,
    MAX_QUOTED_LINES,
    is_comment,
    split_columns,
    split_record,
    split_records,
    split_row,
    split_rows,
)
from edgelstm.io.sources.text_lines import BAD_BYTE, ByteProgress, LineReader, Lines
from edgelstm.signature import Signature

CUT = "cut line"
EXTRA = "too many cells"
EMPTY = "empty line"
QUOTE = "open quote"

_ENOUGH_ROWS = 10
_EVEN = 1e-3
"""Share of a step by which even steps differ, from rounding in the text."""

_CLEAR_COMMA = re.compile(
    r"[+-]?(?:[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})?|0*,[0-9]+)(?:[eE][+-]?[0-9]+)?"
)
_CLEAR_POINT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


_Line: TypeAlias = "tuple[int, str, Fault | None]"
"""Number, text, and what was wrong with its bytes."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Lines on their way into a batch: the cells of each, its number, and what is wrong with it."""

    cells: list[list[str]]
    lines: Sequence[int]
    faults: Mapping[int, Fault] = field(default_factory=dict)


class CsvSource(ByteProgress):
    """Frames out of rows.

    Args:
        file: the bytes.
        origin: name of the recording, for messages.
        signature: what the model takes.
        columns: names of the columns, in the order of the elements; empty to find them.
        keep: names of columns that pass through.
        batch_size: rows a batch.
        total: bytes to read, where known.
        has_header: whether a line names the columns; without, they are named 0, 1, ...
        is_live: work on each line before the next is there.
        described: names of the columns in the model's description, in the order of the elements.
        decimal: sign in front of decimals; None to find it.

    Raises:
        RecordingError: the table is empty, or its layout or the columns are not clear.
    """

    def __init__(
        self,
        file: IO[bytes],
        origin: str,
        signature: Signature,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        batch_size: int = BLOCK_ROWS,
        total: int | None = None,
        has_header: bool = True,
        *,
        is_live: bool = False,
        described: Sequence[str] = (),
        decimal: Decimal | None = None,
    ) -> None:
        self._origin = origin
        self._batch_size = 1 if is_live else batch_size
        self._total = total
        self._is_live = is_live
        self._specs = signature.inputs
        self._reader = LineReader(file, origin, is_live)
        names = (*columns, *keep) or tuple(described)
        head, self._layout = self._read_head(has_header, names, decimal)
        layout = self._layout
        self._decimal = layout.decimal
        self._blank: list[int] = []
        self._open: list[_Line] = []
        self._at_end = False
        self._head = _without(head, layout)
        numeric, counting = self._study_columns(self._head)
        place = f"{origin}:{(layout.header if layout.header >= 0 else layout.first) + 1}"
        try:
            self._chosen = choose_columns(
                layout.names,
                self._specs,
                columns,
                numeric,
                place,
                described,
                has_names=has_header,
            )
        except RecordingError as exc:
            elements = sum(math.prod(spec.shape) for spec in self._specs)
            if layout.delimiter != "," or layout.width != 2 * elements or columns:
                raise
            raise RecordingError(f"{exc} (decimal commas? --decimal ,)") from exc
        self._remarks = list(layout.remarks)
        if not columns and not described:
            # Named like an element, a column is what its name says.
            self._remarks += [
                f"{place}: column {layout.names[i]!r} counts up evenly, as time stamps and "
                "counters do, and is fed as a feature; say which columns to take: --columns A,B,..."
                for places in self._chosen.values()
                for i in places
                if i in counting and "[" not in layout.names[i]
            ]
        self._kept = find_columns(layout.names, keep, place)
        self._time = find_time(layout.names, numeric)

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that pass through."""
        return tuple(self._kept)

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which columns feed which input."""
        return columns_by_input(self._layout.names, self._chosen)

    @property
    def units(self) -> Mapping[str, Sequence[str]]:
        """The units of these columns, "" where the recording has none."""
        return columns_by_input(self._layout.units, self._chosen)

    @property
    def time_name(self) -> str | None:
        """Name and unit of the column of time stamps, where there is one."""
        if self._time is None:
            return None
        unit = self._layout.units[self._time]
        name = self._layout.names[self._time]
        return f"{name} ({unit})" if unit and unit not in name else name

    @property
    def remarks(self) -> Sequence[str]:
        """What looks odd about the layout and the columns."""
        return tuple(self._remarks)

    def batches(self) -> Iterator[Batch]:
        """All rows in order."""
        block: Lines | None = self._head
        size = self._batch_size
        while block is not None:
            for start in range(0, len(block.texts), size):
                batch = self._batch(_part(block, start, start + size))
                if batch is not None:
                    yield batch
            raw = self._reader.read(size)
            block = self._reader.decode(raw) if raw else None
        self._at_end = True
        last = self._batch(Lines(0, []))
        if last is not None:
            yield last

    def _read_head(
        self, has_header: bool, wanted: Sequence[str], decimal: Decimal | None
    ) -> tuple[Lines, Layout]:
        """The first block, and the layout of the table in it."""
        raw: list[bytes | None] = []
        while lines := self._reader.read(BLOCK_ROWS):
            raw += lines
            if not self._is_live or len(raw) >= HEAD_LINES:
                break
            texts = _leniently(self._reader.preview(raw), raw)
            if is_first_data(texts, has_header, decimal):
                break
        preview = self._reader.preview(raw)
        layout = find_layout(
            _leniently(preview, raw),
            self._origin,
            has_header=has_header,
            wanted=wanted,
            is_live=self._is_live,
            decimal=decimal,
        )
        spoiled = [i for i, fault in preview.faults.items() if fault.reason == BAD_BYTE]
        if any(i < layout.first or i in layout.skipped for i in spoiled):
            self._reader.use_latin1()
        return self._reader.decode(raw), layout

    def _study_columns(self, block: Lines) -> tuple[frozenset[int], frozenset[int]]:
        """Columns that hold no text in most rows of the first block, and those that count up."""
        layout = self._layout
        decimal = layout.decimal or "."
        lines = [text for text in block.texts if text.strip() and not is_comment(text)]
        rows = split_rows(lines, layout.delimiter)
        if rows is None:
            rows = split_records(lines, layout.delimiter)
        rows = [row for row in rows if len(row) == layout.width]
        numeric, counting = [], []
        for i, cells in enumerate(zip(*rows, strict=True)):
            try:
                if _counts_up(read_numbers(cells, decimal, plain=False)):
                    counting.append(i)
            except NotANumberError:
                texts = sum(not is_number(cell, decimal) for cell in cells)
                present = sum(not is_missing(cell) for cell in cells)
                if 2 * texts > present:
                    continue
            numeric.append(i)
        return frozenset(numeric if rows else range(layout.width)), frozenset(counting)

    def _batch(self, block: Lines) -> Batch | None:
        """The frames of these lines; None where there are none."""
        joined = "\n".join(block.texts)
        is_whole = not (block.faults or self._blank or self._open or COMMENT in joined)
        if is_whole and block.texts:
            columns = split_columns(block.texts, joined, self._layout.delimiter, self._layout.width)
            if columns is not None:
                numbers = range(block.first, block.first + len(block.texts))
                return self._as_batch(columns, numbers, {}, joined)
        if self._open:
            joined = ""  # says nothing about the lines that are still open
        rows = self._collect(block)
        if not rows.cells:
            return None
        columns = list(zip(*rows.cells, strict=True))
        return self._as_batch(columns, rows.lines, rows.faults, joined)

    def _collect(self, block: Lines) -> _Rows:
        """Rows line by line, with the faults of lines that are none."""
        cells: list[list[str]] = []
        numbers: list[int] = []
        faults: dict[int, Fault] = {}

        def add(row: list[str], number: int, fault: Fault | None) -> None:
            if fault is not None:
                faults[len(cells)] = fault
            cells.append(row)
            numbers.append(number)

        width = self._layout.width
        filler = [""] * width
        lines = deque(self._open)
        lines.extend(
            (block.first + i, text, block.faults.get(i)) for i, text in enumerate(block.texts)
        )
        self._open = []
        while lines:
            number, text, fault = lines.popleft()
            row: list[str] | None = filler
            if fault is None:
                if is_comment(text):
                    continue
                if not text.strip() and width > 1:
                    # Blank lines at the end are none; anywhere else they are lost samples.
                    self._blank.append(number)
                    continue
                row = self._split(text)
                if row is None and not self._is_live:
                    if len(lines) < MAX_QUOTED_LINES and not self._at_end:
                        self._open = [(number, text, fault), *lines]
                        break
                    row = self._join(text, lines)
                if row is None:
                    fault = self._fault(QUOTE, number, "a quote is opened and not closed")
                elif len(row) != width:
                    fault = self._width_fault(row, number)
            for blank in self._blank:
                add(filler, blank, self._fault(EMPTY, blank, "the line is empty"))
            self._blank.clear()
            add(filler if row is None or fault is not None else row, number, fault)
        return _Rows(cells, numbers, faults)

    def _split(self, text: str) -> list[str] | None:
        """The cells of a line, without the empty one behind a delimiter at its end."""
        row = split_row(text, self._layout.delimiter)
        if row is None:
            return None
        if len(row) == self._layout.width + 1 and not row[-1].strip():
            return row[:-1]
        return row or [""]

    def _join(self, text: str, lines: deque[_Line]) -> list[str] | None:
        """The row of a quoted cell that goes on in the next lines, which are taken; else None."""
        for count, (_, more, fault) in enumerate(islice(lines, MAX_QUOTED_LINES), 1):
            if fault is not None:
                return None
            text = f"{text}\n{more}"
            row = split_record(text, self._layout.delimiter)
            if row is not None:
                if len(row) != self._layout.width:
                    return None
                for _ in range(count):
                    lines.popleft()
                return row
        return None

    def _fault(self, reason: str, number: int, what: str) -> Fault:
        return Fault(reason, f"{self._origin}:{number}: {what}")

    def _width_fault(self, row: Sequence[str], number: int) -> Fault:
        width = self._layout.width
        hint = ""
        if self._layout.delimiter == "," and len(row) == 2 * width:
            hint = " (decimal commas between commas?)"
        elif len(row) == 1 and re.search(r"[;\t|]", row[0]):
            hint = " (another delimiter?)"
        reason = CUT if len(row) < width else EXTRA
        return self._fault(reason, number, f"{len(row)} cells, the header has {width}{hint}")

    def _as_batch(
        self,
        columns: Sequence[Sequence[str]],
        lines: Sequence[int],
        found_faults: Mapping[int, Fault],
        joined: str,
    ) -> Batch:
        """Columns of cells as frames; `joined` is their text, "" where it is not known."""
        origin = self._origin
        plain = bool(joined) and is_plain(joined)
        if self._decimal is None and (not joined or "," in joined or "." in joined):
            self._decimal = self._find_decimal(columns)
        decimal = self._decimal or "."

        def where(i: int) -> str:
            return f"{origin}:{lines[i]}"

        frames: dict[str, Array] = {}
        faults = dict(found_faults)
        for spec in self._specs:
            chosen = self._chosen[spec.name]
            names = [self._layout.names[i] for i in chosen]
            frames[spec.name], found = read_tensor(
                [columns[i] for i in chosen], names, spec, decimal, plain, where
            )
            for i, fault in found.items():
                faults.setdefault(i, fault)
        kept = {name: list(columns[i]) for name, i in self._kept.items()}
        return Batch(frames, where, kept, faults, self._times(columns, decimal, plain))

    def _times(
        self, columns: Sequence[Sequence[str]], decimal: Decimal, plain: bool
    ) -> Array | None:
        if self._time is None:
            return None
        try:
            return read_numbers(columns[self._time], decimal, plain)
        except NotANumberError:
            return None

    def _find_decimal(self, columns: Sequence[Sequence[str]]) -> Decimal | None:
        """The decimal sign of the first number that shows it beyond doubt."""
        chosen = [columns[i] for places in self._chosen.values() for i in places]
        for cell in chain.from_iterable(zip(*chosen, strict=True)):
            if _CLEAR_COMMA.fullmatch(cell.strip()):
                return ","
            if _CLEAR_POINT.fullmatch(cell.strip()):
                return "."
        return None


def _counts_up(numbers: Array) -> bool:
    """Whether a column grows by the same step from row to row."""
    if len(numbers) < _ENOUGH_ROWS or not np.isfinite(numbers).all():
        return False
    steps = np.diff(numbers)
    typical = float(np.median(steps))
    return typical > 0 and bool(np.all(np.abs(steps - typical) <= _EVEN * typical))


def _leniently(lines: Lines, raw: Sequence[bytes | None]) -> list[str]:
    """Texts in which bad bytes are read as ISO 8859-1, to find the layout with."""
    return [
        (raw[i] or b"").decode("latin-1") if i in lines.faults else text
        for i, text in enumerate(lines.texts)
    ]


def _without(block: Lines, layout: Layout) -> Lines:
    """The lines of data in the first block; those between that are none become comments."""
    texts = [COMMENT if i in layout.skipped else text for i, text in enumerate(block.texts)]
    return _part(Lines(block.first, texts, block.faults), layout.first, len(texts))


def _part(block: Lines, start: int, stop: int) -> Lines:
    faults = {i - start: fault for i, fault in block.faults.items() if start <= i < stop}
    return Lines(block.first + start, block.texts[start:stop], faults)
