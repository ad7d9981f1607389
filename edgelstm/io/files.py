"""Opening recordings and outputs: which format, from a file or the standard streams."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from edgelstm.errors import RecordingError
from edgelstm.io.base import Recording
from edgelstm.io.continuation import find_arrays, find_place
from edgelstm.io.ndjson import NdjsonSink, NdjsonSource
from edgelstm.io.numbers import Decimal
from edgelstm.io.numpy_arrays import ArraySink, ArraySource, read_arrays
from edgelstm.io.sinks.csv_table import CsvSink
from edgelstm.io.sinks.lines import LineWriter
from edgelstm.io.sinks.output_sink import OutputSink
from edgelstm.io.sources.chunked import ChunkedSource
from edgelstm.io.sources.csv_source import CsvSource
from edgelstm.io.state_file import Written
from edgelstm.outputs import STANDARD, Protected, open_output
from edgelstm.sessions.chunks import chunk_frames, frame_signature
from edgelstm.signature import Signature

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
    described: Sequence[str] = (),
    decimal: Decimal | None = None,
) -> Iterator[Recording]:
    """A recording, by its path or `-` for standard input.

    Where the model takes several frames a step, the recording may hold single ones.

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
    given = (format_name, columns, keep, has_header, described, decimal)
    with ExitStack() as stack:
        if chunk_frames(signature) == 1:
            yield stack.enter_context(_opened(path, signature, *given))
            return
        # What can be opened twice may hold whole steps a row.
        is_table = (format_name or _SUFFIXES.get(Path(path).suffix.lower())) != "ndjson"
        if path != STANDARD and is_table and Path(path).is_file():
            try:
                whole = stack.enter_context(_opened(path, signature, *given))
            except RecordingError:
                pass
            else:
                yield whole
                return
        single = stack.enter_context(_opened(path, frame_signature(signature), *given))
        yield ChunkedSource(single, signature)


@contextmanager
def _opened(
    path: str,
    signature: Signature,
    format_name: Format | None,
    columns: Sequence[str],
    keep: Sequence[str],
    has_header: bool,
    described: Sequence[str],
    decimal: Decimal | None,
) -> Iterator[Recording]:
    with open_input(path) as file:
        origin = "standard input" if path == STANDARD else path
        chosen = format_name or input_format(path, file)
        if not has_header and chosen != "csv":
            raise RecordingError(f"--no-header is for CSV, and {origin} is {chosen.upper()}")
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
    path: str,
    signature: Signature,
    format_name: Format | None = None,
    kept: Sequence[str] = (),
    protect: Sequence[Protected] = (),
    continued: Written | None = None,
    is_live: bool = False,
    is_single: bool = False,
) -> Iterator[OutputSink]:
    """An output, by its path or `-` for standard output (CSV, if no format is given).

    It is finished also after an error: what was predicted before is kept.

    Args:
        path: where to; see `edgelstm/outputs.py`.
        signature: what the model gives.
        format_name: instead of what the suffix says.
        kept: names of the columns that pass through.
        protect: what is read, and must not be written over.
        continued: how far an earlier run wrote it; None to begin anew.
        is_live: the frames behind that place do not come again.
        is_single: the only prediction is written without an axis of its own, into arrays.

    Raises:
        RecordingError: it cannot be opened, the format cannot hold the outputs, or it is not what
            the earlier run wrote.
    """
    chosen = format_name or output_format(path)
    opened = (
        _open_arrays(path, chosen, signature, kept, protect, continued, is_single)
        if chosen in ("npy", "npz")
        else _open_lines(path, chosen, signature, kept, protect, continued, is_live)
    )
    with opened as sink:
        try:
            yield sink
        except BaseException:
            if sink.has_predictions:
                sink.finish()
            raise
        sink.finish()


@contextmanager
def _open_arrays(
    path: str,
    chosen: Format,
    signature: Signature,
    kept: Sequence[str],
    protect: Sequence[Protected],
    continued: Written | None,
    is_single: bool,
) -> Iterator[OutputSink]:
    before = find_arrays(path, continued)
    with open_output(path, protect, RecordingError) as output:
        sink = ArraySink(cast("IO[bytes]", output), signature, kept, chosen == "npz", is_single)
        if before:
            named = {spec.name: before.get(spec.name, before.get("")) for spec in signature.outputs}
            missing = [
                name for name in (*named, *kept) if named.get(name, before.get(name)) is None
            ]
            if missing:
                raise RecordingError(
                    f"{path} has no array {', '.join(map(repr, missing))} to continue: name a new "
                    "output"
                )
            sink.write(
                {name: array for name, array in named.items() if array is not None},
                {name: list(before[name]) for name in kept},
            )
        yield OutputSink(sink, output, None, len(next(iter(before.values()), ())), is_single)


@contextmanager
def _open_lines(
    path: str,
    chosen: Format,
    signature: Signature,
    kept: Sequence[str],
    protect: Sequence[Protected],
    continued: Written | None,
    is_live: bool,
) -> Iterator[OutputSink]:
    make = CsvSink if chosen == "csv" else NdjsonSink
    head = io.StringIO()
    make(head, signature, kept)
    place = find_place(path, continued, head.getvalue().encode(), is_live)
    append_at = None if place is None else place.size
    with open_output(path, protect, RecordingError, append_at) as output:
        lines = LineWriter(output, b"" if place is None else place.tail)
        sink = make(cast("TextIO", lines), signature, kept)
        if place is not None or (path == STANDARD and continued is not None and output.end()):
            lines.drop()  # the head is there
        yield OutputSink(sink, output, lines, 0 if place is None else place.predictions)


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
            raise RecordingError("standard input is closed: name a recording, --input FILE")
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


def input_format(path: str, file: io.BufferedReader) -> Format:
    """The format of an input, by its name or its first bytes."""
    if path != STANDARD:
        known = _SUFFIXES.get(Path(path).suffix.lower())
        if known:
            return known
    start = file.peek(8).removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, name in _STARTS:
        if start.startswith(magic):
            return name
    return "csv"
