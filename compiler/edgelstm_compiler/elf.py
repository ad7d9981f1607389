"""Reading ELF objects: the only place that knows pyelftools.

Targets prove by it that nothing is missing in their code and nothing else is shown; the emulator
loads what it reads. Files may be hostile: a parser that breaks on one gives a ValueError.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_ALLOCATED, _WRITABLE, _EXECUTABLE = 2, 1, 4
_UNDEFINED = "SHN_UNDEF"
UNWINDING = "SHT_ARM_EXIDX"
"""Kind of ARM's tables of exceptions."""

X86_64, ARM, AARCH64 = "x86_64", "arm", "aarch64"
"""The processors that there are targets for, as `edgelstm.engines.cpu_features` names them."""

_MACHINES = {"EM_X86_64": X86_64, "EM_ARM": ARM, "EM_AARCH64": AARCH64}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of an object.

    Args:
        name: as in the symbol table.
        value: its address; odd for functions in Thumb code.
        is_defined: it stands in this object.
        is_local: other objects cannot see it.
    """

    name: str
    value: int
    is_defined: bool
    is_local: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an object.

    Args:
        index: its number.
        header: where its header stands in the file.
        kind: ELF's name of its type, "SHT_PROGBITS".
        flags: SHF_WRITE and the like.
        offset: where it stands in the file.
        size: its bytes.
        info: what that means depends on the kind.
    """

    index: int
    header: int
    kind: str
    flags: int
    offset: int
    size: int
    info: int


@dataclass(frozen=True, slots=True)
class Segment:
    """What a loader takes into memory.

    Args:
        address: from which on.
        data: what stands in the file.
        memory: bytes in memory, as many or more.
    """

    address: int
    data: bytes
    memory: int


def symbols(data: bytes, *, dynamic: bool) -> tuple[Symbol, ...]:
    """The named symbols of a 32- or 64-bit little-endian ELF object.

    Args:
        data: the object.
        dynamic: those that the loader sees, else all of the (perhaps stripped) full table.

    Raises:
        ValueError: not such an object.
    """
    kind = "SHT_DYNSYM" if dynamic else "SHT_SYMTAB"
    with _opened(data) as file:
        return tuple(
            Symbol(
                each.name,
                each["st_value"],
                each["st_shndx"] != _UNDEFINED,
                each["st_info"]["bind"] == "STB_LOCAL",
            )
            for table in file.iter_sections(kind)
            for each in table.iter_symbols()
            if each.name
        )


def sections(data: bytes) -> tuple[Section, ...]:
    """All sections.

    Raises:
        ValueError: not such an object.
    """
    with _opened(data) as file:
        start, size = file["e_shoff"], file["e_shentsize"]
        return tuple(
            Section(
                index,
                start + index * size,
                str(each["sh_type"]),
                each["sh_flags"],
                each["sh_offset"],
                each["sh_size"],
                each["sh_info"],
            )
            for index, each in enumerate(file.iter_sections())
        )


def segments(data: bytes) -> tuple[Segment, ...]:
    """What is loaded.

    Raises:
        ValueError: not such an object.
    """
    with _opened(data) as file:
        return tuple(
            Segment(each["p_vaddr"], each.data(), each["p_memsz"])
            for each in file.iter_segments("PT_LOAD")
            if each["p_memsz"]
        )


def memory_of_code(data: bytes) -> dict[str, int]:
    """Bytes of an object's sections: code, constants, and variables (there are none)."""
    sizes = {"text_bytes": 0, "rodata_bytes": 0, "data_bytes": 0}
    for each in sections(data):
        # Linkers are told to leave tables of exceptions out: `tvm_cpu/bare_object.py`.
        if each.kind == UNWINDING or not each.flags & _ALLOCATED:
            continue
        if each.flags & _EXECUTABLE:
            sizes["text_bytes"] += each.size
        else:
            sizes["data_bytes" if each.flags & _WRITABLE else "rodata_bytes"] += each.size
    return sizes


def machine(data: bytes) -> str:
    """The processor, such as `ARM`; another one by ELF's name or number.

    Raises:
        ValueError: not such an object.
    """
    with _opened(data) as file:
        found = str(file["e_machine"])
        return _MACHINES.get(found, f"ELF machine {found}")


def is_wide(data: bytes) -> bool:
    """Whether addresses have 64 bits."""
    with _opened(data) as file:
        return bool(file.elfclass == 64)


def undefined(data: bytes, *, dynamic: bool = False) -> tuple[str, ...]:
    """Names that the object wants from elsewhere."""
    return tuple(s.name for s in symbols(data, dynamic=dynamic) if not s.is_defined)


def exports(data: bytes) -> tuple[str, ...]:
    """Names that a shared object shows, sorted."""
    return tuple(sorted(s.name for s in symbols(data, dynamic=True) if s.is_defined))


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    from elftools.elf.elffile import ELFFile

    if data[5:6] == b"\x02":
        raise ValueError("not a little-endian ELF object: its bytes stand the other way round")
    try:
        yield ELFFile(io.BytesIO(data))
    except Exception as exc:  # a parser may fail in any way on what is damaged on purpose
        raise ValueError(f"not a little-endian ELF object: {exc or type(exc).__name__}") from exc
