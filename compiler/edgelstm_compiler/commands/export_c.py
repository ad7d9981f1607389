"""`edgelstm export-c`: an artifact as a C project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import json_option, print_facts, print_json, say
from edgelstm.errors import ArtifactError, CapabilityError
from edgelstm.io.recording import read_frames
from edgelstm.output_folder import check_folder
from edgelstm.sessions import mode_of
from edgelstm_compiler.c_export.golden import Golden, record_golden
from edgelstm_compiler.c_export.integer_io import physical_signature
from edgelstm_compiler.c_export.packages import PACKAGES
from edgelstm_compiler.c_export.pieces import ExportOptions
from edgelstm_compiler.c_export.project import Export, export_project
from edgelstm_compiler.c_export.weights import WEIGHTS
from edgelstm_compiler.onnx_import.files import model_files

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
    "--package",
    type=click.Choice(list(PACKAGES)),
    default="cmake",
    show_default=True,
    help="A plain C project, an Arduino library or a Zephyr module.",
)
@click.option(
    "--weights",
    type=click.Choice(list(WEIGHTS)),
    default="c",
    show_default=True,
    help="As C source, or as a file that the assembler includes.",
)
@click.option("--agent", is_flag=True, help="Add the agent that `edgelstm validate` talks to.")
@click.option(
    "--describe",
    "meanings",
    multiple=True,
    metavar="NAME=TEXT",
    help="What an input or output means, for the header.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="ONNX model that gives the self-test its outputs.  [default: recorded when compiled]",
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
@loading_options
@json_option
def export_c_command(
    artifact: Path,
    output: Path,
    isa: str | None,
    package: str,
    weights: str,
    agent: bool,
    meanings: Sequence[str],
    model: Path | None,
    source: Path | None,
    steps: int,
    load: Loader,
    as_json: bool,
) -> None:
    """Write ARTIFACT as a C project: header, library, weights, self-test, example, build file.

    \b
    Examples:
      edgelstm export-c gait_m4.edgelstm -o gait_c
      edgelstm export-c gait_m4.edgelstm -o gait_c --model gait.onnx --input walk.csv
      edgelstm export-c gait_m4.edgelstm -o gait --package arduino --agent
      edgelstm export-c gait_m4.edgelstm -o gait_c --describe "imu=acceleration in m/s^2"
    """
    check_folder(output, ArtifactError)
    protect = [artifact, *(model_files(model) if model else []), *([source] if source else [])]
    compiled = load(artifact)
    options = ExportOptions(isa, package, weights, agent, dict(_parse(text) for text in meanings))
    if compiled.signature.lookahead is not None:
        raise CapabilityError(
            f"{artifact} looks ahead, which the C export does not have: compile the model with "
            "--mode call --shape INPUT=..., and call it on whole windows"
        )
    golden = golden_of(compiled, source, steps, model)
    export = export_project(compiled, output, golden, options, protect)
    if as_json:
        print_json(
            {
                "folder": str(export.folder),
                "isa": export.isa,
                "package": package,
                "files": dict(export.files),
                "kept": list(export.kept),
                "memory": export.memory.to_json(),
                "selftest": {
                    "steps": golden.steps,
                    "of": golden.origin,
                    "tolerance": golden.tolerance,
                },
            }
        )
    else:
        _print(compiled.name, export, golden.origin)


def golden_of(compiled: Artifact, source: Path | None, steps: int, model: Path | None) -> Golden:
    """Known inputs and outputs, from a recording in the model's units or from random input.

    Raises:
        CapabilityError: a recording for a model that was compiled for calls.
        RecordingError: it cannot be read, or does not fit.
    """
    frames = None
    if source is not None:
        mode = mode_of(compiled.signature.mode)
        if not mode.has_blocks:
            raise CapabilityError(
                f"--input takes streams; this artifact was compiled for {mode.units}"
            )
        frames = read_frames(
            source,
            physical_signature(compiled),
            described=compiled.description.names(compiled.signature),
        )
    return record_golden(compiled, frames, steps, model)


def _parse(text: str) -> tuple[str, str]:
    name, equals, meaning = text.partition("=")
    if not equals or not name or not meaning:
        raise click.BadParameter(f"{text!r}: expected NAME=TEXT", param_hint="--describe")
    return name, meaning


def _print(name: str, export: Export, origin: str) -> None:
    say(f"{name} for {export.isa} in {export.folder}:")
    print_facts([(path, f"{size:>9} bytes") for path, size in export.files.items()])
    if export.kept:
        say(f"kept as you edited it: {', '.join(export.kept)}")
    say(f"self-test: {origin}")
    say("memory in bytes:")
    amounts = export.memory.to_json().items()
    print_facts([(key, "unknown" if v is None else v) for key, v in amounts])
