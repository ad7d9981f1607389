"""`edgelstm debug`: where in the program an artifact's error comes from."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_json, print_table, say
from edgelstm.errors import MismatchError
from edgelstm_compiler.commands.recordings import read_recordings
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.recordings import limited
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.bisect import Bisection, bisect
from edgelstm_compiler.quant_report.restore import restore
from edgelstm_compiler.quant_report.synthetic import synthetic_recording


@click.command("debug")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path), help="The ONNX model.")
@click.option(
    "--input",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recording (call mode: NPZ windows). May be repeated.  [default: seeded input]",
)
@click.option("--columns", help="Columns of the recordings, separated by commas.")
@click.option("--frames", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--budget",
    "budget_db",
    type=click.FloatRange(1, 200),
    help="Signal-to-noise ratio in dB allowed at the end.  [default: by the coarsest scheme]",
)
@json_option
def debug_command(
    artifact: Path,
    model: Path,
    files: tuple[Path, ...],
    columns: str | None,
    frames: int,
    budget_db: float | None,
    as_json: bool,
) -> None:
    """Follow the error of ARTIFACT through its program, tensor by tensor and gate by gate.

    A quantized program is held against the float32 one, a float32 program against float64. Exit
    code 3 where the compiled code is not what its program defines.

    \b
    edgelstm debug gait.edgelstm --model gait.onnx --input walk.csv
    """
    loaded = Artifact.load(artifact)
    restored = restore(loaded, read_model(model))
    recordings: list[Recording]
    if files:
        signature = restored.recorded
        recordings = restored.steps_of(
            read_recordings(
                files, signature, columns, described=loaded.description.names(signature)
            )
        )
        recordings = limited(recordings, restored.float_graph, frames)
    else:
        recordings = [synthetic_recording(restored, min(frames, 1000))]
    result = bisect(restored, recordings, budget_db)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)
    if not result.code_passed:
        raise MismatchError(result.code)


def _print(result: Bisection) -> None:
    say(f"against {result.against}, budget {result.budget_db:g} dB at the end")
    rows = [
        [
            "->" if item is result.first else "",
            item.name,
            item.kind,
            "exact" if item.sqnr_db is None else f"{item.sqnr_db:.1f} dB",
            f"{item.share_db:.1f} dB",
            f"{item.rms_error:.3g}",
            f"{item.max_error:.3g}",
            "beyond its share" if item.is_beyond else "",
        ]
        for item in result.tensors
    ]
    print_table(["", "tensor", "kind", "SQNR", "share", "RMS error", "max error", ""], rows, 0)
    if result.alone:
        say("each layer quantized alone, SQNR at the outputs:")
        for name, decibel in sorted(result.alone.items(), key=lambda item: item[1] or 999.0):
            say(f"  {name}: {'exact' if decibel is None else f'{decibel:.1f} dB'}")
    first = result.first
    if first is None:
        say("no tensor is beyond its share")
    else:
        found = 0.0 if first.sqnr_db is None else first.sqnr_db
        say(
            f"first beyond its share: {first.name} ({first.kind} of {first.layer}): "
            f"{found:.1f} dB, {first.share_db:.1f} dB allowed"
        )
    say(f"code: {result.code}")
