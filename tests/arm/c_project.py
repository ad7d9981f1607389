"""Building exported C projects: with the machine's own compiler, and for emulated boards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler.c_export.cpu import compiler_flags
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.pieces import ExportOptions
from edgelstm_compiler.c_export.project import export_project

BOARD = Path(__file__).parent / "board"
ORIGINS = {"mps2-an505": ("code_origin=0x10000000", "ram_origin=0x38000000")}
"""Where code and RAM of a board stand, if not where they stand on the others."""
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
PACKAGES = {
    "cc": "gcc",
    "c++": "g++",
    "cmake": "cmake",
    "valgrind": "valgrind",
    "ssh-keygen": "openssh-client",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
"""Debian's package of each tool."""


def tool(name: str) -> str:
    """Path of a tool; the test is skipped where it is not, with the package to install."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not here: apt-get install {PACKAGES[name]}")
    return path


def run(*command: str | Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    """Run a command; what it says is in the failure."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def export(
    artifact: Artifact, folder: Path, *, model=None, frames=None, steps: int = 8, **options
) -> Path:
    """The project with a self-test of a few steps; more options are those of `ExportOptions`."""
    golden = record_golden(artifact, frames, steps, model)
    export_project(artifact, folder, golden, ExportOptions(**options))
    return folder


def build(folder: Path, *flags: str, main: Path | None = None) -> Path:
    """Compile project and example (or another main) with the machine's own compiler."""
    program = folder / "program"
    sources = [*sorted(folder.glob("*.c")), main or folder / "example" / "main.c"]
    library = next(folder.glob("lib*_kernels.a"))
    run(tool("cc"), *STRICT, *flags, f"-I{folder}", *sources, library, "-o", program)
    return program


def run_on_board(folder: Path, isa: str, board: str) -> str:
    """Compile for a board, run it from reset in QEMU, and give what it prints."""
    compiler, emulator = tool("arm-none-eabi-gcc"), tool("qemu-system-arm")
    program = folder / "board.elf"
    run(
        compiler,
        *compiler_flags(isa).split(),
        *STRICT[:3],
        "-O2",
        f"-I{folder}",
        *sorted(folder.glob("*.c")),
        folder / "example" / "main.c",
        next(folder.glob("lib*_kernels.a")),
        BOARD / "startup.c",
        *(f"-Wl,--defsym={name}" for name in ORIGINS.get(board, ())),
        f"-T{BOARD / 'mps2.ld'}",
        "--specs=rdimon.specs",
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-o",
        program,
    )
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return run(emulator, "-M", board, "-nographic", *semihosting, "-kernel", program).stdout
