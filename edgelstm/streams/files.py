"""Opening recordings and outputs: which format, from a file or the standard streams."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from edgelstm.errors import RecordingError
from edgelstm.outputs import STANDARD, Protected, open_output
from edgelstm.signature import Signature
from edgelstm.streams.base import Source
from edgelstm.streams.csv_table import CsvSink, CsvSource
from edgelstm.streams.lines import LineWriter
from edgelstm.streams.ndjson import NdjsonSink, NdjsonSource
from edgelstm.streams.numpy_arrays import ArraySink, ArraySource, read_arrays
from edgelstm.streams.output_sink import OutputSink

Format = Literal["csv", "ndjson", "npy", "npz"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson", "npy", "npz")

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".npy": "npy",
    ".npz": "npz",
}
_STARTS: tuple[tuple[bytes, Format], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"PK", "npz"),
    (b"{", "ndjson"),
    (b"[", "ndjson"),
)


@contextmanager
def open_source(
    path: str,
    signature: Signature,
    format_name: Format | None = None,
    columns: Sequence[str] = (),
    keep: Sequence[str] = (),
    has_header: bool = True,
) -> Iterator[Source]:
    """A recording, by its path or `-` for standard input.

    Raises:
        RecordingError: it cannot be opened, or does not fit the model.
    """
    with open_input(path) as file:
        origin = "standard input" if path == STANDARD else path
        chosen = format_name or _format_of(path, file)
        if chosen in ("npy", "npz"):
            arrays = read_arrays(file.read() if path == STANDARD else Path(path), origin)
            yield ArraySource(arrays, origin, signature, columns, keep)
            return
        total = None if is_live(file) else os.fstat(file.fileno()).st_size
        # A live stream is worked on line by line: each sample is answered before the next comes.
        batch_size = 1 if total is None else 4096
        text = io.TextIOWrapper(file, encoding="utf-8", newline="" if chosen == "csv" else None)
        try:
            if chosen == "csv":
                yield CsvSource(
                    text, origin, signature, columns, keep, batch_size, total, has_header
                )
            else:
                yield NdjsonSource(text, origin, signature, columns, keep, batch_size, total)
        finally:
            text.detach()


@contextmanager
def open_sink(
    path: str,
    signature: Signature,
    format_name: Format | None = None,
    kept: Sequence[str] = (),
    protect: Sequence[Protected] = (),
) -> Iterator[OutputSink]:
    """An output, by its path or `-` for standard output (CSV, if no format is given).

    It is finished also after an error: what was predicted before is kept.

    Args:
        path: where to; see `edgelstm/outputs.py`.
        signature: what the model gives.
        format_name: instead of what the suffix says.
        kept: names of the columns that pass through.
        protect: what is read, and must not be written over.

    Raises:
        RecordingError: it cannot be opened, or the format cannot hold the outputs.
    """
    chosen = format_name or output_format(path)
    with open_output(path, protect, RecordingError) as output:
        if chosen in ("npy", "npz"):
            arrays = ArraySink(cast("IO[bytes]", output), signature, kept, chosen == "npz")
            sink = OutputSink(arrays, output, None)
        else:
            lines = LineWriter(output)
            make = CsvSink if chosen == "csv" else NdjsonSink
            sink = OutputSink(make(cast("TextIO", lines), signature, kept), output, lines)
        try:
            yield sink
        except BaseException:
            if sink.has_predictions:
                sink.finish()
            raise
        sink.finish()


def output_format(path: str) -> Format:
    """The format that an output's name asks for.

    Raises:
        RecordingError: the suffix is unknown.
    """
    if path == STANDARD:
        return "csv"
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise RecordingError(
            f"{path}: the format is not clear from the suffix {suffix!r} "
            f"(known: {', '.join(_SUFFIXES)}); give --output-format"
        )
    return _SUFFIXES[suffix]


@contextmanager
def open_input(path: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, or of standard input, which stays open.

    Raises:
        RecordingError: it cannot be opened.
    """
    if path == STANDARD:
        raw: Any = sys.stdin.buffer
        if isinstance(raw, io.BufferedReader):
            yield raw
            return
        wrapped = io.BufferedReader(raw)
        try:
            yield wrapped
        finally:
            wrapped.detach()
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as exc:
        raise RecordingError(f"cannot read {path}: {exc.strerror or exc}") from exc
    with file:
        yield file


def is_live(file: IO[bytes]) -> bool:
    """Whether bytes arrive over time: a pipe, a terminal, a device; not a file."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return True


def _format_of(path: str, file: io.BufferedReader) -> Format:
    if path != STANDARD:
        known = _SUFFIXES.get(Path(path).suffix.lower())
        if known:
            return known
    start = file.peek(8).lstrip()
    for magic, name in _STARTS:
        if start.startswith(magic):
            return name
    return "csv"
