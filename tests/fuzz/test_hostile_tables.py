"""Damaged and hostile recordings of every format: frames, faults, or one named error."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import EdgeLSTMError
from edgelstm.io.base import Source
from edgelstm.io.files import FORMATS, Format, open_sink, open_source
from edgelstm.io.ndjson import NdjsonSource
from edgelstm.io.sources.csv_source import CsvSource
from tests.fuzz.tables import random_table
from tests.unit.runtime.tables import signature_of

COUNT = int(os.environ.get("EDGELSTM_FUZZ_HOSTILE", "400"))
PIECES = [
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"'", b"\r", b"\n"),
    *(b",", b";", b"#", b"[", b"]", b"{", b"}", b"null", b"true", b"NaN", b"-Infinity", b"1e999"),
    *(b"9" * 400, b"9" * 5000, b'"\\ud800"', b"[" * 2000, b'{"x":' * 50, b"\xd9\xa1", b"1_0"),
    *(b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"'descr'", b"(" * 300, b"-", b"\\N{"),
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few edits: bytes changed, pieces put in, parts cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(out) + 1)
        end = min(len(out), place + rng.randint(1, 40))
        edit = rng.randrange(5)
        if edit == 0 and place < len(out):
            out[place] = rng.randrange(256)
        elif edit == 1:
            out[place:place] = rng.choice(PIECES)
        elif edit == 2:
            del out[place:end]
        elif edit == 3:
            out[place:place] = out[place:end]
        else:
            del out[place + rng.randint(0, 400) :]
    return bytes(out)


def seed_file(seed: int, rng: random.Random) -> tuple[bytes, Format]:
    """A sound recording of any format."""
    kind = rng.choice(FORMATS)
    room = io.BytesIO()
    if kind == "npy":
        np.save(room, np.arange(8, dtype=rng.choice(["f4", "f8", "i4"])).reshape(4, 2))
    elif kind == "npz":
        np.savez(room, x=np.ones((4, 2), np.float32), t=np.arange(4))
    elif kind == "csv":
        return b"t,ax,ay\n0,1,2\n1,3,4\n2,5,6\n" if seed % 2 else random_table(seed).data, kind
    else:
        lines = b'{"x": [1, 2], "t": {"a": [1, NaN, "b"]}}\n'
        return lines * 4 if seed % 2 else random_table(seed).data, kind
    return room.getvalue(), kind


def drain(source: Source) -> int:
    return sum(len(batch) for batch in source.batches())


@pytest.mark.parametrize("part", range(4))
def test_nothing_raises_but_named_errors(part: int, tmp_path: Path) -> None:
    """Whatever a file holds, under its own format, another one, or as a live stream."""
    signature = signature_of()
    for seed in range(part, COUNT, 4):
        rng = random.Random(seed)
        data, kind = seed_file(seed, rng)
        data = mutate(data, rng)
        told = rng.choice([kind, kind, *FORMATS])
        path = tmp_path / f"in.{told}"
        path.write_bytes(data)
        keep = rng.choice([(), ("t",)])
        into = tmp_path / f"out.{rng.choice(['csv', 'ndjson', 'npz'])}"
        try:
            with (
                open_source(str(path), signature, told, keep=keep) as source,
                open_sink(str(into), signature, kept=source.kept) as sink,
            ):
                for batch in source.batches():
                    sink.write({"x": np.zeros((len(batch), 2), np.float32)}, batch.kept)
        except EdgeLSTMError:
            pass
        for make in (CsvSource, NdjsonSource):
            try:
                drain(make(io.BytesIO(data), "-", signature, keep=keep, is_live=True))
            except EdgeLSTMError:
                continue
