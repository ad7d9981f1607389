"""An Arduino library: sources in src/, the compiled model in src/CPU/, sketches in examples/.

Source: Arduino library specification, revision 2.2. `precompiled=true` and not `full`: with `full`
the sources beside a precompiled library are not compiled, and here both are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm_compiler.c_export.names import comment
from edgelstm_compiler.c_export.packages.readme import TEMPLATES, made_by, memory_table, remarks
from edgelstm_compiler.c_export.pieces import Pieces
from edgelstm_compiler.templates import fill


def arrange(pieces: Pieces) -> dict[str, bytes]:
    """The files by path.

    Raises:
        CapabilityError: the code is for another processor than Arduino's cores know.
    """
    toolchain = pieces.expect_toolchain("Arduino libraries")
    name = pieces.name
    parts = (pieces.headers, pieces.sources, pieces.selftest, pieces.agent)
    files = {f"src/{file}": text for part in parts for file, text in part.items()}
    files[f"src/{pieces.isa}/{pieces.library_name}"] = pieces.library
    files["library.properties"] = _properties(pieces, toolchain.arduino).encode()
    files["keywords.txt"] = _keywords(pieces).encode()
    files["README.md"] = _readme(pieces).encode()
    files["examples/SelfTest/SelfTest.ino"] = fill(
        TEMPLATES, "arduino/SelfTest.ino", name=name
    ).encode()
    if pieces.agent:
        files["examples/Agent/Agent.ino"] = fill(TEMPLATES, "arduino/Agent.ino", name=name).encode()
    return files


def _library_name(name: str) -> str:
    """A name that Arduino takes: it starts with a letter or digit and has at most 63 characters."""
    return (name.lstrip("_") or "model")[:63]


def _properties(pieces: Pieces, architectures: Sequence[str]) -> str:
    artifact = pieces.artifact
    source = comment(artifact.manifest["source"]["file"]) or "an ONNX model"
    return fill(
        TEMPLATES,
        "arduino/library.properties",
        library=_library_name(pieces.name),
        name=pieces.name,
        isa=pieces.isa,
        version=artifact.manifest["edgelstm"],
        source=source,
        remarks=remarks(pieces),
        architectures=",".join(architectures),
    )


def _keywords(pieces: Pieces) -> str:
    name = pieces.name
    kinds = ["state", "scratch", "input", "output"]
    functions = ["init", "reset", "step", "checksum", "selftest"]
    if pieces.artifact.signature.window is None:
        functions.insert(3, "run")
    else:
        kinds.append("slot")
        functions += ["slots", "first_frame"]
    types = [f"{name}_{kind}\tKEYWORD1" for kind in kinds]
    return "\n".join([*types, *(f"{name}_{f}\tKEYWORD2" for f in functions), ""])


def _readme(pieces: Pieces) -> str:
    return fill(
        TEMPLATES,
        "arduino/README.md",
        name=pieces.name,
        isa=pieces.isa,
        made_by=made_by(pieces),
        remarks=remarks(pieces),
        memory=memory_table(pieces),
    )
