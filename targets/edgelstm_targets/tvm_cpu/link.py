"""From an object file to a shared object that shows what it is told to and wants nothing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import InternalError, ToolchainError
from edgelstm_compiler import elf

_FLAGS = (
    "-shared",
    "--strip-all",
    "--build-id=none",
    "--hash-style=sysv",
    "--no-undefined",
    "-z",
    "noexecstack",
    "-z",
    "noseparate-code",
    "-z",
    "max-page-size=4096",
)


_EMULATIONS = {
    elf.X86_64: "elf_x86_64",
    elf.AARCH64: "aarch64linux",
    elf.ARM: "armelf_linux_eabi",
}


_WHERE_TO_GET = {
    elf.X86_64: "x86-64: install binutils or lld",
    elf.AARCH64: "AArch64: install binutils-aarch64-linux-gnu or lld",
    elf.ARM: "32-bit ARM: install binutils-arm-linux-gnueabihf or lld",
}
_NAMES = ("ld.lld", "ld", "aarch64-linux-gnu-ld", "arm-linux-gnueabihf-ld")


@dataclass(frozen=True, slots=True)
class Linker:
    """A linker for ELF.

    Args:
        name: for the manifest.
        command: how it is started.
        emulations: what it can link, by GNU's names; None: whatever is asked (lld).
    """

    name: str
    command: tuple[str, ...]
    emulations: frozenset[str] | None = None

    def takes(self, machine: str) -> bool:
        """Whether it links code for that machine, as `elf.machine` names it."""
        return self.emulations is None or _EMULATIONS[machine] in self.emulations


def find_linkers(machine: str = elf.X86_64) -> tuple[Linker, ...]:
    """Linkers for a processor: those of the system first, then the one in the ziglang package.

    Args:
        machine: the processor, as `elf.machine` names it.
    """
    found = []
    for name in _NAMES:
        path = shutil.which(name)
        linker = _system_linker(name, path) if path is not None else None
        if linker is not None and linker.takes(machine):
            found.append(linker)
    if importlib.util.find_spec("ziglang") is not None:
        found.append(Linker("ziglang ld.lld", (sys.executable, "-m", "ziglang", "ld.lld")))
    return tuple(found)


def no_linker(machine: str) -> str:
    """What to install where there is no linker for a processor."""
    return f"no linker for {_WHERE_TO_GET[machine]}, or pip install ziglang"


def link(code: bytes, exported: Sequence[str], linkers: Sequence[Linker]) -> tuple[bytes, Linker]:
    """Link an object file with the first linker that can.

    Returns:
        The shared object, and the linker that made it.

    Raises:
        ToolchainError: there is no linker, or all of them failed.
        InternalError: the object wants a symbol, or the result shows another than `exported`.
    """
    missing = elf.undefined(code)
    if missing:
        raise InternalError(f"the generated code needs {', '.join(sorted(missing))}")
    if not linkers:
        raise ToolchainError(no_linker(elf.machine(code)))
    failures = []
    for linker in linkers:
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            script, result = Path(folder, "code.ver"), Path(folder, "code.so")
            source = Path(folder, "code.o")
            source.write_bytes(code)
            script.write_text(f"{{ global: {'; '.join(exported)}; local: *; }};\n", "ascii")
            command = [
                *linker.command,
                "-m",
                _EMULATIONS[elf.machine(code)],
                *_FLAGS,
                f"--version-script={script}",
                "-o",
                str(result),
                str(source),
            ]
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
            if outcome.returncode == 0:
                shared = result.read_bytes()
                break
            failures.append(f"{linker.name}: {(outcome.stderr or outcome.stdout).strip()}")
    else:
        raise ToolchainError("no linker could link the code: " + "; ".join(failures))
    if elf.exports(shared) != tuple(sorted(exported)):
        raise InternalError(f"the shared object shows {elf.exports(shared)}, expected {exported}")
    return shared, linker


def _system_linker(name: str, path: str) -> Linker | None:
    """GNU ld and lld say what they are; the linkers of macOS and Solaris are others."""
    try:
        outcome = subprocess.run(
            [path, "-V"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if "LLD" in outcome.stdout:
        return Linker(name, (path,))
    if "GNU" not in outcome.stdout:
        return None
    listed = outcome.stdout.partition("Supported emulations:")[2]
    return Linker(name, (path,), frozenset(listed.split()))
