"""Recordings in formats of other packages: Parquet by pyarrow, EDF and BDF by edfio."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.live import Delivery, SourceContext
from edgelstm.io.numbering import Numbering
from edgelstm.io.wire.base import Rows

TABLES = ("parquet", "edf", "bdf")
_ROWS = 4096


def open_table(
    kind: str, path: str, columns: Sequence[str], context: SourceContext
) -> Iterator[Delivery]:
    """The samples of a recording as one group of columns.

    Args:
        kind: one of `TABLES`.
        path: of the file.
        columns: names of those that are wanted; empty: all of numbers.
        context: of the run.

    Raises:
        RecordingError: it cannot be read, or has no such column.
        TargetUnavailableError: the package is not installed.
    """
    numbering = Numbering(Options(Address(path, "file", path)), context.rate_hz).stream()
    read = _read_parquet if kind == "parquet" else _read_edf
    for names, values in read(kind, path, columns):
        yield numbering.delivery(Rows(values), names, True, time.monotonic())


def _read_parquet(
    kind: str, path: str, columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
    del kind
    parquet = load_extra("pyarrow.parquet", "parquet", "Parquet files")
    arrow = load_extra("pyarrow", "parquet", "Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            numeric = [field.name for field in schema if _is_numeric(arrow, field.type)]
            names = _wanted(columns, numeric, path)
            for batch in file.iter_batches(_ROWS, columns=list(names)):
                table = [_floats(arrow, batch.column(name)) for name in names]
                yield names, np.stack(table, axis=1)
    except (arrow.ArrowException, OSError, ValueError) as exc:
        raise RecordingError(f"cannot read {path} as Parquet: {exc}") from exc


def _is_numeric(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_timestamp(kind)
    )


def _floats(arrow: Any, column: Any) -> NDArray[np.float64]:
    """Numbers; missing ones are NaN, and moments are seconds since 1970."""
    if arrow.types.is_timestamp(column.type):
        units = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
        seconds = column.cast(arrow.int64()).to_numpy(zero_copy_only=False)
        return np.asarray(seconds, np.float64) * units[column.type.unit]
    return np.asarray(column.cast(arrow.float64()).to_numpy(zero_copy_only=False), np.float64)


def _read_edf(
    kind: str, path: str, columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
    edfio = load_extra("edfio", "edf", "EDF and BDF files")
    try:
        recording = edfio.read_bdf(path) if kind == "bdf" else edfio.read_edf(path)
        signals = [signal for signal in recording.signals if "Annotations" not in signal.label]
        by_name = {signal.label: signal for signal in signals}
        names = _wanted(columns, list(by_name), path)
        rates = {by_name[name].sampling_frequency for name in names}
        if len(rates) > 1:
            shown = ", ".join(f"{name} {by_name[name].sampling_frequency:g} Hz" for name in names)
            raise RecordingError(
                f"{path}: the signals have different rates ({shown}); name those of one rate: "
                "file:...?columns=A,B"
            )
        table = np.stack([np.asarray(by_name[name].data, np.float64) for name in names], axis=1)
    except (OSError, ValueError, KeyError) as exc:
        raise RecordingError(f"cannot read {path} as {kind.upper()}: {exc}") from exc
    rate = rates.pop()
    times = np.arange(len(table)) / rate
    full = np.concatenate([times[:, None], table], axis=1)
    for start in range(0, len(full), _ROWS):
        yield ("time_s", *names), full[start : start + _ROWS]


def _wanted(columns: Sequence[str], there: Sequence[str], path: str) -> tuple[str, ...]:
    missing = [name for name in columns if name not in there]
    if missing:
        raise RecordingError(
            f"{path}: no column of numbers is named {', '.join(map(repr, missing))}; there are: "
            f"{', '.join(there) or 'none'}"
        )
    if not there:
        raise RecordingError(f"{path}: no column holds numbers")
    return tuple(columns) or tuple(there)
