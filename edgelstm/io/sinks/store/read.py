"""What a store holds, read back: predictions as arrays, streams, where they stand."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.io.block import Array


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """Predictions of one stream and model, in the order of their samples.

    Shapes:
        outputs, inputs: `(n, *shape)` by name; the others `(n,)`.
    """

    sample: NDArray[np.int64]
    time: NDArray[np.float64]
    stamp: NDArray[np.float64]
    flags: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    quality: NDArray[np.float64]
    label: list[str | None]
    outputs: Mapping[str, Array]
    inputs: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.sample)


def read_predictions(
    connection: sqlite3.Connection,
    stream: str,
    model_id: str | None = None,
    first: int = 0,
    last: int = 2**63 - 1,
) -> StoredPredictions:
    """Predictions of a stream.

    Args:
        connection: to a store.
        stream: its name.
        model_id: of which model; None where the store knows only one.
        first: number of the first sample that is wanted.
        last: number of the last one.

    Raises:
        RecordingError: the store knows no such stream or model, or several models.
    """
    models = connection.execute(
        "SELECT id, outputs, inputs, model_id FROM artifacts WHERE ?1 IS NULL OR model_id = ?1",
        (model_id,),
    ).fetchall()
    if len(models) != 1:
        raise RecordingError(f"the store knows {len(models)} such models: name one")
    artifact, outputs, inputs, _ = models[0]
    found = connection.execute("SELECT id FROM streams WHERE name = ?", (stream,)).fetchone()
    if found is None:
        names = [row[0] for row in connection.execute("SELECT name FROM streams ORDER BY name")]
        raise RecordingError(
            f"the store knows no stream {stream!r}; there are: {', '.join(names) or 'none'}"
        )
    rows = connection.execute(
        "SELECT sample, time, stamp, flags, valid, quality, label, outputs, inputs "
        "FROM predictions WHERE stream_id = ? AND artifact_id = ? AND sample BETWEEN ? AND ? "
        "ORDER BY sample",
        (found[0], artifact, first, last),
    ).fetchall()
    columns = list(zip(*rows, strict=True)) if rows else [()] * 9
    has_inputs = bool(rows) and all(data is not None for data in columns[8])
    return StoredPredictions(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.float64),
        np.array([math.nan if x is None else x for x in columns[2]], np.float64),
        np.array(columns[3], np.uint8),
        np.array(columns[4], np.bool_),
        np.array(columns[5], np.float64),
        list(columns[6]),
        _unpacked(columns[7], json.loads(outputs)),
        _unpacked(columns[8], json.loads(inputs)) if has_inputs else {},
    )


def _unpacked(rows: Any, fields: Any) -> dict[str, Array]:
    """What `packed_rows` packed."""
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    arrays: dict[str, Array] = {}
    at = 0
    for name, shape, kind in fields:
        dtype = np.dtype(kind)
        width = math.prod(shape) * dtype.itemsize
        part = np.ascontiguousarray(table[:, at : at + width])
        arrays[name] = part.view(dtype).reshape(len(rows), *shape)
        at += width
    return arrays
