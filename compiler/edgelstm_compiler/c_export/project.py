"""Writes the C project of a compiled model into a folder."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.artifact import STATE_SECTION, WEIGHTS_SECTION, Artifact
from edgelstm.engines.native import CODE_PREFIX
from edgelstm.errors import ArtifactError, TargetUnavailableError
from edgelstm_compiler.c_export.archive import static_library
from edgelstm_compiler.c_export.golden import Golden
from edgelstm_compiler.c_export.header import public_header
from edgelstm_compiler.c_export.sources import (
    example_source,
    model_source,
    selftest_source,
    weights_source,
)

OBJECT_PREFIX = "object/"
"""Sections that hold the object files of an artifact's code, by instruction set."""

_FLAGS = {
    "cortex-m0plus": "-mcpu=cortex-m0plus -mthumb",
    "cortex-m3": "-mcpu=cortex-m3 -mthumb",
    "cortex-m4": "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
    "cortex-m7": "-mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    "cortex-m33": "-mcpu=cortex-m33 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard",
    "cortex-m55": "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard",
}


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Args:
        folder: where.
        isa: which instruction set of the artifact.
        files: their names and bytes.
        memory: flash and RAM in bytes, see `memory_report`.
    """

    folder: Path
    isa: str
    files: Mapping[str, int]
    memory: Mapping[str, int | None]


def compiler_flags(isa: str) -> str:
    """What arm-none-eabi-gcc has to be told to make code that fits; "" where nothing."""
    return _FLAGS.get(isa, "")


def export_project(
    artifact: Artifact, folder: Path, golden: Golden, isa: str | None = None
) -> Export:
    """Write the project.

    Args:
        artifact: compiled for a CPU.
        folder: where to; it is made. Files of the same names are replaced.
        golden: known inputs and outputs.
        isa: instruction set; None: the least demanding one of the artifact.

    Raises:
        TargetUnavailableError: the artifact has no code for a CPU, or not this one.
        ArtifactError: the folder cannot be written.
    """
    chosen, facts = _choose(artifact, isa)
    name = artifact.name
    code = bytes(artifact.container.section(f"{OBJECT_PREFIX}{chosen}"))
    weights = bytes(artifact.container.section(WEIGHTS_SECTION))
    symbols = [f"{name}_{function}" for function in ("step", "run", "read")]
    memory = memory_report(artifact, facts)
    files: dict[str, bytes] = {
        f"{name}.h": public_header(artifact, zlib.crc32(weights)).encode(),
        f"{name}.c": model_source(artifact).encode(),
        f"{name}_weights.c": weights_source(artifact).encode(),
        f"{name}_selftest.c": selftest_source(artifact, golden).encode(),
        f"{name}_kernels.o": code,
        f"lib{name}_kernels.a": static_library(f"{name}_kernels.o", code, symbols),
        "example/main.c": example_source(artifact).encode(),
        "CMakeLists.txt": _cmake(name, chosen).encode(),
        "README.md": _readme(artifact, chosen, memory).encode(),
    }
    try:
        for path, data in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except OSError as error:
        raise ArtifactError(f"cannot write the C project to {folder}: {error}") from error
    return Export(folder, chosen, {path: len(data) for path, data in files.items()}, memory)


def memory_report(artifact: Artifact, facts: Mapping[str, Any]) -> dict[str, int | None]:
    """Flash and RAM in bytes, without the self-test and without what the C compiler adds.

    `stack` is the deepest that a step gets; None where it is not known.
    """
    sizes = artifact.manifest["memory"]
    first = bytes(artifact.container.section(STATE_SECTION))
    text, rodata = int(facts.get("text_bytes", 0)), int(facts.get("rodata_bytes", 0))
    constants = sizes["weights_bytes"] + (len(first) if any(first) else 0)
    return {
        "text": text,
        "rodata": rodata,
        "weights": sizes["weights_bytes"],
        "flash": text + rodata + constants,
        "state": sizes["state_bytes"],
        "scratch": sizes["scratch_bytes"],
        "ram": sizes["state_bytes"] + sizes["scratch_bytes"],
        "stack": facts.get("stack_bytes"),
    }


def _choose(artifact: Artifact, isa: str | None) -> tuple[str, Mapping[str, Any]]:
    entries = artifact.manifest["target"]["facts"].get("isas") or []
    found = {str(entry["section"]).removeprefix(CODE_PREFIX): entry for entry in entries}
    found = {key: e for key, e in found.items() if f"{OBJECT_PREFIX}{key}" in artifact.sizes}
    if not found:
        raise TargetUnavailableError(
            f"an artifact for target {artifact.manifest['target']['name']!r} holds no object code: "
            "compile for a CPU, such as host, rpi4 or cortex-m4"
        )
    chosen = isa or list(found)[-1]
    if chosen not in found:
        raise TargetUnavailableError(
            f"the artifact has no code for {chosen!r}; it has {', '.join(found)}"
        )
    return chosen, found[chosen]


def _cmake(name: str, isa: str) -> str:
    flags = compiler_flags(isa)
    note = f"# Compile with {flags}\n" if flags else ""
    return f"""\
# {name} for {isa}. Generated by edgelstm.
{note}cmake_minimum_required(VERSION 3.13)
project({name} C)

# Link this: add_subdirectory(...), then target_link_libraries(your_program {name}).
add_library({name} STATIC {name}.c {name}_weights.c ${{CMAKE_CURRENT_SOURCE_DIR}}/{name}_kernels.o)
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_features({name} PUBLIC c_std_99)

add_library({name}_selftest STATIC {name}_selftest.c)
target_link_libraries({name}_selftest PUBLIC {name})

if(CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
  add_executable({name}_example example/main.c)
  target_link_libraries({name}_example {name}_selftest)
  enable_testing()
  add_test(NAME {name}_example COMMAND {name}_example)
endif()
"""


def _readme(artifact: Artifact, isa: str, memory: Mapping[str, int | None]) -> str:
    name = artifact.name
    flags = compiler_flags(isa)
    rows = "\n".join(
        f"| {key} | {'unknown' if value is None else value} |" for key, value in memory.items()
    )
    return f"""\
# {name} for {isa}

Generated by edgelstm {artifact.manifest["edgelstm"]}. `{name}.h` says how to use it.

| file | what it is |
|---|---|
| `{name}.h`, `{name}.c` | the interface; first state and checksum |
| `{name}_kernels.o`, `lib{name}_kernels.a` | the compiled model, as object and as library |
| `{name}_weights.c` | the weights, constant |
| `{name}_selftest.c` | known inputs and outputs; link it or leave it out |
| `example/main.c` | runs the self-test and two streams |

    {f"arm-none-eabi-gcc {flags}" if flags else "cc"} -I. *.c example/main.c {name}_kernels.o

Memory in bytes (flash = text + rodata + weights + first state; ram = one state + one scratch):

| | bytes |
|---|---|
{rows}
"""
