"""`edgelstm compile`: ONNX in, artifact out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_json, progress_bar, say
from edgelstm.commands.time_line import say_cost
from edgelstm.errors import ArtifactError
from edgelstm.io.columns import split_names
from edgelstm.output_folder import check_folder
from edgelstm.outputs import STANDARD, check_output
from edgelstm.sessions import MODES
from edgelstm.sessions.chunks import frames_of_step
from edgelstm_compiler.attention_distance import say_attention
from edgelstm_compiler.commands.arguments import (
    parse_constants,
    parse_labels,
    parse_pairs,
    parse_shapes,
)
from edgelstm_compiler.commands.carry_options import carry_options, make_request
from edgelstm_compiler.commands.quantize_options import (
    describe_quantization,
    expect_consistent,
    make_options,
    parse_kept,
    parse_schemes,
    quantize_options,
    read_calibration_data,
    read_holdout,
)
from edgelstm_compiler.commands.recordings import named_warnings
from edgelstm_compiler.commands.retold import RetoldCommand
from edgelstm_compiler.described import description_file, what_is_said
from edgelstm_compiler.doors.door import door_of, export_model
from edgelstm_compiler.driver import CompileOptions, compile_model
from edgelstm_compiler.lookahead_verification import say_deviation
from edgelstm_compiler.onnx_import.files import model_files
from edgelstm_compiler.quant.recordings import Recordings
from edgelstm_compiler.quant_report.layers import layer_rows
from edgelstm_compiler.streaming.modes import ModeRequest, Windows
from edgelstm_compiler.target import DEFAULT_TARGET

STAGES = 5
"""Calls of the driver's progress function, at most."""

QUANTIZE_STAGES = 4
"""Further calls where a model is quantized, but for the trials of auto."""


