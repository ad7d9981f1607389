"""A plain C project: sources side by side, CMakeLists.txt, example."""

from __future__ import annotations

from edgelstm_compiler.c_export.packages.readme import TEMPLATES, made_by, memory_table, remarks
from edgelstm_compiler.c_export.pieces import Pieces
from edgelstm_compiler.templates import fill


def arrange(pieces: Pieces) -> dict[str, bytes]:
    """The files by path."""
    return {
        **pieces.headers,
        **pieces.sources,
        **pieces.selftest,
        **pieces.agent,
        f"{pieces.name}_kernels.o": pieces.code,
        pieces.library_name: pieces.library,
        **{f"example/{name}": text for name, text in pieces.examples.items()},
        "CMakeLists.txt": _cmake(pieces).encode(),
        "README.md": _readme(pieces).encode(),
    }


def _cmake(pieces: Pieces) -> str:
    name = pieces.name
    flags = pieces.compiler_flags
    note = f"# Compile with {flags}\n" if flags else ""
    sources = " ".join(n for n in pieces.sources if n.endswith((".c", ".S")))
    languages = "C ASM" if any(n.endswith(".S") for n in pieces.sources) else "C"
    agent = example_agent = ""
    if pieces.agent:
        agent = fill(TEMPLATES, "cmake/agent.cmake", name=name)
        example_agent = fill(TEMPLATES, "cmake/example_agent.cmake", name=name)
    return fill(
        TEMPLATES,
        "cmake/CMakeLists.txt",
        name=name,
        isa=pieces.isa,
        note=note,
        languages=languages,
        sources=sources,
        agent=agent,
        example_agent=example_agent,
    )


def _readme(pieces: Pieces) -> str:
    name, flags = pieces.name, pieces.compiler_flags
    weights = ", ".join(f"`{n}`" for n in pieces.sources if n != f"{name}.c")
    agent = (
        f"| `{name}_agent.h`, `{name}_agent.c` | answers `edgelstm validate`; link it or leave it "
        "out |\n| `example/agent.c` | the agent on a POSIX system |\n"
        if pieces.agent
        else ""
    )
    sources = " ".join(n for n in pieces.sources if n.endswith((".c", ".S")))
    compiler = f"arm-none-eabi-gcc {flags}" if flags else "cc"
    return fill(
        TEMPLATES,
        "cmake/README.md",
        name=name,
        isa=pieces.isa,
        made_by=made_by(pieces),
        remarks=remarks(pieces),
        memory=memory_table(pieces),
        library=pieces.library_name,
        weights=weights,
        agent=agent,
        compiler=compiler,
        sources=sources,
    )
