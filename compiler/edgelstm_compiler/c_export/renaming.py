"""Other names for what an object file defines.

In the C export of a window model `NAME_step` takes a frame of the stream; the compiled code has the
step of one window, which gets another name there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from edgelstm_compiler import elf

# Source: System V ABI, chapter 4, and the ELF-64 object file format.
_LINK = {False: 24, True: 40}
"""Where a section header has the number of its table of strings, by whether addresses are wide."""
_PLACE = {False: ("<II", 16), True: ("<QQ", 24)}
"""Offset and size of a section in its header."""
_SYMBOL_BYTES = {False: 16, True: 24}


def rename_symbols(code: bytes, names: Mapping[str, str]) -> bytes:
    """The object with other names for some of its symbols.

    The table of strings gets the new names behind the old ones and stands at the end of the file:
    nothing else moves.

    Args:
        code: a relocatable object.
        names: the new name by the old one; others stay.

    Raises:
        ValueError: not such an object, or it lacks one of the names.
    """
    is_wide = elf.is_wide(code)
    data = bytearray(code)
    sections = elf.sections(code)
    table = next((each for each in sections if each.kind == "SHT_SYMTAB"), None)
    if table is None:
        raise ValueError("the object has no table of symbols")
    (link,) = struct.unpack_from("<I", data, table.header + _LINK[is_wide])
    strings = sections[link]
    text = bytearray(data[strings.offset : strings.offset + strings.size])
    missing = set(names)
    for at in range(table.offset, table.offset + table.size, _SYMBOL_BYTES[is_wide]):
        (start,) = struct.unpack_from("<I", data, at)
        name = bytes(text[start : text.index(b"\0", start)]).decode()
        if name in names:
            struct.pack_into("<I", data, at, len(text))
            text += names[name].encode() + b"\0"
            missing.discard(name)
    if missing:
        raise ValueError(f"the object has no symbol {', '.join(sorted(missing))}")
    form, place = _PLACE[is_wide]
    struct.pack_into(form, data, strings.header + place, len(data), len(text))
    return bytes(data + text)
