"""Reading ELF objects: as binutils read them, and files made to break a parser."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgelstm.container import Container
from edgelstm_compiler import elf

STORED = Path(__file__).parents[1] / "stored" / "0.1.0"
READERS = (
    elf.sections,
    elf.segments,
    elf.machine,
    elf.is_wide,
    lambda data: elf.symbols(data, dynamic=True),
    lambda data: elf.symbols(data, dynamic=False),
)


def code(name: str) -> bytes:
    """A section of code of an artifact that is kept."""
    target = {"code/x86-64-v3": "host", "code/cortex-m4": "cortex-m4"}[name]
    packed = (STORED / f"stream_{target}_fp32.edgelstm.xz").read_bytes()
    return bytes(Container.parse(lzma.decompress(packed)).section(name))


@pytest.mark.parametrize(
    ("name", "machine", "is_wide"),
    [("code/x86-64-v3", elf.X86_64, True), ("code/cortex-m4", elf.ARM, False)],
)
def test_code_of_both_widths(name: str, machine: str, is_wide: bool) -> None:
    """Processor, functions and memory of what a linker made."""
    data = code(name)
    assert elf.machine(data) == machine
    assert elf.is_wide(data) == is_wide
    assert {shown.rpartition("_")[2] for shown in elf.exports(data)} >= {"step", "run"}
    assert not elf.undefined(data, dynamic=True)
    steps = [s for s in elf.symbols(data, dynamic=True) if s.name.endswith("_step")]
    assert [s.value % 2 for s in steps] == [int(name == "code/cortex-m4")], "Thumb is odd"
    end = max(each.address + each.memory for each in elf.segments(data))
    assert steps[0].value < end


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_sizes_are_those_of_the_sections(tmp_path: Path) -> None:
    """Code, constants and variables, and what is wanted from elsewhere."""
    source, made = tmp_path / "a.c", tmp_path / "a.o"
    source.write_text(
        "const int table[25] = {1}; int counter = 3; int zeroed[7]; int other(void);\n"
        "static int own(void) { return counter; }\n"
        "int shown(void) { return own() + other() + table[0] + zeroed[1]; }\n"
    )
    flags = ("-O0", "-fno-asynchronous-unwind-tables", "-fcf-protection=none")
    subprocess.run(["cc", *flags, "-c", str(source), "-o", str(made)], check=True)
    data = made.read_bytes()
    sizes = elf.memory_of_code(data)
    assert sizes["rodata_bytes"] == 100
    assert sizes["data_bytes"] == 4 + 28
    assert sizes["text_bytes"] > 10
    assert [name for name in elf.undefined(data) if not name.startswith("_")] == ["other"]
    found = {s.name: s.is_local for s in elf.symbols(data, dynamic=False)}
    assert (found["own"], found["shown"]) == (True, False)


@pytest.mark.parametrize("name", ["code/x86-64-v3", "code/cortex-m4"])
def test_damage_is_one_kind_of_error(name: str) -> None:
    """Cut anywhere, or with bytes of its tables changed: an answer or a ValueError."""
    data = code(name)
    rng = np.random.default_rng(3)
    refused = 0
    heads = np.array([*range(64), *range(len(data) - 800, len(data))])
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.choice(heads, 3):
            broken[at] = int(rng.integers(256))
        cut = bytes(broken[: int(rng.integers(1, len(broken)))])
        for read in READERS:
            for damaged in (bytes(broken), cut):
                try:
                    read(damaged)
                except ValueError:
                    refused += 1
    assert refused > 60


def test_other_files_are_refused() -> None:
    """No ELF, and an ELF of the other byte order."""
    with pytest.raises(ValueError, match="not a little-endian ELF object"):
        elf.machine(b"MZ" + bytes(100))
    swapped = bytearray(code("code/cortex-m4"))
    swapped[5] = 2
    with pytest.raises(ValueError, match="not a little-endian ELF object"):
        elf.machine(bytes(swapped))
