"""What stands in linked programs, as binutils see it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.arm.c_project import run, tool

_INPUT = re.compile(r"^ (\.[\w.]+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S+)$", re.M)
_WRAPPED = re.compile(r"^ (\.[\w.]+)\n\s+", re.M)


def symbol_sizes(program: Path) -> dict[str, int]:
    """Bytes of every symbol that has a size, local ones included."""
    lines = run(tool("arm-none-eabi-nm"), "-S", program).stdout.splitlines()
    fields = [line.split() for line in lines]
    return {f[3]: int(f[1], 16) for f in fields if len(f) == 4}


def section_sizes(program: Path) -> dict[str, int]:
    """Bytes of every section."""
    lines = run(tool("arm-none-eabi-size"), "-A", program).stdout.splitlines()
    fields = [line.split() for line in lines]
    return {f[0]: int(f[1]) for f in fields if len(f) == 3 and f[1].isdigit()}


def linked_parts(listing: str) -> dict[str, dict[str, int]]:
    """Bytes that each object gave to the program, by object and section, from a linker's map.

    Sections that were thrown away are listed at address 0, before the memory map.
    """
    _, _, kept = listing.partition("Linker script and memory map")
    parts: dict[str, dict[str, int]] = {}
    for section, _, size, file in _INPUT.findall(_WRAPPED.sub(r" \1 ", kept)):
        name = re.sub(r".*/|.*\(|\)$", "", file)
        sections = parts.setdefault(name, {})
        sections[section] = sections.get(section, 0) + int(size, 16)
    return parts
