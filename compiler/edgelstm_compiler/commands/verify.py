"""`edgelstm verify`: an artifact beside the model it was compiled from."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import MismatchError, RecordingError
from edgelstm.streams.recording import read_frames
from edgelstm_compiler.commands.recordings import read_recordings
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.restore import restore
from edgelstm_compiler.quant_report.synthetic import synthetic_recording
from edgelstm_compiler.quant_report.verification import QuantizedVerification, verify_quantized
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
BEST = "best"
"""The first instruction set of an artifact."""


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
@click.option(
    "--emulate",
    "isa",
    is_flag=False,
    flag_value=BEST,
    metavar="[ISA]",
    help="Run the ARM code on an emulated processor (pip install 'edgelstm[emulate]').",
)
@loading_options
@json_option
def verify_command(
    artifact: Path,
    model: Path,
    source: Path | None,
    columns: str | None,
    frames: int | None,
    tolerance: float,
    isa: str | None,
    load: Loader,
    as_json: bool,
) -> None:
    """Compare ARTIFACT with its model, step by step or call by call; exit code 3 on FAIL.

    A quantized artifact must compute what its schemes define (int8-full: bit for bit); how far
    that is from the float32 model is told, and nothing fails for it.

    \b
    Examples:
      edgelstm verify gait.edgelstm --model gait.onnx
      edgelstm verify gait.edgelstm --model gait.onnx --input trial.csv
      edgelstm verify gait_m4.edgelstm --model gait.onnx --emulate
    """
    compiled = load(artifact)
    if isa is not None:
        compiled = emulate(compiled, None if isa == BEST else isa)
    original = read_model(model)
    expect_same_model(compiled, original)
    if "quantization" in compiled.manifest:
        checked = _verify_quantized(compiled, original, source, columns, frames)
        if as_json:
            print_json(checked.to_json())
        else:
            say("\n".join([_as_text(checked.defined), *_distance(checked)]))
        if not checked.passed:
            raise MismatchError(f"{artifact} does not compute what its quantization defines")
        return
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
        say(_as_text(result))
    if not result.passed:
        raise MismatchError(f"{artifact} does not compute what {model} computes")


def _verify_quantized(
    compiled: Artifact,
    original: OnnxModel,
    source: Path | None,
    columns: str | None,
    frames: int | None,
) -> QuantizedVerification:
    restored = restore(compiled, original)
    recordings: list[Recording]
    if source is None:
        recordings = [synthetic_recording(restored, frames or RANDOM_FRAMES)]
    else:
        signature = make_signature(restored.float_graph)
        recordings = read_recordings([source], signature, columns)
        if frames is not None and signature.mode == "stream":
            timed = {spec.name for spec in signature.inputs if spec.time_axis is not None}
            recordings = [
                {name: x[:frames] if name in timed else x for name, x in item.items()}
                for item in recordings
            ]
    return verify_quantized(restored, recordings)


def _distance(result: QuantizedVerification) -> list[str]:
    lines = ["distance to the float32 model (told, not judged):"]
    for name, error in result.distance.items():
        same = "" if error.agreement is None else f", same decision {100 * error.agreement:.2f} %"
        lines.append(
            f"  {name}: SQNR {error.sqnr_db:.1f} dB, max error {error.max_error:.3g}, "
            f"mean {error.mean_error:.3g}, RMS {error.rms_error:.3g}{same}"
        )
    return lines


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
