"""Reading the symbols of ELF objects: proof that nothing is missing and nothing else is shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SYMTAB, _DYNSYM = 2, 11
_LOCAL = 0
_WRITABLE, _ALLOCATED, _EXECUTABLE = 1, 2, 4
_UNWINDING = 0x70000001  # ARM's tables of exceptions: `bare_object.py` has linkers leave them out
X86_64, ARM, AARCH64 = 62, 40, 183
"""`e_machine` of the processors that there are targets for."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of an object.

    Args:
        name: as in the symbol table.
        is_defined: it stands in this object.
        is_local: other objects cannot see it.
    """

    name: str
    is_defined: bool
    is_local: bool


def symbols(data: bytes, *, dynamic: bool) -> tuple[Symbol, ...]:
    """The named symbols of a 32- or 64-bit little-endian ELF object.

    Args:
        data: the object.
        dynamic: those that the loader sees, else all of the (perhaps stripped) full table.

    Raises:
        ValueError: not such an object.
    """
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ValueError("not a little-endian ELF object")
    sections = list(_sections(data, wide=data[4] == 2))
    found = []
    for kind, offset, size, link in sections:
        if kind != (_DYNSYM if dynamic else _SYMTAB):
            continue
        strings = sections[link][1]
        for name, info, section in _entries(data[offset : offset + size], wide=data[4] == 2):
            if name:
                end = data.index(b"\0", strings + name)
                text = data[strings + name : end].decode()
                found.append(Symbol(text, section != 0, info >> 4 == _LOCAL))
    return tuple(found)


def memory_of_code(data: bytes) -> dict[str, int]:
    """Bytes of an object's sections: code, constants, and variables (there are none)."""
    sizes = {"text_bytes": 0, "rodata_bytes": 0, "data_bytes": 0}
    for kind, flags, size in _allocated(data, wide=is_wide(data)):
        if kind == _UNWINDING or not flags & _ALLOCATED:
            continue
        if flags & _EXECUTABLE:
            sizes["text_bytes"] += size
        else:
            sizes["data_bytes" if flags & _WRITABLE else "rodata_bytes"] += size
    return sizes


def machine(data: bytes) -> int:
    """The processor, `e_machine`."""
    (number,) = struct.unpack_from("<H", data, 18)
    return int(number)


def is_wide(data: bytes) -> bool:
    """Whether addresses have 64 bits."""
    return data[4] == 2


def undefined(data: bytes, *, dynamic: bool = False) -> tuple[str, ...]:
    """Names that the object wants from elsewhere."""
    return tuple(s.name for s in symbols(data, dynamic=dynamic) if not s.is_defined)


def exports(data: bytes) -> tuple[str, ...]:
    """Names that a shared object shows, sorted."""
    return tuple(sorted(s.name for s in symbols(data, dynamic=True) if s.is_defined))


def _sections(data: bytes, *, wide: bool) -> Iterator[tuple[int, int, int, int]]:
    """Kind, offset, size and link of every section."""
    (start,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    size, count = struct.unpack_from("<HH", data, 58 if wide else 46)
    for index in range(count):
        at = start + index * size
        (kind,) = struct.unpack_from("<I", data, at + 4)
        if wide:
            offset, extent, link = struct.unpack_from("<QQI", data, at + 24)
        else:
            offset, extent, link = struct.unpack_from("<III", data, at + 16)
        yield kind, offset, extent, link


def _entries(table: bytes, *, wide: bool) -> Iterator[tuple[int, int, int]]:
    """Name, info and section of every symbol."""
    for entry in struct.iter_unpack("<IBBHQQ" if wide else "<IIIBBH", table):
        if wide:
            yield entry[0], entry[1], entry[3]
        else:
            yield entry[0], entry[3], entry[5]


def _allocated(data: bytes, *, wide: bool) -> Iterator[tuple[int, int, int]]:
    """Kind, flags and size of every section."""
    (start,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    size, count = struct.unpack_from("<HH", data, 58 if wide else 46)
    for index in range(count):
        at = start + index * size
        if wide:
            _, kind, flags, _, _, extent = struct.unpack_from("<IIQQQQ", data, at)
        else:
            _, kind, flags, _, _, extent = struct.unpack_from("<IIIIII", data, at)
        yield kind, flags, extent
