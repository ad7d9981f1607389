"""The file format: written whole, read with every byte checked."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgelstm.container import FORMAT_VERSION, MAGIC, Container
from edgelstm.errors import ArtifactError, ArtifactFormatError, ArtifactVersionError
from edgelstm.memory import is_aligned, view_aligned

CONTAINER = Container(
    {"name": "net", "list": (1, 2), "nested": {"b": 1.5, "a": None}},
    {"weights": bytes(range(256)) * 5, "code/x": b"\x7fELF" + b"c" * 100, "empty": b""},
)
IMAGE = CONTAINER.to_bytes()


def write_image(index: dict[str, object], body: bytes = b"", version: int = 1) -> bytes:
    """A file with right checksums and any index."""
    text = json.dumps(index).encode()
    preamble = MAGIC + struct.pack("<I", version)
    preamble += struct.pack("<I", zlib.crc32(preamble))
    at = -(-(64 + len(text)) // 4096) * 4096
    total = at + len(body) if body else 64 + len(text)
    lengths = struct.pack("<QQ", total, len(text))
    image = preamble + lengths + hashlib.sha256(lengths + text).digest() + text
    return image + bytes(at - len(image)) + body if body else image


def test_reads_what_was_written(tmp_path: Path) -> None:
    """A file gives back manifest and sections."""
    CONTAINER.write(tmp_path / "net.edgelstm")
    read = Container.read(tmp_path / "net.edgelstm")
    assert read.manifest == {"name": "net", "list": [1, 2], "nested": {"a": None, "b": 1.5}}
    assert {name: bytes(data) for name, data in read.sections.items()} == {
        name: bytes(data) for name, data in CONTAINER.sections.items()
    }
    assert read.digest == CONTAINER.digest
    assert (tmp_path / "net.edgelstm").read_bytes() == IMAGE


def test_equal_content_gives_equal_bytes() -> None:
    """Neither the order of keys nor that of sections, nor the time, changes the file."""
    again = Container(
        {"nested": {"a": None, "b": 1.5}, "list": [1, 2], "name": "net"},
        dict(reversed(list(CONTAINER.sections.items()))),
    )
    assert again.to_bytes() == IMAGE
    assert again.digest == CONTAINER.digest


def test_weights_can_be_used_in_place(tmp_path: Path) -> None:
    """The weights of a mapped file are page-aligned and not copied."""
    CONTAINER.write(tmp_path / "net.edgelstm")
    weights = Container.read(tmp_path / "net.edgelstm").section("weights")
    array = np.frombuffer(weights, np.uint8)
    assert array.ctypes.data % 4096 == 0
    assert view_aligned(weights).ctypes.data == array.ctypes.data
    assert all(
        is_aligned(np.frombuffer(data, np.uint8))
        for data in Container.read(tmp_path / "net.edgelstm").sections.values()
        if len(data)
    )


def test_write_replaces_atomically_and_leaves_no_trace(tmp_path: Path) -> None:
    """A failed write keeps the old file; a good one replaces it; no temporary file stays."""
    path = tmp_path / "net.edgelstm"
    path.write_bytes(b"old")
    broken = Container({}, {"a": b"1"})
    broken._sections["a"] = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        broken.write(path)
    assert path.read_bytes() == b"old"
    CONTAINER.write(path)
    assert path.read_bytes() == IMAGE
    assert os.listdir(tmp_path) == ["net.edgelstm"]


def test_write_fails_with_an_artifact_error(tmp_path: Path) -> None:
    """A missing folder or a directory is named."""
    with pytest.raises(ArtifactError, match="cannot write"):
        CONTAINER.write(tmp_path / "missing" / "net.edgelstm")
    with pytest.raises(ArtifactError, match="is a directory"):
        CONTAINER.write(tmp_path)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(IMAGE) * 8 - 1))
@example(0)
@example(8 * 8)
@example(16 * 8 + 3)
@example(24 * 8)
@example(32 * 8)
@example(64 * 8)
@example(len(IMAGE) * 8 - 1)
def test_any_flipped_bit_is_found(bit: int) -> None:
    """Header, index, padding and every section are covered."""
    image = bytearray(IMAGE)
    image[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ArtifactFormatError):
        Container.parse(bytes(image))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(IMAGE) - 1))
@example(0)
@example(7)
@example(15)
@example(63)
@example(64)
@example(4096)
@example(len(IMAGE) - 1)
def test_any_truncation_is_found(size: int) -> None:
    """A file cut off anywhere is refused."""
    with pytest.raises(ArtifactFormatError):
        Container.parse(IMAGE[:size])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    """Random bytes, also behind the right magic, are an error and not a crash."""
    for image in (data, MAGIC + data, IMAGE[:64] + data):
        with pytest.raises(ArtifactFormatError):
            Container.parse(image)


def test_appended_bytes_are_found() -> None:
    """Nothing may follow the last section."""
    with pytest.raises(ArtifactFormatError, match="followed by something else"):
        Container.parse(IMAGE + b"\0")


def test_newer_format_asks_for_an_upgrade() -> None:
    """The version is readable in every version, and says what to do."""
    image = write_image({"anything": "else"}, version=FORMAT_VERSION + 1)
    with pytest.raises(ArtifactVersionError, match=r"format version 3.*upgrade edgelstm"):
        Container.parse(image, origin="new.edgelstm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 something else", "is not an edgelstm artifact.*edgelstm compile"),
        (b"\x89EL", "ends after 3 bytes"),
        (MAGIC, "ends after 8 bytes"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    """The message says which file it is, and what to do."""
    path = tmp_path / "other.edgelstm"
    path.write_bytes(content)
    with pytest.raises(ArtifactFormatError, match=rf"other\.edgelstm .*{message}"):
        Container.read(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    """A missing file, a directory and a pipe give an ArtifactError each."""
    with pytest.raises(ArtifactError, match="No such file"):
        Container.read(tmp_path / "missing.edgelstm")
    with pytest.raises(ArtifactFormatError, match="is a directory"):
        Container.read(tmp_path)
    with pytest.raises(ArtifactFormatError, match="not a regular file"):
        Container.read(os.devnull)


SECTION = {"name": "a", "offset": 0, "bytes": 4, "sha256": hashlib.sha256(b"abcd").hexdigest()}


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"manifest": 5, "sections": []},
        {"manifest": {}},
        {"manifest": {}, "sections": 5},
        {"manifest": {}, "sections": [5]},
        {"manifest": {}, "sections": [{"name": "a"}]},
        {"manifest": {}, "sections": [{**SECTION, "offset": -64}]},
        {"manifest": {}, "sections": [{**SECTION, "offset": 1.0}]},
        {"manifest": {}, "sections": [{**SECTION, "offset": 1}]},
        {"manifest": {}, "sections": [{**SECTION, "bytes": 10**18}]},
        {"manifest": {}, "sections": [{**SECTION, "bytes": -1}]},
        {"manifest": {}, "sections": [{**SECTION, "bytes": 3}]},
        {"manifest": {}, "sections": [SECTION, SECTION]},
        {"manifest": {}, "sections": []},
    ],
)
def test_an_index_of_nonsense_is_refused(index: dict[str, object]) -> None:
    """Right checksums do not make a wrong index safe."""
    good = write_image({"manifest": {}, "sections": [SECTION]}, b"abcd")
    assert bytes(Container.parse(good).section("a")) == b"abcd"
    with pytest.raises(ArtifactFormatError, match="damaged"):
        Container.parse(write_image(index, b"abcd"))  # type: ignore[arg-type]


def test_a_deeply_nested_index_is_refused() -> None:
    """JSON that exhausts the parser's stack is an error like any other."""
    depth = 200_000
    text = b"[" * depth + b"]" * depth
    preamble = MAGIC + struct.pack("<I", 1)
    lengths = struct.pack("<QQ", 64 + len(text), len(text))
    image = preamble + struct.pack("<I", zlib.crc32(preamble)) + lengths
    with pytest.raises(ArtifactFormatError):
        Container.parse(image + hashlib.sha256(lengths + text).digest() + text)


def test_missing_section_is_named() -> None:
    """Asking for a section that is not there says which there are."""
    with pytest.raises(ArtifactFormatError, match=r"no section 'program'.*weights"):
        CONTAINER.section("program")


def test_manifest_refuses_nan() -> None:
    """NaN has no JSON, and would not compare equal."""
    with pytest.raises(ValueError, match="JSON"):
        Container({"a": float("nan")}, {})
