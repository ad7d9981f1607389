"""Object files for microcontrollers as other people's linkers want them.

LLVM writes tables for unwinding exceptions that C never unwinds, and marks the object as one that
passes floats in floating-point registers, which linkers refuse to put beside code that does not.
Our functions pass pointers and integers only: they fit any convention.
"""

from __future__ import annotations

import struct

from edgelstm_compiler import elf

_REL, _ATTRIBUTES = "SHT_REL", "SHT_ARM_ATTRIBUTES"
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
    found = elf.sections(code)
    tables = {each.index for each in found if each.kind == elf.UNWINDING}
    for each in found:
        if each.index in tables or (each.kind == _REL and each.info in tables):
            # Linkers leave excluded sections out; removing them would renumber all others.
            struct.pack_into("<II", data, each.header + 4, _PROGBITS, _EXCLUDE)
            struct.pack_into("<II", data, each.header + 24, 0, 0)
        elif each.kind == _ATTRIBUTES:
            _allow_any_convention(data, each.offset, each.offset + each.size)
    return bytes(data)


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
