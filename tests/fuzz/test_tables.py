"""Random CSV and NDJSON files: the right numbers, or one error that says the line and why."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError, StreamError
from edgelstm.io.base import Batch, Source
from edgelstm.io.files import open_source
from edgelstm.io.ndjson import NdjsonSource
from edgelstm.io.replay import find_bad_frames
from edgelstm.io.sources.csv_source import CsvSource
from edgelstm.signature import Signature, TensorSpec
from tests.fuzz.tables import Table, random_table

COUNT = int(os.environ.get("EDGELSTM_FUZZ_TABLES", "300"))
FIRST = int(os.environ.get("EDGELSTM_FUZZ_FIRST", "0"))


def signature_of(width: int) -> Signature:
    x = TensorSpec("x", DType.F32, (width,), 0, (1, width), 0)
    return Signature("m", "stream", (x,), (x,), (), 4 * width, 4 * width)


def rows_of(source: Source, signature: Signature) -> tuple[list[list[float] | None], list[str]]:
    """Frames in order, None for bad ones; and the place of each."""
    rows: list[list[float] | None] = []
    places: list[str] = []
    batch: Batch
    for batch in source.batches():
        bad = find_bad_frames(batch, signature)
        for i, frame in enumerate(batch.frames["x"].tolist()):
            rows.append(None if bad[i] else frame)
            places.append(batch.where(i))
    return rows, places


def expected(table: Table) -> list[list[float] | None]:
    return [None if row is None else np.array(row, np.float32).tolist() for row in table.rows]


def test_random_tables(tmp_path: Path) -> None:
    """Each is read exactly, bad lines in their places; or refused by name. Most are read."""
    read = 0
    refusals: list[str] = []
    for seed in range(FIRST, FIRST + COUNT):
        table = random_table(seed)
        path = tmp_path / f"in{table.suffix}"
        path.write_bytes(table.data)
        signature = signature_of(table.width)
        options: dict[str, Any] = dict(table.options)
        try:
            with open_source(str(path), signature, **options) as source:
                rows, places = rows_of(source, signature)
        except StreamError as exc:
            refusals.append(str(exc))
            continue
        assert rows == expected(table), f"seed {seed}: {table.recipe}\n{table.data[:300]!r}"
        assert [int(place.rpartition(":")[2]) for place in places] == table.lines, seed
        read += 1
    assert read >= COUNT * 250 // 300, refusals
    assert [text for text in refusals if not re.search(r"in\.\w+:( lines)? ?\d+", text)] == []


@pytest.mark.parametrize("seed", range(FIRST, FIRST + min(COUNT, 100)))
def test_live_and_file_agree(seed: int, tmp_path: Path) -> None:
    """Line by line, a stream that can be read gives what the file gives."""
    table = random_table(seed)
    signature = signature_of(table.width)
    try:
        if table.suffix == ".ndjson":
            source: Source = NdjsonSource(
                io.BytesIO(table.data), "in", signature, batch_size=1, is_live=True
            )
        else:
            options: dict[str, Any] = dict(table.options)
            source = CsvSource(io.BytesIO(table.data), "in", signature, is_live=True, **options)
    except RecordingError:
        return
    rows, _ = rows_of(source, signature)
    assert rows == expected(table), table.recipe
