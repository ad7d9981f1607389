"""Reading text as a table for models with one input `x`, in a file's way or line by line."""

from __future__ import annotations

import io
from typing import Any

from edgelstm.dtypes import DType
from edgelstm.io.base import Source
from edgelstm.io.ndjson import NdjsonSource
from edgelstm.io.sources.csv_source import CsvSource
from edgelstm.signature import Signature, TensorSpec


def signature_of(shape: tuple[int, ...] = (2,), dtype: DType = DType.F32) -> Signature:
    """A model with one input of this shape."""
    x = TensorSpec("x", dtype, shape, 0, (1, *shape), 0)
    return Signature("m", "stream", (x,), (x,), (), x.nbytes, x.nbytes)


def open_csv(data: str | bytes, signature: Signature, **options: Any) -> CsvSource:
    """The table in the text."""
    raw = data.encode() if isinstance(data, str) else data
    return CsvSource(io.BytesIO(raw), "in.csv", signature, **options)


def open_ndjson(data: str | bytes, signature: Signature, **options: Any) -> NdjsonSource:
    """The frames in the text."""
    raw = data.encode() if isinstance(data, str) else data
    return NdjsonSource(io.BytesIO(raw), "in.ndjson", signature, **options)


def read_all(source: Source) -> list[Any]:
    """Frames as lists; a fault as its reason."""
    rows: list[Any] = []
    for batch in source.batches():
        frames = batch.frames["x"].tolist()
        rows += [
            batch.faults[i].reason if i in batch.faults else frame for i, frame in enumerate(frames)
        ]
    return rows


def messages(source: Source) -> list[str]:
    """What the faults say, in order."""
    return [batch.faults[i].message for batch in source.batches() for i in sorted(batch.faults)]
