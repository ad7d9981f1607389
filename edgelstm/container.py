"""The file format of `NAME.edgelstm`, written and read here and nowhere else.

```
offset 0   magic                8 bytes
       8   format version       u32
      12   CRC-32 of bytes 0-11 u32          these 16 bytes stay as they are in every version
      16   length of the file   u64
      24   length of the index  u64
      32   SHA-256 of bytes 16-31 and the index
      64   index                canonical JSON: {"manifest", "sections"}, see below
           sections, by name    each at a multiple of 64 bytes, `weights` of 4096, zeros between
```
A section is listed as `{"name", "offset", "bytes", "sha256"}`, its offset counted from the first
page boundary behind the index.
Integers are little-endian. Every byte is covered by a checksum or must be zero, nothing in the file
depends on when or where it was written, and the file can be mapped into memory and used in place.
What the manifest says is no business of this room.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

from edgelstm.errors import ArtifactError, ArtifactFormatError, ArtifactVersionError
from edgelstm.foreign_files import recognize_bytes
from edgelstm.outputs import Protected, write_output

MAGIC = b"\x89ELSTM\x1a\n"
FORMAT_VERSION = 2
SECTION_ALIGNMENT = 64
PAGE_ALIGNMENT = 4096
PAGE_ALIGNED_SECTIONS = frozenset({"weights"})

_PREAMBLE = struct.Struct("<8sII")
_LENGTHS = struct.Struct("<QQ")
_DIGEST_AT = _PREAMBLE.size + _LENGTHS.size
_INDEX_AT = _DIGEST_AT + hashlib.sha256().digest_size
_REMEDY = "copy it again from where it was made, or compile the model again"

LARGEST_FILE_BYTES = 1 << 32
"""No larger file is read as an artifact."""

_ARCHIVE, _HEAD_BYTES = b"PK\x03\x04", 1 << 16  # what it takes to say what another file is

Bytes = bytes | memoryview


def canonical_json(data: Any) -> bytes:
    """The one JSON text of `data`: sorted keys, no spaces, ASCII.

    Raises:
        TypeError: `data` holds something that JSON cannot.
        ValueError: `data` holds NaN or infinity.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a section stands in the file."""

    name: str
    offset: int
    size: int
    sha256: str

    @property
    def end(self) -> int:
        return self.offset + self.size


class Container:
    """A manifest and named sections of bytes: what a file holds, in memory or mapped.

    Args:
        manifest: a JSON object; it is normalised, so that tuples come back as lists.
        sections: bytes by name; views stay views.
    """

    __slots__ = ("_digest", "_manifest", "_sections")

    def __init__(self, manifest: Mapping[str, Any], sections: Mapping[str, Bytes]) -> None:
        self._manifest: dict[str, Any] = json.loads(canonical_json(dict(manifest)))
        self._sections = {name: memoryview(sections[name]).cast("B") for name in sorted(sections)}
        self._digest: str | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest; treat it as read-only."""
        return self._manifest

    @property
    def sections(self) -> Mapping[str, memoryview]:
        """The sections, by name in order."""
        return MappingProxyType(self._sections)

    @property
    def digest(self) -> str:
        """SHA-256 over everything the file holds, in hexadecimal: equal for equal content."""
        if self._digest is None:
            head, _ = self._lay_out()
            self._digest = head[_DIGEST_AT:_INDEX_AT].hex()
        return self._digest

    def section(self, name: str) -> memoryview:
        """The bytes of one section.

        Raises:
            ArtifactFormatError: there is no such section.
        """
        try:
            return self._sections[name]
        except KeyError:
            raise ArtifactFormatError(
                f"the artifact has no section {name!r} (it has: {', '.join(self._sections)}); "
                "compile the model again"
            ) from None

    def write(self, path: str | os.PathLike[str], protect: Iterable[Protected] = ()) -> int:
        """Write the file, whole or not at all; how many bytes it has.

        Args:
            path: where to; see `edgelstm/outputs.py`.
            protect: files that must not be written over.

        Raises:
            ArtifactError: the file cannot be written.
        """
        return write_output(path, self._pieces(), protect, ArtifactError)

    def to_bytes(self) -> bytes:
        """What `write` puts into the file."""
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[Bytes]:
        head, places = self._lay_out()
        yield head
        position = len(head)
        for place in places:
            yield bytes(place.offset - position)
            yield self._sections[place.name]
            position = place.end

    def _lay_out(self) -> tuple[bytes, list[_Place]]:
        """Header with index, and the places of the sections.

        The index holds the offsets and stands before what they point at, so they count from the
        end of the index, rounded up to a page.
        """
        places = []
        position = 0
        for name, data in self._sections.items():
            position = _round_up(position, _alignment_of(name))
            places.append(_Place(name, position, len(data), hashlib.sha256(data).hexdigest()))
            position += len(data)
        index = canonical_json(
            {
                "manifest": self._manifest,
                "sections": [
                    {"name": p.name, "offset": p.offset, "bytes": p.size, "sha256": p.sha256}
                    for p in places
                ],
            }
        )
        base = _sections_at(len(index))
        total = base + places[-1].end if places else _INDEX_AT + len(index)
        preamble = _PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0)[:12]
        preamble += struct.pack("<I", zlib.crc32(preamble))
        lengths = _LENGTHS.pack(total, len(index))
        head = preamble + lengths + hashlib.sha256(lengths + index).digest() + index
        return head, [_Place(p.name, base + p.offset, p.size, p.sha256) for p in places]

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Container:
        """Copy a file into memory and check every byte of the copy.

        Args:
            path: the file.
            mmap: map it instead, which takes no memory of its own. Nothing then protects what was
                checked: who writes into the file changes it under running sessions, and who
                shortens it ends the process.

        Raises:
            ArtifactError: the file cannot be opened.
            ArtifactFormatError: it is no artifact, or a damaged one.
            ArtifactVersionError: its format is newer than this runtime.
        """
        return cls.parse(_read_file(Path(path), is_mapped=mmap), origin=str(path))

    @classmethod
    def parse(cls, data: Bytes, origin: str = "artifact") -> Container:
        """Check and read what `to_bytes` made; sections are views of `data`.

        Raises:
            ArtifactFormatError: not an artifact, or a damaged one.
            ArtifactVersionError: a newer format.
        """
        return _Reader(memoryview(data), origin).read()


