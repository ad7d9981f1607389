"""`edgelstm calibrate`: recordings in, the ranges of every value out, as a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.report import json_option, print_json, progress_bar, say
from edgelstm.outputs import STANDARD, check_output, write_output
from edgelstm.sessions import MODES, mode_of
from edgelstm_compiler.commands.arguments import parse_constants, parse_shapes
from edgelstm_compiler.commands.carry_options import carry_options, make_request
from edgelstm_compiler.commands.recordings import (
    float_step_graph,
    named_warnings,
    read_recordings,
)
from edgelstm_compiler.described import what_is_said
from edgelstm_compiler.driver import CompileOptions
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.onnx_import.files import model_files
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.recordings import as_recordings
from edgelstm_compiler.quant.rounding import with_roundings
from edgelstm_compiler.streaming.modes import ModeRequest


@click.command("calibrate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recording (CSV, NPY, NPZ, NDJSON; call mode: NPZ windows). May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Calibration to write.  [default: the model's name, .calibration.json]",
)
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    help="As for compile.  [default: stream; lookahead with --lookahead]",
)
@click.option("--lookahead", type=click.IntRange(min=0), metavar="L", help="As for compile.")
@click.option("--chunk", type=click.IntRange(min=1), metavar="N", help="As for compile.")
@click.option(
    "--attention-context", type=click.IntRange(min=1), metavar="W", help="As for compile."
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=EXTENT,...",
    callback=parse_shapes,
    help="Shape of an input with free dimensions. May be repeated.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parse_constants,
    help="Fix an input, as for compile. May be repeated.",
)
@carry_options
@click.option("--columns", help="Columns of the recordings, separated by commas.")
@json_option
def calibrate_command(
    model: Path,
    files: tuple[Path, ...],
    output: Path | None,
    mode: str | None,
    lookahead: int | None,
    chunk: int | None,
    attention_context: int | None,
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, Any],
    carry: dict[str, str],
    no_carry: bool,
    overlap: dict[str, int],
    columns: str | None,
    as_json: bool,
) -> None:
    """Replay recordings through the float32 MODEL and keep what quantizing needs to know.

    \b
    edgelstm calibrate gait.onnx --input walk.csv --input stairs.csv -o gait.calibration.json
    edgelstm compile gait.onnx --quantize int8 --calibration gait.calibration.json
    """
    path = output or Path(f"{model.stem}.calibration.json")
    protect = [*model_files(model), *files]
    check_output(path, protect)
    read = fix_inputs(read_model(model), constants)
    request = make_request(carry, no_carry, overlap)
    asked = ModeRequest(chunk=chunk, lookahead=lookahead, attention_context=attention_context)
    chosen = mode or asked.mode
    options = CompileOptions(mode=chosen, request=asked, shapes=shapes, carry=request)
    graph, faced, cut = float_step_graph(read, options)
    signature = make_signature(faced)
    with progress_bar("reading", len(files)) as advance:
        recordings = read_recordings(
            files, signature, columns, advance, what_is_said(model).columns or ()
        )
    checked = as_recordings(faced, [dict(recording) for recording in recordings])
    checked = checked if cut is None else list(cut.recordings(checked))
    with progress_bar("calibrating", len(checked)) as advance:
        found = calibrate(
            graph, checked, model=read.sha256, progress=lambda done, total: advance(1)
        )
    warnings = tuple(named_warnings(found.warnings, files, recordings))
    found = dataclasses.replace(found, warnings=warnings)
    found = with_roundings(graph, found, checked)
    text = json.dumps(found.to_json(), sort_keys=True) + "\n"
    write_output(path, text.encode(), protect)
    report = {
        "calibration": str(path),
        "sha256": found.digest,
        "recordings": len(checked),
        "frames": found.frames,
        "values": len(found.values),
        "roundings": dict(found.roundings),
        "warnings": list(found.warnings),
    }
    is_taken = str(path) == STANDARD
    if as_json:
        print_json(report, err=is_taken)
        return
    unit = "chunks" if cut is not None else mode_of(chosen).units
    say(
        f"{path}: ranges of {len(found.values)} values over {found.frames} {unit} "
        f"in {len(checked)} recordings",
        err=is_taken,
    )
    for warning in found.warnings:
        say(f"warning: {warning}", err=True)
    if not found.warnings:
        say("  every unit and gate was exercised", err=is_taken)
