"""Object files for microcontrollers as other people's linkers want them.

LLVM writes tables for unwinding exceptions that C never unwinds, and marks the object as one that
passes floats in floating-point registers, which linkers refuse to put beside code that does not.
Our functions pass pointers and whole numbers only: they fit any convention.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from edgelstm_targets.tvm_cpu import elf

_EXIDX, _REL, _ATTRIBUTES = 0x70000001, 9, 0x70000003
_PROGBITS, _EXCLUDE = 1, 0x80000000
# Source: Addenda to the ABI for the Arm architecture: tags, and which of them hold text.
_VFP_ARGS, _ANY_CONVENTION, _FIRST_MIXED = 28, 3, 32
_TEXT_TAGS, _BOTH = (4, 5), 32


def for_any_linker(code: bytes) -> bytes:
    """The object without its tables for exceptions, and fit for every floating-point convention.

    Args:
        code: a relocatable object; other machines than 32-bit ARM come back as they are.
    """
    if elf.machine(code) != elf.ARM:
        return code
    data = bytearray(code)
    tables = {i for i, head in _heads(data) if _field(data, head, 1) == _EXIDX}
    for index, head in _heads(data):
        kind, link = _field(data, head, 1), _field(data, head, 7)
        if index in tables or (kind == _REL and link in tables):
            # Linkers leave excluded sections out; removing them would renumber all others.
            struct.pack_into("<II", data, head + 4, _PROGBITS, _EXCLUDE)
            struct.pack_into("<II", data, head + 24, 0, 0)
        elif kind == _ATTRIBUTES:
            at = _field(data, head, 4)
            _allow_any_convention(data, at, at + _field(data, head, 5))
    return bytes(data)


def _heads(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Number and place of every section header."""
    (start,) = struct.unpack_from("<I", data, 32)
    size, count = struct.unpack_from("<HH", data, 46)
    for index in range(count):
        yield index, start + index * size


def _field(data: bytes | bytearray, head: int, number: int) -> int:
    """A word of a section header: 1 type, 4 offset, 5 size, 7 info."""
    (value,) = struct.unpack_from("<I", data, head + 4 * number)
    return int(value)


def _allow_any_convention(data: bytearray, start: int, stop: int) -> None:
    """Set Tag_ABI_VFP_args of the attributes of the file; there is one vendor, "aeabi"."""
    vendor = data.index(b"\0", start + 5, stop) + 1
    at = vendor + 5  # a tag (of the file), and the size
    while at < stop:
        tag, at = _number(data, at)
        if tag == _VFP_ARGS:
            data[at] = _ANY_CONVENTION
        if tag == _BOTH:
            _, at = _number(data, at)
        if tag in (*_TEXT_TAGS, _BOTH) or (tag > _FIRST_MIXED and tag % 2 == 1):
            at = data.index(b"\0", at, stop) + 1
        else:
            _, at = _number(data, at)


def _number(data: bytearray, at: int) -> tuple[int, int]:
    """A number in LEB128, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
