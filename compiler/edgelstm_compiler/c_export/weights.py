"""The weights of an exported model: as C, or as a file that the assembler includes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgelstm.artifact import WEIGHTS_SECTION, Artifact
from edgelstm.memory import ALIGNMENT
from edgelstm_compiler.c_export.names import word_count, words
from edgelstm_compiler.templates import fill


def _as_c(artifact: Artifact) -> dict[str, bytes]:
    """NAME_weights.c: any C compiler reads it; large ones take their time."""
    name, data = artifact.name, _data(artifact)
    text = fill(
        __package__,
        "weights.c",
        name=name,
        upper=name.upper(),
        count=word_count(len(data)),
        words=words(data),
    )
    return {f"{name}_weights.c": text.encode()}


def _as_incbin(artifact: Artifact) -> dict[str, bytes]:
    """NAME_weights.S and NAME_weights.bin: for GNU as and Clang; the folder is searched by -I."""
    name, data = artifact.name, _data(artifact)
    text = fill(__package__, "weights.S", name=name, alignment=ALIGNMENT)
    return {f"{name}_weights.S": text.encode(), f"{name}_weights.bin": data}


WEIGHTS: Mapping[str, Callable[[Artifact], dict[str, bytes]]] = {
    "c": _as_c,
    "incbin": _as_incbin,
}
"""How weights can be written: files by name."""


def _data(artifact: Artifact) -> bytes:
    """Whole words, at least one."""
    data = bytes(artifact.container.section(WEIGHTS_SECTION))
    return data.ljust(4 * word_count(len(data)), b"\0")
