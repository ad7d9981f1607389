"""A linked ELF object as memory: what stands where, and where its functions begin."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgelstm.errors import ArtifactFormatError

ARM, X86_64, AARCH64 = 40, 62, 183
_LOAD = 1
_LARGEST = 1 << 28
_DYNSYM, _RELA, _REL = 11, 4, 9


@dataclass(frozen=True, slots=True)
class Image:
    """What a loader makes of a shared object without relocations.

    Args:
        machine: `e_machine`.
        segments: address and bytes.
        symbols: address of each function; odd for Thumb.
    """

    machine: int
    segments: tuple[tuple[int, bytes], ...]
    symbols: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes from address 0 to the end of the last segment."""
        return max(address + len(data) for address, data in self.segments)


def read_image(code: bytes | memoryview) -> Image:
    """Read a little-endian shared object.

    Raises:
        ArtifactFormatError: not one, or one that wants to be relocated.
    """
    data = bytes(code)
    try:
        if data[:4] != b"\x7fELF" or data[5] != 1:
            raise ArtifactFormatError("a code section is no little-endian ELF object")
        wide = data[4] == 2
        (machine,) = struct.unpack_from("<H", data, 18)
        segments = tuple(_segments(data, wide))
        symbols: dict[str, int] = {}
        sections = list(_sections(data, wide))
        for kind, offset, size, link in sections:
            if kind in (_RELA, _REL) and size:
                raise ArtifactFormatError("the code wants to be relocated; compile it again")
            if kind == _DYNSYM:
                table = data[offset : offset + size]
                symbols.update(_symbols(table, data, sections[link][1], wide))
    except (struct.error, IndexError, ValueError) as exc:
        raise ArtifactFormatError(f"a code section is damaged: {exc}") from exc
    if not segments:
        raise ArtifactFormatError("a code section holds nothing to load")
    return Image(machine, segments, symbols)


def _segments(data: bytes, wide: bool) -> Iterator[tuple[int, bytes]]:
    start = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)[0]
    size, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    for index in range(count):
        at = start + index * size
        if wide:
            kind, _, offset, address, _, filled, memory = struct.unpack_from("<IIQQQQQ", data, at)
        else:
            kind, offset, address, _, filled, memory = struct.unpack_from("<IIIIII", data, at)
        if kind == _LOAD and memory:
            if address + memory > _LARGEST:
                raise ArtifactFormatError("a code section claims more memory than code has")
            yield address, data[offset : offset + filled].ljust(memory, b"\0")


def _sections(data: bytes, wide: bool) -> Iterator[tuple[int, int, int, int]]:
    """Kind, offset, size and link of every section."""
    start = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)[0]
    size, count = struct.unpack_from("<HH", data, 58 if wide else 46)
    for index in range(count):
        at = start + index * size
        kind = struct.unpack_from("<I", data, at + 4)[0]
        place = struct.unpack_from("<QQI" if wide else "<III", data, at + (24 if wide else 16))
        yield kind, *place


def _symbols(table: bytes, data: bytes, strings: int, wide: bool) -> Iterator[tuple[str, int]]:
    for entry in struct.iter_unpack("<IBBHQQ" if wide else "<IIIBBH", table):
        name, section, value = (
            (entry[0], entry[3], entry[4]) if wide else (entry[0], entry[5], entry[1])
        )
        if name and section:
            end = data.index(b"\0", strings + name)
            yield data[strings + name : end].decode(), value