@click.command("compile", cls=RetoldCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Artifact to write.  [default: the model's name, .edgelstm]",
)
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    help="stream: one frame a step, state carried. window: windows from fresh state, as in "
    "training. lookahead: backward layers see some frames ahead. call: exactly the ONNX function.  "
    "[default: stream; window with --hop, lookahead with --lookahead]",
)
@click.option(
    "--window", type=click.IntRange(min=1), metavar="W", help="Frames of a window, if free."
)
@click.option(
    "--hop",
    type=click.IntRange(min=1),
    metavar="S",
    help="Frames from the beginning of one window to that of the next.",
)
@click.option(
    "--carry-across-windows",
    is_flag=True,
    help="A window begins with the state that the one before it ended with (stateful layers).",
)
@click.option(
    "--smooth",
    metavar="mean:K|vote:K",
    help="Answer with the mean or the vote of the newest K windows.",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    metavar="N",
    help="Frames that one step of a stream takes, or that are answered together with "
    "--lookahead.  [default: 1]",
)
@click.option(
    "--lookahead",
    type=click.IntRange(min=0),
    metavar="L",
    help="Frames that backward layers see ahead: answers come L to N-1+L frames late and cost "
    "(N+L)/N; an approximation of the whole sequence.",
)
@click.option(
    "--attention-context",
    type=click.IntRange(min=1),
    metavar="W",
    help="Frames that attention over time sees: a stream keeps the keys and values of the newest "
    "W. Exact where the model's own mask says as much, else another function, measured and told.",
)
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="See `edgelstm targets`.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=EXTENT,...",
    callback=parse_shapes,
    help="Shape of an input with free dimensions, e.g. input=1,30,17. May be repeated.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parse_constants,
    help="Fix an input: a number, numbers, or a file of NumPy (sr=16000, W=weights.npz). May be "
    "repeated.",
)
@carry_options
@click.option(
    "--cpu",
    type=click.Choice(["generic", "best", "native"]),
    help=f"{DEFAULT_TARGET}: code for three levels of x86-64 (generic), for the best of them that "
    "this machine has (best: a third of the file and of the time), or for all that this machine "
    "alone has (native).",
)
@click.option(
    "--option",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    callback=parse_pairs,
    help="Another option of the target. May be repeated.",
)
@click.option(
    "--python",
    type=click.Path(dir_okay=False),
    help="The Python that has the framework, for .pt2, .keras and .h5.  [default: this one]",
)
@click.option("--name", help="Prefix of the C symbols.  [default: from the model]")
@click.option(
    "--rate",
    "rate_hz",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames per second, kept in the artifact.",
)
@click.option("--units", metavar="U,V,...", help="Units of the columns: one for all, or each.")
@click.option(
    "--labels",
    multiple=True,
    metavar="[OUTPUT=]A,B,...",
    help="Classes of an output, in the order of its elements. May be repeated.",
)
@click.option(
    "--description",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="Columns, units, ranges, labels and rate.  [default: MODEL.toml beside MODEL.onnx]",
)
@click.option(
    "--dump",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the text form after every pass and stage into this folder.",
)
@click.option("--check/--no-check", default=True, show_default=True, help="Compare with the model.")
@click.option(
    "--check-input",
    "check_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recording to compare on (call mode: NPZ windows). May be repeated.  [default: that of "
    "--calibrate, else seeded input within the domain of the model]",
)
@quantize_options
@json_option
def compile_command(
    model: Path,
    output: Path | None,
    mode: str | None,
    window: int | None,
    hop: int | None,
    carry_across_windows: bool,
    smooth: str | None,
    chunk: int | None,
    lookahead: int | None,
    attention_context: int | None,
    target: str,
    shapes: dict[str, tuple[int, ...]],
    constants: dict[str, Any],
    carry: dict[str, str],
    no_carry: bool,
    overlap: dict[str, int],
    cpu: str | None,
    python: str | None,
    pairs: dict[str, str],
    name: str | None,
    rate_hz: float | None,
    units: str | None,
    labels: tuple[str, ...],
    description: Path | None,
    dump: Path | None,
    check: bool,
    check_files: tuple[Path, ...],
    schemes: tuple[str, ...],
    calibrate: tuple[Path, ...],
    calibration: Path | None,
    holdout: tuple[Path, ...],
    keep: tuple[str, ...],
    force: bool,
    columns: str | None,
    max_error: float | None,
    ranges: str,
    percentile: float,
    equalize: bool,
    integer_io: bool,
    as_json: bool,
) -> None:
    """Compile MODEL (ONNX) ahead of time.

    \b
    Examples:
      edgelstm compile gait.onnx -o gait.edgelstm
      edgelstm compile squat.onnx --mode window --hop 60
      edgelstm compile phone.onnx --lookahead 20 --chunk 10
      edgelstm compile words.onnx --attention-context 100
      edgelstm compile gait.pt2 --python ~/torch/bin/python
      edgelstm compile squat.onnx --mode call --shape input=1,240,4
      edgelstm compile gait.onnx --target reference --dump stages/
      edgelstm compile emg.onnx --check-input trial.csv
      edgelstm compile vad.onnx --set sr=16000 --shape input=1,576 --overlap 64
      edgelstm compile gait.onnx --quantize int8 --calibrate walk.csv --calibrate stairs.csv
      edgelstm compile gait.onnx --columns ax,ay,az --units m/s^2 --labels sit,walk --rate 100
      edgelstm compile gait.onnx --quantize auto --max-error 0.02 --calibrate walk.csv
    """
    if cpu is not None:
        pairs = {**pairs, "cpu": cpu}
    quantize = parse_schemes(schemes)
    expect_consistent(quantize, calibrate, calibration, max_error, holdout)
    path = output or Path(f"{model.stem}.edgelstm")
    source = model
    if door_of(source) is not None:
        model = path.with_suffix(".onnx") if str(path) != STANDARD else Path(f"{source.stem}.onnx")
        check_output(model, [source], ArtifactError)
        export_model(source, model, python)
        click.echo(f"exported {source} to {model}", err=True)
    others = (calibration, description_file(model, description))
    protect = [
        *model_files(model),
        *calibrate,
        *holdout,
        *check_files,
        *(path for path in others if path is not None),
    ]
    check_output(path, protect, ArtifactError)
    if dump is not None:
        check_folder(dump)
    start = time.perf_counter()
    names = split_names(columns or "")
    told: dict[str, Any] = {
        # Indices along an array's last axis are no names.
        "columns": None if all(name.isdigit() for name in names) else names,
        "units": split_names(units) if units is not None else None,
        "labels": parse_labels(labels),
        "description": description,
    }
    described = what_is_said(model, **told).columns or ()
    if quantize is None and calibrate and not described:
        raise click.UsageError(
            "--calibrate is for --quantize SCHEME, or for the ranges of --columns A,B,..."
        )
    request = make_request(carry, no_carry, overlap)
    asked = ModeRequest(
        Windows(window, hop, carry_across_windows, smooth), chunk, lookahead, attention_context
    )
    chosen = CompileOptions(
        mode=mode or asked.mode,
        request=asked,
        shapes=shapes,
        constants=constants,
        carry=request,
    )
    given = read_calibration_data(model, chosen, calibrate, calibration, columns, described)
    check_input = read_calibration_data(model, chosen, check_files, None, columns, described)
    measured = read_holdout(model, chosen, holdout, columns, described)
    stages = STAGES if quantize is None else STAGES + QUANTIZE_STAGES
    notes: list[str] = []
    with progress_bar("compiling", stages) as advance:
        artifact = compile_model(
            model,
            target=target,
            mode=mode,
            window=window,
            hop=hop,
            carry_across_windows=carry_across_windows,
            smooth=smooth,
            chunk=chunk,
            lookahead=lookahead,
            attention_context=attention_context,
            shapes=shapes,
            constants=constants,
            name=name,
            target_options=pairs,
            rate_hz=rate_hz,
            dump=dump,
            check=check,
            check_input=cast("Recordings | None", check_input),
            quantize=quantize,
            calibration=given,
            max_error=max_error,
            quantize_options=make_options(ranges, percentile, equalize, integer_io),
            **told,
            holdout=measured,
            force=force,
            keep=parse_kept(keep),
            carry=False if no_carry else carry,
            overlap=overlap,
            progress=lambda stage: advance(0 if ": " in stage else 1),
            note=notes.append,
        )
    for text in notes:
        click.echo(f"note: {text}", err=True)
    size = artifact.save(path, protect=protect)
    report = summarize(artifact, path, size, time.perf_counter() - start)
    record = artifact.manifest.get("quantization") or {}
    for warning in artifact.warnings:
        click.echo(f"warning: {warning}", err=True)
    warnings = (record.get("calibration") or {}).get("warnings", [])
    for warning in named_warnings(warnings, calibrate, given):
        say(f"warning: {warning}", err=True)
    for warning in (record.get("held_out") or {}).get("warnings", []):
        say(f"warning: {warning}", err=True)
    # Standard output may carry the artifact.
    if as_json:
        print_json(report, err=str(path) == STANDARD)
    else:
        say(_as_text(report), err=str(path) == STANDARD)


