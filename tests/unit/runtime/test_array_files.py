"""NPY and NPZ files: only what is asked for is unpacked, and only within limits."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import RecordingError
from edgelstm.io.files import open_source
from edgelstm.io.numpy_arrays import ArraySource, read_arrays
from tests.unit.runtime.tables import read_all, signature_of


def npy(header: str, data: bytes = b"") -> bytes:
    """An NPY file with this header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def test_members_that_nobody_asked_for_stay_packed(tmp_path: Path) -> None:
    """An archive of much more than memory is read for its small array."""
    path = tmp_path / "in.npz"
    zeros = np.zeros(1 << 22)
    np.savez_compressed(path, x=np.ones((3, 2), np.float32), junk=zeros, more=zeros)
    tracemalloc.start()
    with open_source(str(path), signature_of()) as source:
        assert read_all(source) == [[1, 1]] * 3
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < zeros.nbytes // 8


def test_an_array_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its announced size, before it is unpacked; the message says what works."""
    path = tmp_path / "in.npz"
    np.savez_compressed(path, x=np.zeros((100_000, 2), np.float32))
    monkeypatch.setattr("edgelstm.io.numpy_arrays.MAX_ARRAY_BYTES", 100_000)
    with (
        pytest.raises(RecordingError, match=r"'x' unpacks to 800128 bytes.*limit.*NPY"),
        open_source(str(path), signature_of()),
    ):
        pass


def test_a_header_that_announces_more_than_there_is(tmp_path: Path) -> None:
    """Nothing is allocated for it."""
    path = tmp_path / "in.npz"
    member = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 2), }", bytes(16))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with (
        pytest.raises(RecordingError, match="announces 80000000000 bytes"),
        open_source(str(path), signature_of()),
    ):
        pass


@pytest.mark.parametrize(
    "data",
    [
        npy("(" * 60 + "{'descr'"),
        npy("{'descr': " + "[" * 90),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 50 + "1, 2), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2), }", b"\x80\x04N."),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2), }", bytes(8)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"),
        b"\x93NUMPY\x03\x00" + struct.pack("<I", 1 << 31),
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"[" * 60000,
        b"\x93NUMPY\x09\x00",
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_hostile_files(data: bytes, tmp_path: Path) -> None:
    """One clear error each, from a file and from standard input's bytes."""
    path = tmp_path / "in.npy"
    path.write_bytes(data)
    with pytest.raises(RecordingError), open_source(str(path), signature_of()) as source:
        read_all(source)
    with pytest.raises(RecordingError):
        read_all(ArraySource(read_arrays(data, "-"), "-", signature_of()))


def test_an_archive_without_arrays(tmp_path: Path) -> None:
    """It is said that there are none."""
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w") as archive:
        archive.writestr("readme.txt", "hello")
    path = tmp_path / "in.npz"
    path.write_bytes(room.getvalue())
    with pytest.raises(RecordingError, match="no arrays"), open_source(str(path), signature_of()):
        pass
