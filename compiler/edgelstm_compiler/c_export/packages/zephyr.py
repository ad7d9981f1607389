"""A Zephyr module: zephyr/module.yml, CMakeLists.txt, Kconfig, and a sample.

Source: Zephyr's documentation, "Modules (External projects)" and its CMake extensions.
"""

from __future__ import annotations

from edgelstm_compiler.c_export.integer_io import Floats, where_floats_are
from edgelstm_compiler.c_export.packages.readme import TEMPLATES, made_by, memory_table, remarks
from edgelstm_compiler.c_export.pieces import Pieces
from edgelstm_compiler.processor import Toolchain
from edgelstm_compiler.templates import fill


def arrange(pieces: Pieces) -> dict[str, bytes]:
    """The files by path.

    Raises:
        CapabilityError: the code is for a processor that has no symbol in Zephyr here.
    """
    toolchain = pieces.expect_toolchain("Zephyr modules")
    parts = (pieces.sources, pieces.selftest, pieces.agent)
    sample = f"samples/{pieces.name}"
    return {
        **{f"include/{file}": text for file, text in pieces.headers.items()},
        **{f"src/{file}": text for part in parts for file, text in part.items()},
        f"lib/{pieces.library_name}": pieces.library,
        "zephyr/module.yml": fill(TEMPLATES, "zephyr/module.yml", name=pieces.name).encode(),
        "CMakeLists.txt": _cmake(pieces).encode(),
        "Kconfig": _kconfig(pieces, toolchain).encode(),
        "README.md": _readme(pieces).encode(),
        f"{sample}/CMakeLists.txt": _sample("CMakeLists.txt", pieces.name),
        f"{sample}/prj.conf": _sample_configuration(pieces.name).encode(),
        f"{sample}/sample.yaml": _sample("sample.yaml", pieces.name),
        f"{sample}/src/main.c": _sample("main.c", pieces.name),
    }


def _symbol(name: str) -> str:
    return f"EDGELSTM_{name.upper()}"


def _cmake(pieces: Pieces) -> str:
    name, symbol = pieces.name, f"CONFIG_{_symbol(pieces.name)}"
    sources = "\n".join(f"    src/{file}" for file in pieces.sources if file.endswith((".c", ".S")))
    includes = "\n  zephyr_library_include_directories(src)" if _has_assembler(pieces) else ""
    agent = (
        f"\n  zephyr_library_sources_ifdef({symbol}_AGENT src/{name}_agent.c)"
        if pieces.agent
        else ""
    )
    return fill(
        TEMPLATES,
        "zephyr/CMakeLists.txt",
        name=name,
        isa=pieces.isa,
        symbol=symbol,
        sources=sources,
        includes=includes,
        agent=agent,
        library=pieces.library_name,
    )


def _has_assembler(pieces: Pieces) -> bool:
    return any(file.endswith(".S") for file in pieces.sources)


def _kconfig(pieces: Pieces, toolchain: Toolchain) -> str:
    name, symbol = pieces.name, _symbol(pieces.name)
    has_floats = where_floats_are(pieces.artifact) is not Floats.NOWHERE
    needs = [*toolchain.zephyr, *(toolchain.zephyr_float if has_floats else ())]
    depends = "\n".join(f"    depends on {need}" for need in needs)
    select = "\n    select FPU" if has_floats else ""
    threads = (
        "\n      Several threads that compute in floating point need FPU_SHARING as well."
        if has_floats
        else ""
    )
    memory = pieces.memory
    agent = fill(TEMPLATES, "zephyr/Kconfig.agent", symbol=symbol) if pieces.agent else ""
    return fill(
        TEMPLATES,
        "zephyr/Kconfig",
        name=name,
        symbol=symbol,
        isa=pieces.isa,
        depends=depends,
        select=select,
        flash=memory.flash,
        ram=memory.ram,
        threads=threads,
        agent=agent,
    )


def _sample_configuration(name: str) -> str:
    return f"CONFIG_{_symbol(name)}=y\nCONFIG_{_symbol(name)}_SELFTEST=y\n"


def _sample(file: str, name: str) -> bytes:
    return fill(TEMPLATES, f"zephyr/sample/{file}", name=name).encode()


def _readme(pieces: Pieces) -> str:
    return fill(
        TEMPLATES,
        "zephyr/README.md",
        name=pieces.name,
        isa=pieces.isa,
        symbol=_symbol(pieces.name),
        made_by=made_by(pieces),
        remarks=remarks(pieces),
        memory=memory_table(pieces),
    )