def summarize(artifact: Artifact, path: Path, size_bytes: int, seconds: float) -> dict[str, Any]:
    """What was made, as JSON data."""
    manifest = artifact.manifest
    return {
        "artifact": str(path),
        "bytes": size_bytes,
        "target": manifest["target"]["name"],
        "mode": artifact.signature.mode,
        "frames_of_step": frames_of_step(artifact.signature),
        "inputs": {spec.name: list(spec.shape) for spec in artifact.signature.inputs},
        "outputs": {spec.name: list(spec.shape) for spec in artifact.signature.outputs},
        "weights_bytes": manifest["memory"]["weights_bytes"],
        "state_bytes": manifest["memory"]["state_bytes"],
        "macs": manifest["macs"],
        "check": manifest["check"],
        "window": manifest.get("window"),
        "lookahead": _describe_lookahead(artifact),
        "attention": manifest.get("attention"),
        "warnings": list(artifact.warnings),
        "quantization": manifest.get("quantization"),
        "layers": layer_rows(manifest) if "quantization" in manifest else [],
        "seconds": round(seconds, 3),
    }


def _as_text(report: dict[str, Any]) -> str:
    check = report["check"]
    verdict = "not compared with the model"
    if check["done"]:
        verdict = f"agrees with {check['against']} within {check['max_error']:g}"
    elif check.get("reason"):
        verdict = f"not checked: {check['reason']}"
    count = report["frames_of_step"]
    frames = f", {count} frames a step" if count > 1 else ""
    return "\n".join(
        [
            f"{report['artifact']}: {report['bytes']} bytes for {report['target']}, "
            f"mode {report['mode']}{frames}, in {report['seconds']:.1f} s",
            f"  inputs   {_shapes(report['inputs'])}",
            f"  outputs  {_shapes(report['outputs'])}",
            f"  weights  {report['weights_bytes']} bytes, state {report['state_bytes']} bytes, "
            f"{report['macs']} multiply-accumulates",
            f"  check    {verdict}",
            *_lookahead(report),
            *_attention(report),
            *_quantization(report),
        ]
    )


def _describe_lookahead(artifact: Artifact) -> dict[str, Any] | None:
    """Frames, delay and cost of a look-ahead, and what it leaves out where that was measured."""
    plan = artifact.signature.lookahead
    if plan is None:
        return None
    far = artifact.manifest["check"].get("deviation", {})
    return {
        "chunk": plan.chunk,
        "ahead": plan.ahead,
        "delay": [plan.ahead, plan.delay],
        "cost": plan.span / plan.chunk,
        "distance_to_whole": far,
        "text": [say_cost(plan, artifact.signature.rate_hz), *say_deviation(far, plan)],
    }


def _lookahead(report: dict[str, Any]) -> list[str]:
    found = report["lookahead"]
    if found is None:
        return []
    cost, *far = found["text"]
    return [f"  ahead    {cost}", *(f"  {line}" for line in far)]


def _attention(report: dict[str, Any]) -> list[str]:
    first, *far = say_attention(report["attention"]) or [""]
    return [f"  context  {first}", *(f"  {line}" for line in far)] if first else []


def _quantization(report: dict[str, Any]) -> list[str]:
    record = report["quantization"]
    return [] if record is None else describe_quantization(record, report["layers"])


def _shapes(specs: dict[str, list[int]]) -> str:
    return ", ".join(f"{name}{shape}" for name, shape in specs.items())
