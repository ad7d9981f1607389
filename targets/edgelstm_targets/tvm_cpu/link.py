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
from edgelstm_targets.tvm_cpu import elf

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


@dataclass(frozen=True, slots=True)
class Linker:
    """A linker for ELF.

    Args:
        name: for the manifest.
        command: how it is started.
    """

    name: str
    command: tuple[str, ...]


def find_linkers() -> tuple[Linker, ...]:
    """Linkers of this machine: those of the system first, then the one in the ziglang package."""
    found = []
    for name in ("ld.lld", "ld"):
        path = shutil.which(name)
        if path is not None and _is_elf_linker(path):
            found.append(Linker(name, (path,)))
    if importlib.util.find_spec("ziglang") is not None:
        found.append(Linker("ziglang ld.lld", (sys.executable, "-m", "ziglang", "ld.lld")))
    return tuple(found)


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
        raise ToolchainError(
            "no linker for ELF found: install binutils or lld, or pip install ziglang"
        )
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


def _is_elf_linker(path: str) -> bool:
    """GNU ld and lld say so; the linkers of macOS and Solaris are others."""
    try:
        outcome = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return "GNU" in outcome.stdout or "LLD" in outcome.stdout
