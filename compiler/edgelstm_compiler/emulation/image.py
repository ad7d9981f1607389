"""A linked ELF object as memory: what stands where, and where its functions begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgelstm.errors import ArtifactFormatError
from edgelstm_compiler import elf

_LARGEST = 1 << 28
_RELOCATIONS = ("SHT_REL", "SHT_RELA")


@dataclass(frozen=True, slots=True)
class Image:
    """What a loader makes of a shared object without relocations.

    Args:
        machine: the processor, as `elf.machine` names it.
        segments: address and bytes.
        symbols: address of each function; odd for Thumb.
    """

    machine: str
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
        loaded = elf.segments(data)
        relocated = any(s.kind in _RELOCATIONS and s.size for s in elf.sections(data))
        symbols = {s.name: s.value for s in elf.symbols(data, dynamic=True) if s.is_defined}
        machine = elf.machine(data)
    except ValueError as exc:
        raise ArtifactFormatError(f"a code section is damaged: {exc}") from exc
    if relocated:
        raise ArtifactFormatError("the code wants to be relocated; compile it again")
    if not loaded:
        raise ArtifactFormatError("a code section holds nothing to load")
    if any(each.address + each.memory > _LARGEST for each in loaded):
        raise ArtifactFormatError("a code section claims more memory than code has")
    segments = tuple((each.address, each.data.ljust(each.memory, b"\0")) for each in loaded)
    return Image(machine, segments, symbols)