class _Reader:
    """Reads one file image; every complaint names the file, the place and the remedy."""

    def __init__(self, data: memoryview, origin: str) -> None:
        self._data = data
        self._origin = origin

    def read(self) -> Container:
        self._check_preamble()
        index, index_bytes = self._read_index()
        manifest = index.get("manifest")
        if not isinstance(manifest, dict):
            self._damaged("the index holds no manifest")
        places = self._read_places(index.get("sections"), _sections_at(index_bytes))
        position = _INDEX_AT + index_bytes
        sections = {}
        for place in places:
            self._check_zeros(position, place.offset)
            data = self._data[place.offset : place.end]
            if hashlib.sha256(data).hexdigest() != place.sha256:
                self._damaged(
                    f"section {place.name!r} (bytes {place.offset} to {place.end - 1}) "
                    "differs from its checksum"
                )
            sections[place.name] = data
            position = place.end
        if position != len(self._data):
            self._damaged(f"bytes {position} and beyond belong to no section")
        try:
            container = Container(manifest, sections)
        except (ValueError, RecursionError):
            self._damaged("its manifest holds NaN, infinity or too deep a nesting")
        container._digest = self._data[_DIGEST_AT:_INDEX_AT].hex()
        return container

    def _check_preamble(self) -> None:
        data = self._data
        if len(data) == 0:
            raise ArtifactFormatError(f"{self._origin} is empty: {_REMEDY}")
        if bytes(data[: len(MAGIC)]) != MAGIC[: len(data)]:
            head = data if data[:4] == _ARCHIVE else data[:_HEAD_BYTES]
            told = recognize_bytes(bytes(head), Path(self._origin))
            if told is not None:
                raise ArtifactFormatError(
                    f"{self._origin} is not an edgelstm artifact: {told}; an ONNX model is turned "
                    "into one by `edgelstm compile`"
                )
            raise ArtifactFormatError(
                f"{self._origin} is not an edgelstm artifact: it begins with "
                f"{bytes(data[: len(MAGIC)])!r} instead of {MAGIC!r}; "
                "an ONNX model is turned into one by `edgelstm compile`"
            )
        if len(data) < _PREAMBLE.size:
            self._damaged(f"it ends after {len(data)} bytes, within the header")
        _, version, checksum = _PREAMBLE.unpack_from(data)
        if zlib.crc32(data[:12]) != checksum:
            self._damaged("bytes 0 to 15 (the header) differ from their checksum")
        if version > FORMAT_VERSION:
            raise ArtifactVersionError(
                f"{self._origin} has format version {version}; this runtime reads up to "
                f"{FORMAT_VERSION}: upgrade edgelstm here, or compile with the older version"
            )
        if version < 1:
            self._damaged(f"format version {version} does not exist")

    def _read_index(self) -> tuple[dict[str, Any], int]:
        size = len(self._data)
        if size < _INDEX_AT:
            self._damaged(f"it ends after {size} bytes, within the header")
        total, index_bytes = _LENGTHS.unpack_from(self._data, _PREAMBLE.size)
        if index_bytes > size - _INDEX_AT:
            self._damaged(f"it has {size} bytes, less than its index needs")
        digest = hashlib.sha256(self._data[_PREAMBLE.size : _DIGEST_AT])
        index_data = self._data[_INDEX_AT : _INDEX_AT + index_bytes]
        digest.update(index_data)
        if digest.digest() != self._data[_DIGEST_AT:_INDEX_AT]:
            self._damaged(
                f"bytes 16 to {_INDEX_AT + index_bytes - 1} (the index) differ from their checksum"
            )
        if total != size:
            kind = "cut off" if size < total else "followed by something else"
            self._damaged(f"it has {size} bytes instead of {total}: it is {kind}")
        try:
            index = json.loads(bytes(index_data))
            # Half a surrogate pair can be written in JSON, and nowhere else.
            json.dumps(index, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            index = None
        if not isinstance(index, dict):
            self._damaged("its index is no JSON object")
        return index, index_bytes

    def _read_places(self, entries: Any, base: int) -> list[_Place]:
        places: list[_Place] = []
        try:
            for entry in entries:
                name, offset, size = entry["name"], entry["offset"], entry["bytes"]
                if type(name) is not str:
                    self._damaged(f"a section is called {name!r}")
                if type(offset) is not int or type(size) is not int:
                    self._damaged(f"section {name!r} has no whole-numbered place")
                place = _Place(name, base + offset, size, entry["sha256"])
                previous_end = places[-1].end if places else base
                if not previous_end <= place.offset <= place.end <= len(self._data):
                    self._damaged(f"section {place.name!r} lies outside of its place")
                if place.offset % _alignment_of(place.name):
                    self._damaged(f"section {place.name!r} is not aligned")
                places.append(place)
        except (TypeError, KeyError, AttributeError):
            self._damaged("its list of sections is malformed")
        if len({place.name for place in places}) != len(places):
            self._damaged("two sections have the same name")
        return places

    def _check_zeros(self, start: int, end: int) -> None:
        if bytes(self._data[start:end]).strip(b"\0"):
            self._damaged(f"bytes {start} to {end - 1} (between sections) are not zero")

    def _damaged(self, reason: str) -> NoReturn:
        raise ArtifactFormatError(f"{self._origin} is damaged: {reason}; {_REMEDY}")


def _read_file(path: Path, *, is_mapped: bool) -> memoryview:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactFormatError(f"{path} is not a regular file: name an artifact")
            if status.st_size == 0:
                return memoryview(b"")
            if status.st_size > LARGEST_FILE_BYTES:
                raise ArtifactFormatError(
                    f"{path} has {status.st_size} bytes; artifacts of up to {LARGEST_FILE_BYTES} "
                    "are read"
                )
            if is_mapped:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            is_ours = file.read(len(MAGIC)) == MAGIC[: status.st_size]
            file.seek(0)
            if not is_ours:  # not worth a copy: it is only looked at to say what it is
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return _copy(file, status.st_size)
    except IsADirectoryError as exc:
        raise ArtifactFormatError(f"{path} is a directory: name an artifact file in it") from exc
    except OSError as exc:
        raise ArtifactError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except MemoryError as exc:
        raise ArtifactError(
            f"cannot read {path}: this machine has no memory for its {status.st_size} bytes; "
            "load it with mmap=True (--mmap)"
        ) from exc


def _copy(file: BinaryIO, size: int) -> memoryview:
    """So many bytes of a file, or what there is of them, from a page boundary on; read-only."""
    room = memoryview(mmap.mmap(-1, size))
    filled = 0
    while filled < size:
        count = file.readinto(room[filled:])  # type: ignore[attr-defined]
        if not count:
            break  # it was cut while it was read: what is there is refused by its length
        filled += count
    return room[:filled].toreadonly()


def _sections_at(index_bytes: int) -> int:
    """Where sections begin: a page boundary, so that alignment in the file is that in memory."""
    return _round_up(_INDEX_AT + index_bytes, PAGE_ALIGNMENT)


def _alignment_of(name: str) -> int:
    return PAGE_ALIGNMENT if name in PAGE_ALIGNED_SECTIONS else SECTION_ALIGNMENT


def _round_up(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
