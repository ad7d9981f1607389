"""`edgelstm report`: what quantizing did to a model, as a page for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_json, print_table, progress_bar, say
from edgelstm.install_hint import install_hint
from edgelstm.outputs import STANDARD, check_output, write_output
from edgelstm_compiler.commands.recordings import read_recordings
from edgelstm_compiler.onnx_import.files import model_files
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant.support_table import support_rows
from edgelstm_compiler.quant_report.collect import Settings, collect
from edgelstm_compiler.quant_report.page import (
    decibel,
    percent,
    render_page,
    saturation_text,
    split_texts,
)
from edgelstm_compiler.quant_report.plots import draw_all, plots_available
from edgelstm_compiler.quant_report.restore import Restored, restore

STAGES = 6
NO_PLOTS = f"There are no figures: {install_hint('report')} brings matplotlib."


@click.command("report")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX model it is from.")
@click.option(
    "--input",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Held-out recording (call mode: NPZ windows). May be repeated.",
)
@click.option(
    "--calibrate",
    "calibrate",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recording that it was calibrated with, to measure on that too. May be repeated.",
)
@click.option("--columns", help="Columns of the recordings, separated by commas.")
@click.option(
    "--drift-steps",
    default=None,
    show_default="100000, or what NumPy does in a minute",
    type=click.IntRange(min=0),
    help="Frames of the long run; 0: none.",
)
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Spent on measuring speed; 0: not measured.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="HTML page to write.",
)
@json_option
def report_command(
    artifact: Path,
    model: Path | None,
    files: tuple[Path, ...],
    calibrate: tuple[Path, ...],
    columns: str | None,
    drift_steps: int | None,
    seconds: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Tell what quantizing did to ARTIFACT: layers, errors, drift and speed against float32.

    Without --model only what the artifact itself holds is told.

    \b
    edgelstm report gait.edgelstm --model gait.onnx --input other_person.csv -o report.html
    edgelstm report gait.edgelstm --model gait.onnx --input other_person.csv --json
    """
    if model is None and (files or calibrate):
        raise click.UsageError("--input and --calibrate need --model MODEL.onnx")
    protect = [artifact, *(model_files(model) if model is not None else []), *files, *calibrate]
    if output is not None:
        check_output(output, protect)
    loaded = Artifact.load(artifact)
    restored: Restored | None = None
    held_out: Sequence[Recording] = []
    seen: Sequence[Recording] = []
    if model is not None:
        restored = restore(loaded, read_model(model))
        loaded, signature = restored.artifact, restored.recorded
        names = loaded.description.names(signature)
        held_out, seen = (
            restored.steps_of(read_recordings(paths, signature, columns, described=names))
            for paths in (files, calibrate)
        )
    settings = Settings(drift_steps=drift_steps, seconds=seconds)
    with progress_bar("measuring", STAGES) as advance:
        report, curves = collect(
            loaded, restored, seen, held_out, settings, lambda stage: advance(1)
        )
    if output is not None:
        drawn = plots_available()
        figures = draw_all(report, curves) if drawn else {}
        page = render_page(report, figures, support_rows(), "" if drawn else NO_PLOTS)
        write_output(output, page.encode(), protect)
    is_taken = str(output) == STANDARD
    if as_json:
        print_json(report, err=is_taken)
        return
    if is_taken:
        return
    _print(report)
    if output is not None:
        say(f"page: {output}")


def _print(report: dict[str, Any]) -> None:
    say(f"{report['name']}: {report['scheme']} for {report['target']}")
    rows = [
        [
            row["name"],
            row["scheme"],
            row["bytes_before"],
            row["bytes_after"],
            decibel(row["weight_sqnr_db"]),
            decibel(row["output_sqnr_db"]),
            saturation_text(row.get("saturation", {})),
        ]
        for row in report["layers"]
    ]
    print_table(["layer", "scheme", "fp32", "bytes", "weights", "output", "saturated"], rows)
    split = [list(texts) for texts in split_texts(report["layers"])]
    if split:
        say("rounding the weights of one matrix of one gate alone, dB of the worst output:")
        print_table(["layer", "matrix", "gates"], split)
    errors = [
        [
            where,
            name,
            decibel(error["sqnr_db"]),
            f"{error['max_error']:.3g}",
            f"{error['mean_error']:.3g}",
            f"{error['rms_error']:.3g}",
            percent(error["agreement"]),
        ]
        for where, outputs in report["errors"].items()
        for name, error in outputs.items()
    ]
    if errors:
        say("error against float32:")
        print_table(["on", "output", "SQNR", "max", "mean", "RMS", "same decision"], errors)
    for text in report["verdicts"]:
        say(f"- {text}")
    for warning in (report["calibration"] or {}).get("warnings", []):
        say(f"warning: {warning}", err=True)
