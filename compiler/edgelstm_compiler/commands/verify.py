"""`edgelstm verify`: an artifact beside the model it was compiled from."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_json
from edgelstm.errors import MismatchError, RecordingError
from edgelstm.streams.recording import read_frames
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.verification import (
    Verification,
    expect_same_model,
    fixed_length,
    random_call,
    random_frames,
    verify_call,
    verify_stream,
)

RANDOM_FRAMES = 1000


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path), help="The ONNX model.")
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="A recording (CSV, NPY, NPZ, NDJSON); NPZ by input name for call mode. "
    "[default: seeded random input]",
)
@click.option("--columns", help="Columns of the recording, separated by commas.")
@click.option("--frames", type=click.IntRange(min=1), help="Compare this many frames at most.")
@click.option("--tolerance", type=float, default=1e-5, show_default=True)
@json_option
def verify_command(
    artifact: Path,
    model: Path,
    source: Path | None,
    columns: str | None,
    frames: int | None,
    tolerance: float,
    as_json: bool,
) -> None:
    """Compare ARTIFACT with its model, step by step or call by call; exit code 3 on FAIL.

    \b
    Examples:
      edgelstm verify gait.edgelstm --model gait.onnx
      edgelstm verify gait.edgelstm --model gait.onnx --input trial.csv
    """
    compiled = Artifact.load(artifact)
    original = read_model(model)
    expect_same_model(compiled, original)
    if compiled.signature.mode == "call":
        inputs = random_call(compiled) if source is None else _read_call(source)
        result = verify_call(compiled, original, inputs, tolerance)
    else:
        if source is None:
            count = frames or fixed_length(original, compiled) or RANDOM_FRAMES
            block = random_frames(compiled, count)
        else:
            chosen = [name.strip() for name in columns.split(",")] if columns else []
            block = read_frames(source, compiled.signature, chosen)
            block = {name: x[:frames] for name, x in block.items()}
        result = verify_stream(compiled, original, block, tolerance)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(_as_text(result))
    if not result.passed:
        raise MismatchError(f"{artifact} does not compute what {model} computes")


def _read_call(source: Path) -> dict[str, Array]:
    if source.suffix != ".npz":
        raise RecordingError(f"{source}: call mode takes an .npz file with one array per input")
    try:
        with np.load(source) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError) as error:
        raise RecordingError(f"{source}: cannot be read: {error}") from error


def _as_text(result: Verification) -> str:
    lines = [f"against {result.against}, {result.steps} steps"]
    for output in result.outputs:
        verdict = "PASS" if output.passed else f"FAIL from step {output.first_beyond}"
        lines.append(
            f"  {output.name}: max error {output.max_error:.3g}, mean {output.mean_error:.3g}, "
            f"limit {output.limit:.3g}, {output.compared} values: {verdict}"
        )
    lines.append("PASS" if result.passed else "FAIL")
    return "\n".join(lines)
