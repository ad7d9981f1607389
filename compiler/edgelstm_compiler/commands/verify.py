"""`edgelstm verify`: an artifact beside the model it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import MismatchError, RecordingError
from edgelstm.io.columns import split_names
from edgelstm.io.recording import read_frames
from edgelstm.sessions import mode_of
from edgelstm_compiler.attention_distance import measured_again, say_attention
from edgelstm_compiler.carried_check import check_carried
from edgelstm_compiler.carried_verification import carried_of, verify_carried
from edgelstm_compiler.check_inputs import Domain, draw_white, find_domains, types_of
from edgelstm_compiler.chunk_verification import expect_chunks
from edgelstm_compiler.commands.recordings import read_recordings
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lookahead_check import check_lookahead
from edgelstm_compiler.lookahead_verification import say_deviation, verify_lookahead
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.restore import restore
from edgelstm_compiler.quant_report.synthetic import synthetic_recording
from edgelstm_compiler.quant_report.verification import QuantizedVerification, verify_quantized
from edgelstm_compiler.selfcheck import check_artifact
from edgelstm_compiler.verification import (
    Verification,
    as_compiled,
    domains_of,
    fixed_length,
    random_call,
    random_frames,
    verify_call,
    verify_stream,
    with_fixed_inputs,
)
from edgelstm_compiler.window_verification import chunk_of, verify_windows

RANDOM_FRAMES = 1000
CARRIED_STEPS = 200
"""Steps of a model that is called once for each of them."""

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
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest error, times the largest magnitude beyond 1.  [default: 1e-5, or the noise floor "
    "of float32 where that is larger: both sides are then compared with float64]",
)
@click.option(
    "--emulate",
    "isa",
    is_flag=False,
    flag_value=BEST,
    metavar="[ISA]",
    help="Run the ARM code on an emulated processor (the extra `emulate`).",
)
@loading_options
@json_option
def verify_command(
    artifact: Path,
    model: Path,
    source: Path | None,
    columns: str | None,
    frames: int | None,
    tolerance: float | None,
    isa: str | None,
    load: Loader,
    as_json: bool,
) -> None:
    """Compare ARTIFACT with its model, step by step or call by call; exit code 3 on FAIL.

    Where the outputs agree, states and what stands before softmax and the like are compared too,
    on random input as `compile` does it: saturated outputs hide a wrong weight.

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
    read = read_model(model)
    original = as_compiled(compiled, read)
    if "quantization" in compiled.manifest:
        checked = _verify_quantized(compiled, original, source, columns, frames)
        if as_json:
            print_json(checked.to_json())
        else:
            say("\n".join([_as_text(checked.defined), *_distance(checked)]))
        inner = _verify_chunks(compiled)
        if inner:
            raise MismatchError(
                f"{artifact} does not compute what its quantization defines: {inner}"
            )
        if not checked.passed:
            raise MismatchError(f"{artifact} does not compute what its quantization defines")
        return
    windows = compiled.signature.window
    plan = compiled.signature.lookahead
    far: Mapping[str, Mapping[str, Any]] = {}
    attention: Mapping[str, Any] = {}
    if not mode_of(compiled.signature.mode).has_blocks:
        if source is None:
            inputs = random_call(compiled, domains=_domains(compiled, original))
        else:
            inputs = _read_call(source)
        result = verify_call(compiled, original, inputs, tolerance)
    else:
        carried = carried_of(compiled, original)
        if source is None:
            count = frames or (
                CARRIED_STEPS if carried is not None else fixed_length(original, compiled)
            )
            count = count or RANDOM_FRAMES
            if windows is not None:
                count = max(count, windows.frames + 2 * windows.hop + 1)
            block = random_frames(compiled, count, domains=_domains(compiled, original))
        else:
            chosen = split_names(columns or "")
            names = compiled.description.names(compiled.signature)
            block = read_frames(source, compiled.signature, chosen, names)
            block = {name: x[:frames] for name, x in block.items()}
        if carried is not None:
            result = verify_carried(compiled, carried, block, tolerance)
        elif windows is not None:
            result = verify_windows(compiled, original, block, tolerance)
        elif plan is not None:
            result, found = verify_lookahead(
                compiled, restore(compiled, original), block, tolerance
            )
            far = {name: error.to_json() for name, error in found.items()}
        else:
            result = verify_stream(compiled, original, block, tolerance)
            whole = with_fixed_inputs(compiled, read)
            attention = measured_again(compiled, (whole, original), block, source is not None)
    inner = ""
    if result.passed:
        inner = _verify_inside(compiled, original) or _verify_chunks(compiled)
    if as_json:
        report = result.to_json()
        report |= {"passed": report["passed"] and not inner, "inside": inner or None}
        if plan is not None:
            report["distance_to_whole"] = far
        if attention:
            report["attention"] = attention
        print_json(report)
    else:
        told = say_attention(attention) if plan is None else say_deviation(far, plan)
        say("\n".join([_as_text(result, inner), *told]))
    if inner:
        raise MismatchError(f"{artifact} does not compute what {model} computes: {inner}")
    if not result.passed:
        raise MismatchError(f"{artifact} does not compute what {model} computes")


