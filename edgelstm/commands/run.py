"""`edgelstm run`: a recording or a live stream through a compiled model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import click
import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import format_ns, json_option, print_json, progress_bar, say
from edgelstm.errors import RecordingError
from edgelstm.streams.columns import to_frames
from edgelstm.streams.files import (
    FORMATS,
    STANDARD,
    Format,
    is_same_file,
    open_input,
    open_output,
    open_sink,
    open_source,
)
from edgelstm.streams.ndjson import NdjsonSource
from edgelstm.streams.numpy_arrays import pick_arrays, read_arrays, write_arrays
from edgelstm.streams.replay import BadSamplePolicy, Replay

_FORMAT = click.Choice(list(FORMATS))


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "-i",
    "input_path",
    default=STANDARD,
    show_default=True,
    help="Recording: CSV, NDJSON, NPY or NPZ; - is standard input, answered line by line.",
)
@click.option(
    "--output",
    "-o",
    "output_path",
    default=STANDARD,
    show_default=True,
    help="Predictions, in the format of the suffix; - is standard output.",
)
@click.option("--input-format", type=_FORMAT, help="Instead of what the suffix says.")
@click.option("--output-format", type=_FORMAT, help="Instead of what the suffix says.")
@click.option(
    "--columns",
    default="",
    metavar="A,B,...",
    help="Columns that feed the inputs, in the order of their elements. Without: columns named "
    "like the inputs (x[0], x[1], ...), else all columns of numbers except time stamps and labels.",
)
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="Pass this column through to the output."
)
@click.option("--no-header", is_flag=True, help="The CSV begins with numbers: columns 0, 1, ...")
@click.option(
    "--on-bad-sample",
    type=click.Choice([policy.value for policy in BadSamplePolicy]),
    default=BadSamplePolicy.RAISE.value,
    show_default=True,
    help="For NaN, infinity or a missing value: stop; skip the frame; hold the last good one; or "
    "skip it and reset the state. They are counted and reported.",
)
@click.option("--quiet", "-q", is_flag=True, help="No summary.")
@loading_options
@json_option
def run_command(
    artifact: Path,
    input_path: str,
    output_path: str,
    input_format: Format | None,
    output_format: Format | None,
    columns: str,
    keep: tuple[str, ...],
    no_header: bool,
    on_bad_sample: str,
    quiet: bool,
    load: Loader,
    as_json: bool,
) -> None:
    """Feed a recording, or standard input as it arrives, to ARTIFACT and write its predictions.

    Models compiled with --mode call take NPY or NPZ files of whole inputs.

    \b
    edgelstm run phase.edgelstm --input walk.csv --output phases.csv --keep time
    edgelstm run phase.edgelstm --columns ax,ay,az,gx,gy,gz --input walk.csv
    sensor | edgelstm run phase.edgelstm --on-bad-sample hold > phases.csv
    """
    model = load(artifact)
    if is_same_file(input_path, output_path):
        raise RecordingError(f"{output_path} is the input: name another file for the output")
    if model.signature.mode == "call":
        summary = _call(model, input_path, output_path, output_format)
    else:
        wanted = [name for name in columns.split(",") if name.strip()]
        with open_source(
            input_path, model.signature, input_format, wanted, keep, not no_header
        ) as source:
            if output_path == STANDARD and output_format is None:
                output_format = "ndjson" if isinstance(source, NdjsonSource) else "csv"
            with open_sink(output_path, model.signature, output_format, source.kept) as sink:
                replay = Replay(
                    model.session(),
                    source,
                    sink,
                    BadSamplePolicy(on_bad_sample),
                    is_live=source.total is None,
                )
                summary = _stream(replay, model, quiet=quiet, as_json=as_json)
    if as_json:
        # Standard output may carry the predictions.
        print_json(summary, err=output_path == STANDARD)


def _stream(replay: Replay, model: Artifact, quiet: bool, as_json: bool) -> dict[str, Any]:
    source = replay.source
    if replay.is_live:
        # A reader may wait for the header before it sends the first sample.
        replay.sink.flush()
    read = 0
    try:
        with progress_bar(model.name, source.total) as advance:

            def progress() -> None:
                nonlocal read
                advance(source.done - read)
                read = source.done

            replay.run(progress)
    finally:
        summary = _summarize(replay, model)
        if not quiet and not as_json:
            _print_summary(summary)
    return summary


def _summarize(replay: Replay, model: Artifact) -> dict[str, Any]:
    return {
        "artifact": model.name,
        "engine": dict(replay.session.kernel.facts),
        "frames": replay.frames_in,
        "predictions": replay.frames_out,
        "bad_frames": replay.bad_frames,
        "on_bad_sample": replay.policy.value,
        "columns": {name: list(names) for name, names in replay.source.mapping.items()},
        "ns_per_step": round(replay.model_ns / max(replay.frames_out, 1), 1),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    fed = "; ".join(f"{name} from {', '.join(names)}" for name, names in summary["columns"].items())
    text = f"{summary['predictions']} predictions from {summary['frames']} frames"
    if summary["predictions"]:
        text += f", {format_ns(summary['ns_per_step'])} a step"
    if summary["bad_frames"]:
        text += f", {summary['bad_frames']} bad frames ({summary['on_bad_sample']})"
    say(f"{text} ({fed})", err=True)


def _call(
    model: Artifact, input_path: str, output_path: str, output_format: Format | None
) -> dict[str, Any]:
    """One call on whole arrays."""
    is_npz = (output_format or Path(output_path).suffix.lower().lstrip(".")) != "npy"
    if output_path == STANDARD and sys.stdout.isatty():
        raise RecordingError("arrays are not for a terminal: name a file, --output result.npz")
    if not is_npz and len(model.signature.outputs) > 1:
        raise RecordingError("NPY holds one array, the model has several outputs: use .npz")
    with open_input(input_path) as file:
        data = file.read()
    specs = model.signature.inputs
    arrays = pick_arrays(read_arrays(data, input_path), specs, input_path)
    inputs = {}
    for spec in specs:
        array = arrays[spec.name]
        if array.shape != spec.shape:
            raise RecordingError(
                f"{input_path}: input {spec.name!r} has shape {spec.shape}, got {array.shape}"
            )
        inputs[spec.name] = to_frames(array[None], spec, input_path)[0]
    with model.session() as session:
        result = session.call(inputs)
    outputs = model.signature.outputs
    results = {outputs[0].name: result} if len(outputs) == 1 else result
    with open_output(output_path) as file:
        write_arrays(file, cast("dict[str, np.ndarray[Any, Any]]", results), is_npz)
    return {
        "artifact": model.name,
        "engine": dict(model.kernel.facts),
        "outputs": {name: list(array.shape) for name, array in results.items()},
    }
