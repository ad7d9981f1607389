"""Building exported C projects: with the machine's own compiler, and for emulated boards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.pieces import ExportOptions
from edgelstm_compiler.c_export.project import export_project
from edgelstm_targets.processors.table import PROCESSORS

BOARD = Path(__file__).parent / "board"
PLACES = {
    "mps2-an505": ("code_origin=0x10000000", "ram_origin=0x38000000"),
    "microbit": ("code_size=256K", "ram_size=16K"),
}
"""Where code and RAM of a board stand and how large they are, if not as on the others."""
USER_MODE = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "arm": ("arm-linux-gnueabihf-gcc", "qemu-arm"),
}
"""Cross compiler and emulator of Linux programs, by machine."""
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
PACKAGES = {
    "cc": "gcc",
    "c++": "g++",
    "cmake": "cmake",
    "valgrind": "valgrind",
    "ssh-keygen": "openssh-client",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-g++": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-nm": "binutils-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "arm-none-eabi-objdump": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-aarch64": "qemu-user",
    "qemu-arm": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
}
"""Debian's package of each tool."""


MICROCONTROLLERS = tuple(name for name, each in PROCESSORS.items() if each.toolchain is not None)


def gcc_flags(target: str) -> tuple[str, ...]:
    """What arm-none-eabi-gcc has to be told for a target."""
    toolchain = PROCESSORS[target].toolchain
    assert toolchain is not None
    return tuple(toolchain.gcc.split())


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


def link_for_board(folder: Path, isa: str, board: str, main: Path | None = None, *flags) -> Path:
    """Compile for a board: the project with its example, or another main; from the reset vector."""
    program = folder / "board.elf"
    run(
        tool("arm-none-eabi-gcc"),
        *gcc_flags(isa),
        *STRICT[:3],
        "-O2",
        "-ffunction-sections",
        "-fdata-sections",
        f"-I{folder}",
        *sorted(folder.glob("*.[cS]")),
        main or folder / "example" / "main.c",
        next(folder.glob("lib*_kernels.a")),
        BOARD / "startup.c",
        *(f"-Wl,--defsym={name}" for name in PLACES.get(board, ())),
        f"-T{BOARD / 'mps2.ld'}",
        "--specs=nano.specs",
        "--specs=rdimon.specs",
        "-nostartfiles",
        "-Wl,--gc-sections",
        *flags,
        "-o",
        program,
    )
    return program


def run_board(program: Path, board: str) -> str:
    """Run a program on an emulated board and give what it prints."""
    semihosting = ("-semihosting-config", "enable=on,target=native")
    emulator = tool("qemu-system-arm")
    return run(emulator, "-M", board, "-nographic", *semihosting, "-kernel", program).stdout


def run_on_board(folder: Path, isa: str, board: str, main: Path | None = None) -> str:
    """Compile for a board, run it from reset in QEMU, and give what it prints."""
    tool("qemu-system-arm")
    return run_board(link_for_board(folder, isa, board, main), board)


def run_in_user_mode(folder: Path, machine: str, cpu: str = "max") -> str:
    """Compile project and example for Linux on ARM, run the program in QEMU, on a CPU of it."""
    compiler, emulator = map(tool, USER_MODE[machine])
    program, library = folder / "program", next(folder.glob("lib*_kernels.a"))
    sources = [*sorted(folder.glob("*.c")), folder / "example" / "main.c"]
    run(compiler, *STRICT, "-O1", "-static", f"-I{folder}", *sources, library, "-o", program)
    return run(emulator, "-cpu", cpu, program).stdout
