"""Opening recordings and outputs: which format, from a file or the standard streams."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from edgelstm.errors import RecordingError
from edgelstm.signature import Signature
from edgelstm.streams.base import Sink, Source
from edgelstm.streams.csv_source import CsvSource
from edgelstm.streams.csv_table import CsvSink
from edgelstm.streams.ndjson import NdjsonSink, NdjsonSource
from edgelstm.streams.numbers import Decimal
from edgelstm.streams.numpy_arrays import ArraySink, ArraySource, read_arrays

Format = Literal["csv", "ndjson", "npy", "npz"]
FORMATS: tuple[Format, ...] = ("csv", "ndjson", "npy", "npz")
STANDARD = "-"

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
    described: Sequence[str] = (),
    decimal: Decimal | None = None,
) -> Iterator[Source]:
    """A recording, by its path or `-` for standard input.

    Args:
        path: of the recording.
        signature: of the model that the frames are for.
        format_name: in place of what the suffix or the first bytes say.
        columns: which columns feed the inputs, in order; empty: found by name.
        keep: names of columns that pass through.
        has_header: whether CSV begins with names.
        described: names of the columns in the model's description, in order.
        decimal: sign in front of decimals in CSV; None to find it.

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
        live = is_live(file)
        total = None if live else os.fstat(file.fileno()).st_size
        if chosen == "csv":
            yield CsvSource(
                file,
                origin,
                signature,
                columns,
                keep,
                total=total,
                has_header=has_header,
                is_live=live,
                described=described,
                decimal=decimal,
            )
            return
        yield NdjsonSource(
            file,
            origin,
            signature,
            columns,
            keep,
            total=total,
            is_live=live,
            described=described,
        )


@contextmanager
def open_sink(
    path: str, signature: Signature, format_name: Format | None = None, kept: Sequence[str] = ()
) -> Iterator[Sink]:
    """An output, by its path or `-` for standard output (CSV, if no format is given).

    It is finished also after an error: what was predicted before is kept.

    Raises:
        RecordingError: it cannot be opened, or the format cannot hold the outputs.
    """
    chosen = format_name or output_format(path)
    sink: Sink
    with open_output(path) as file:
        if chosen in ("npy", "npz"):
            sink = ArraySink(file, signature, kept, is_npz=chosen == "npz")
            with _finishing(sink):
                yield sink
            return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            make = CsvSink if chosen == "csv" else NdjsonSink
            sink = make(text, signature, kept)
            with _finishing(sink):
                yield sink
        finally:
            text.detach()


@contextmanager
def _finishing(sink: Sink) -> Iterator[None]:
    try:
        yield
    finally:
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
        if sys.stdin is None:
            raise RecordingError("standard input is closed: name a file, --input FILE")
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


@contextmanager
def open_output(path: str) -> Iterator[Any]:
    """A file, or standard output, which stays open, to write bytes to.

    Raises:
        RecordingError: it cannot be opened.
    """
    if path == STANDARD:
        if sys.stdout is None:
            raise RecordingError("standard output is closed: name a file, --output FILE")
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        file = open(path, "wb")  # noqa: SIM115
    except OSError as exc:
        raise RecordingError(f"cannot write {path}: {exc.strerror or exc}") from exc
    with file:
        yield file


def is_live(file: IO[bytes]) -> bool:
    """Whether bytes arrive over time: a pipe, a terminal, a device; not a file."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return True


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to one existing file."""
    if STANDARD in (one, other) or not os.path.exists(one) or not os.path.exists(other):
        return False
    return os.path.samefile(one, other)


def _format_of(path: str, file: io.BufferedReader) -> Format:
    if path != STANDARD:
        known = _SUFFIXES.get(Path(path).suffix.lower())
        if known:
            return known
    start = file.peek(8).removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, name in _STARTS:
        if start.startswith(magic):
            return name
    return "csv"