def _domains(compiled: Artifact, original: OnnxModel) -> dict[str, Domain]:
    """What random input is drawn from: as the self-check found it, or found now.

    Raises:
        RecordingError: the model gives nothing finite on whatever is drawn.
    """
    known = domains_of(compiled)
    if known:
        return known
    restored = restore(compiled, original)
    is_carried = restored.binding.carried is not None
    graph = restored.float_graph if is_carried else restored.binding.graph
    types = types_of(graph)
    found = find_domains(graph, lambda domains: draw_white(types, domains))
    if found is None:
        raise RecordingError(
            "the model is not defined on random input: give a recording by --input FILE"
        )
    return found


def _verify_inside(compiled: Artifact, original: OnnxModel) -> str:
    """What the self-check finds: states, logits and cuts that the outputs alone may not show."""
    compiled = chunk_of(compiled) if compiled.signature.window is not None else compiled
    restored = restore(compiled, original)
    try:
        if compiled.signature.lookahead is not None:
            check_lookahead(compiled, original, restored.binding, restored.float_graph)
        elif restored.binding.carried is not None:
            check_carried(compiled, restored.binding.carried, restored.float_graph)
        else:
            check_artifact(compiled, original, restored.binding, restored.float_graph)
    except MismatchError as error:
        return str(error)
    return ""


def _verify_chunks(compiled: Artifact) -> str:
    """Steps of several frames beside steps of one, on random input; "" where they agree."""
    if compiled.signature.chunk == 1:
        return ""
    frames = random_frames(compiled, 3 * compiled.signature.chunk + 1)
    try:
        expect_chunks(compiled, frames)
    except MismatchError as error:
        return str(error)
    return ""


def _verify_quantized(
    compiled: Artifact,
    original: OnnxModel,
    source: Path | None,
    columns: str | None,
    frames: int | None,
) -> QuantizedVerification:
    compiled = chunk_of(compiled) if compiled.signature.window is not None else compiled
    restored = restore(compiled, original)
    recordings: list[Recording]
    if source is None:
        recordings = [synthetic_recording(restored, frames or RANDOM_FRAMES)]
    else:
        signature = restored.recorded
        recordings = read_recordings(
            [source], signature, columns, described=compiled.description.names(signature)
        )
        timed = {spec.name for spec in signature.inputs if spec.time_axis is not None}
        if frames is not None:
            recordings = [
                {name: x[:frames] if name in timed else x for name, x in item.items()}
                for item in recordings
            ]
        recordings = restored.steps_of(recordings)
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


def _as_text(result: Verification, inner: str = "") -> str:
    lines = [f"against {result.against}, {result.steps} steps"]
    for output in result.outputs:
        verdict = "PASS" if output.passed else f"FAIL from step {output.first_beyond}"
        lines.append(
            f"  {output.name}: max error {output.max_error:.3g}, mean {output.mean_error:.3g}, "
            f"limit {output.limit:.3g}, {output.compared} values: {verdict}"
        )
    if inner:
        lines.append(f"  inside: FAIL: {inner}")
    lines.append("PASS" if result.passed and not inner else "FAIL")
    return "\n".join(lines)
