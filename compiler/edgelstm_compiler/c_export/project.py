"""Writes the C project of a compiled model into a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.footprint import Footprint
from edgelstm.output_folder import write_folder
from edgelstm.outputs import Protected
from edgelstm_compiler.c_export.golden import Golden
from edgelstm_compiler.c_export.packages import PACKAGES
from edgelstm_compiler.c_export.pieces import ExportOptions, make_pieces

YOURS = b"yours to change"
"""What a generated file says that the user may edit."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Args:
        folder: where.
        isa: which instruction set of the artifact.
        files: their names and bytes.
        memory: flash and RAM.
        kept: files that were edited since an earlier export, and stayed as they were.
    """

    folder: Path
    isa: str
    files: Mapping[str, int]
    memory: Footprint
    kept: tuple[str, ...] = ()


def export_project(
    artifact: Artifact,
    folder: Path,
    golden: Golden,
    options: ExportOptions | None = None,
    protect: Iterable[Protected] = (),
) -> Export:
    """Write the project.

    Args:
        artifact: compiled for a CPU.
        folder: where to; it is made. Files of an earlier export are replaced, others never.
        golden: known inputs and outputs.
        options: how it is to be.
        protect: files that must not be written over.

    Raises:
        TargetUnavailableError: the artifact has no code for a CPU, or not this one.
        CapabilityError: the package is not for this CPU.
        ArtifactError: the folder cannot be written, or holds other files of these names.
    """
    options = options or ExportOptions()
    pieces = make_pieces(artifact, golden, options)
    files = PACKAGES[options.package](pieces)
    yours = {path for path, data in files.items() if YOURS in data}
    kept = write_folder(folder, files, protect, ArtifactError, yours)
    return Export(
        folder, pieces.isa, {path: len(d) for path, d in files.items()}, pieces.memory, kept
    )
