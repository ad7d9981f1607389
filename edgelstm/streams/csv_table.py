"""CSV with a header: comma, semicolon or tab; a row is a frame."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from edgelstm.errors import RecordingError
from edgelstm.signature import Signature
from edgelstm.streams.base import Array, Batch
from edgelstm.streams.columns import (
    choose_columns,
    columns_by_input,
    element_names,
    find_column,
    is_number,
    number_texts,
    parser_for,
    to_frames,
)


class CsvSource:
    """Frames out of rows.

    Args:
        stream: the text; its `buffer`, if any, tells how much was read.
        origin: name of the recording, for messages.
        signature: what the model takes.
        columns: names of the columns, in the order of the elements; empty to find them.
        keep: names of columns that pass through.
        batch_size: rows a batch; 1 for a live stream.
        total: bytes to read, where known.
        has_header: whether the first row holds names; without, columns are named 0, 1, ...
    """

    def __init__(
        self,
        stream: TextIO,
        origin: str,
        signature: Signature,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        batch_size: int = 4096,
        total: int | None = None,
        has_header: bool = True,
    ) -> None:
        self._stream = stream
        self._origin = origin
        self._batch_size = batch_size
        self._total = total
        self._specs = signature.inputs
        self._line = 0
        self._rows = self._read_rows()
        self._header, self._first = self._read_head(has_header)
        # Without a row there is nothing to tell numbers by.
        first = self._first if self._first is not None else ["0"] * len(self._header)
        numeric = [i for i, cell in enumerate(first) if is_number(cell)]
        self._chosen = choose_columns(self._header, self._specs, columns, numeric, origin)
        self._kept = {name: find_column(self._header, name, origin) for name in keep}
        self._parsers = [(spec, parser_for(spec), self._chosen[spec.name]) for spec in self._specs]

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that pass through."""
        return tuple(self._kept)

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which columns feed which input."""
        return columns_by_input(self._header, self._chosen)

    @property
    def total(self) -> int | None:
        """Bytes to read, where known."""
        return self._total

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return int(self._stream.buffer.tell()) if self._total is not None else 0

    def batches(self) -> Iterator[Batch]:
        """All rows in order."""
        collected = _Collected(self)
        try:
            while (row := self._next_row()) is not None:
                collected.add(row)
                if len(collected) >= self._batch_size:
                    yield collected.take()
        except RecordingError:
            if len(collected):
                yield collected.take()
            raise
        if len(collected):
            yield collected.take()

    def _next_row(self) -> list[str] | None:
        if self._first is not None:
            row, self._first = self._first, None
            return row
        return next(self._rows, None)

    def _read_head(self, has_header: bool) -> tuple[list[str], list[str] | None]:
        """Names of the columns, and the first row of cells if there is one."""
        header = next(self._rows, None)
        if header is None:
            raise RecordingError(f"{self._origin} is empty: a header line was expected")
        if not has_header:
            return [str(i) for i in range(len(header))], header
        if all(is_number(cell) for cell in header):
            raise RecordingError(
                f"{self._origin}:{self._line}: numbers where column names were expected; "
                "add a header line, or use --no-header"
            )
        return [cell.strip() for cell in header], next(self._rows, None)

    def _read_rows(self) -> Iterator[list[str]]:
        lines = iter(self._stream.readline, "")
        try:
            first = next(lines, None)
            if first is None:
                return
            first = first.removeprefix("\ufeff")
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(_prepend(first, lines), delimiter=delimiter, skipinitialspace=True)
            for row in reader:
                self._line = reader.line_num
                if row and any(cell.strip() for cell in row):
                    yield row
        except csv.Error as exc:
            raise RecordingError(f"{self._origin}:{self._line + 1}: not CSV: {exc}") from exc
        except UnicodeDecodeError as exc:
            raise RecordingError(
                f"{self._origin}: not text in UTF-8 after line {self._line}: {exc.reason}"
            ) from exc


class _Collected:
    """Rows on their way into a batch."""

    def __init__(self, source: CsvSource) -> None:
        self._source = source
        self._clear()

    def __len__(self) -> int:
        return len(self._lines)

    def _clear(self) -> None:
        self._values: list[list[list[float]]] = [[] for _ in self._source._specs]
        self._kept: dict[str, list[str]] = {name: [] for name in self._source._kept}
        self._lines: list[int] = []

    def add(self, row: list[str]) -> None:
        """Read the cells of a row, all or none."""
        source = self._source
        line = source._line
        if len(row) != len(source._header):
            raise RecordingError(
                f"{source._origin}:{line}: {len(row)} cells, the header has {len(source._header)}"
            )
        try:
            parsed = [[parse(row[i]) for i in columns] for _, parse, columns in source._parsers]
        except (ValueError, OverflowError) as exc:
            raise self._cell_error(row) from exc
        for values, numbers in zip(self._values, parsed, strict=True):
            values.append(numbers)
        for name, i in source._kept.items():
            self._kept[name].append(row[i])
        self._lines.append(line)

    def _cell_error(self, row: list[str]) -> RecordingError:
        """The error that names the first cell of a row that cannot be read."""
        source = self._source
        spec, i = next(
            (spec, i)
            for spec, parse, columns in source._parsers
            for i in columns
            if not _parses(parse, row[i])
        )
        return RecordingError(
            f"{source._origin}:{source._line}: column {source._header[i]!r}: {row[i]!r} is no "
            f"{'number' if spec.dtype.is_float else 'whole number'}"
        )

    def take(self) -> Batch:
        """The batch; collecting begins anew."""
        source, lines = self._source, self._lines
        where = f"{source._origin}:{lines[0]}"
        frames = {
            spec.name: to_frames(values, spec, where)
            for spec, values in zip(source._specs, self._values, strict=True)
        }
        kept = self._kept
        self._clear()
        return Batch(frames, lambda i: f"{source._origin}:{lines[i]}", kept)


class CsvSink:
    """Predictions as rows: columns that pass through, then every element of every output.

    Args:
        stream: where the text goes.
        signature: what the model gives.
        kept: names of the columns that pass through.
    """

    def __init__(self, stream: TextIO, signature: Signature, kept: Sequence[str] = ()) -> None:
        self._stream = stream
        self._specs = signature.outputs
        self._kept = tuple(kept)
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow([*kept, *(n for spec in self._specs for n in element_names(spec))])

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write rows."""
        n_frames = len(outputs[self._specs[0].name])
        tables = [outputs[spec.name].reshape(n_frames, -1) for spec in self._specs]
        for i in range(n_frames):
            row = [str(kept[name][i]) for name in self._kept]
            for table in tables:
                row += number_texts(table[i])
            self._writer.writerow(row)

    def flush(self) -> None:
        """Hand on what was written so far."""
        self._stream.flush()

    def finish(self) -> None:
        """All rows are out already; hand them on."""
        self._stream.flush()


def _parses(parse: Any, cell: str) -> bool:
    try:
        parse(cell)
    except (ValueError, OverflowError):
        return False
    return True


def _prepend(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
