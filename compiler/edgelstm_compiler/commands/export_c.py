"""`edgelstm export-c`: an artifact as a C project."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_facts, print_json
from edgelstm.errors import CapabilityError
from edgelstm.streams.recording import read_frames
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.project import Export, export_project

STEPS = 16


@click.command("export-c")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write.",
)
@click.option("--isa", help="Instruction set.  [default: the least demanding of the artifact]")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="ONNX model that gives the self-test its outputs.  [default: the compiled code itself]",
)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="Recording for the self-test.  [default: seeded random input]",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 100_000),
    default=STEPS,
    show_default=True,
    help="Steps of the self-test, at most.",
)
@json_option
def export_c_command(
    artifact: Path,
    output: Path,
    isa: str | None,
    model: Path | None,
    source: Path | None,
    steps: int,
    as_json: bool,
) -> None:
    """Write ARTIFACT as a C project: header, library, weights, self-test, example, CMake file.

    \b
    Examples:
      edgelstm export-c gait_m4.edgelstm -o gait_c
      edgelstm export-c gait_m4.edgelstm -o gait_c --model gait.onnx --input walk.csv
    """
    compiled = Artifact.load(artifact)
    frames = None
    if source is not None:
        if compiled.signature.mode == "call":
            raise CapabilityError("--input takes streams; this artifact was compiled for calls")
        frames = read_frames(source, compiled.signature)
    golden = record_golden(compiled, frames, steps, model)
    export = export_project(compiled, output, golden, isa)
    if as_json:
        print_json(
            {
                "folder": str(export.folder),
                "isa": export.isa,
                "files": dict(export.files),
                "memory": dict(export.memory),
                "selftest": {"steps": golden.steps, "of": golden.origin},
            }
        )
    else:
        _print(compiled.name, export, golden.origin)


def _print(name: str, export: Export, origin: str) -> None:
    click.echo(f"{name} for {export.isa} in {export.folder}:")
    print_facts([(path, f"{size:>9} bytes") for path, size in export.files.items()])
    click.echo(f"self-test: {origin}")
    click.echo("memory in bytes:")
    unknown = "unknown"
    print_facts([(key, unknown if v is None else v) for key, v in export.memory.items()])
