"""Reads what a kernel takes: from a cubin (ELF and `.nv.info`) or PTX, by the standard library."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm.errors import ToolchainError

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL_BYTES = 24
# Attributes of .nv.info, as cuobjdump names them.
_FRAME_SIZE = 0x11
_PARAMETER = 0x17
_REGISTERS = 0x2F
_PTX_PARAMETER = re.compile(r"\.param\s+\.[a-z](\d+)\s")
_SIZED = 4  # format of an attribute whose payload follows


@dataclass(frozen=True, slots=True)
class Resources:
    """What one thread and one block of a kernel take.

    Args:
        registers: of a thread.
        frame_bytes: stack of a thread: 0 means that nothing was spilled.
        shared_bytes: static shared memory of a block.
        parameters: (offset, size) of each parameter, in order.
    """

    registers: int
    frame_bytes: int
    shared_bytes: int
    parameters: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    offset: int
    size: int


def read_cubin(code: bytes) -> dict[str, Resources]:
    """The resources of every kernel in a cubin, by name.

    Raises:
        ToolchainError: it is no cubin.
    """
    if code[:4] != b"\x7fELF" or code[4] != 2:
        raise ToolchainError("this is no 64-bit cubin")
    try:
        sections = {section.name: section for section in _sections(code)}
        names = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
        symbols = _symbols(code, sections)
        registers: dict[str, int] = {}
        frames: dict[str, int] = {}
        for attribute, payload in _attributes(code, sections[".nv.info"]):
            if attribute in (_REGISTERS, _FRAME_SIZE):
                symbol, value = struct.unpack("<II", payload)
                (registers if attribute == _REGISTERS else frames)[symbols[symbol]] = value
        return {
            name: Resources(
                registers[name],
                frames.get(name, 0),
                sections[f".nv.shared.{name}"].size if f".nv.shared.{name}" in sections else 0,
                _parameters(code, sections[f".nv.info.{name}"]),
            )
            for name in names
        }
    except (KeyError, struct.error, IndexError, ValueError) as error:
        raise ToolchainError(f"this cubin cannot be read: {error!r}") from error


def ptx_parameters(text: str, entry: str) -> tuple[int, ...]:
    """The sizes of the parameters of a kernel in PTX, in order.

    Raises:
        ToolchainError: it has no such kernel.
    """
    found = re.search(rf"\.entry\s+{re.escape(entry)}\s*\(([^)]*)\)", text)
    if found is None:
        raise ToolchainError(f"this PTX has no kernel {entry!r}")
    return tuple(int(bits) // 8 for bits in _PTX_PARAMETER.findall(found.group(1)))


def _sections(code: bytes) -> Iterator[_Section]:
    (start,) = struct.unpack_from("<Q", code, 40)
    size, count, strings = struct.unpack_from("<HHH", code, 58)
    headers = [_SECTION.unpack_from(code, start + index * size) for index in range(count)]
    for header in headers:
        yield _Section(_text(code, headers[strings][4] + header[0]), header[4], header[5])


def _symbols(code: bytes, sections: dict[str, _Section]) -> list[str]:
    table, strings = sections[".symtab"], sections[".strtab"]
    return [
        _text(code, strings.offset + struct.unpack_from("<I", code, at)[0])
        for at in range(table.offset, table.offset + table.size, _SYMBOL_BYTES)
    ]


def _attributes(code: bytes, section: _Section) -> Iterator[tuple[int, bytes]]:
    at, end = section.offset, section.offset + section.size
    while at < end:
        form, attribute, size = struct.unpack_from("<BBH", code, at)
        at += 4
        if form == _SIZED:
            yield attribute, code[at : at + size]
            at += size
        else:
            yield attribute, struct.pack("<H", size)


def _parameters(code: bytes, section: _Section) -> tuple[tuple[int, int], ...]:
    found = []
    for attribute, payload in _attributes(code, section):
        if attribute == _PARAMETER:
            _, ordinal, offset, packed = struct.unpack("<IHHI", payload)
            found.append((ordinal, offset, (packed >> 18) & 0x3FFF))
    return tuple((offset, size) for _, offset, size in sorted(found))


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode("ascii")
