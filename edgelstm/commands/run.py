"""`edgelstm run`: a recording or a live stream through a compiled model."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any, Protocol

import click

from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import format_ns, json_option, print_json, progress_bar, say
from edgelstm.commands.run_live import LIVE_ONLY, RECORDING_ONLY, run_live
from edgelstm.commands.run_settings import Given, given_settings
from edgelstm.commands.time_options import time_options
from edgelstm.errors import RecordingError
from edgelstm.interruption import StopRequest
from edgelstm.io.columns import split_names
from edgelstm.io.files import FORMATS, Format
from edgelstm.io.numbers import Decimal
from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.settings import QueuePolicy
from edgelstm.io.stream_run import Progress, StreamOptions
from edgelstm.io.windows import stream_warnings
from edgelstm.outputs import STANDARD, check_output
from edgelstm.sessions import SessionMode, mode_of


class Run(Protocol):
    """What a mode does with a recording; `SessionMode.runner` names its class."""

    def run(self, stop: StopRequest, show: Progress) -> None:
        """Run to the end of the source."""

    def summary(self) -> dict[str, Any] | None:
        """What happened so far; None before there was anything."""


_FORMAT = click.Choice(list(FORMATS))


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="PATH|ADDRESS",
    help="Recording: CSV, NDJSON, NPY or NPZ; - is standard input, answered line by line "
    "(the default). Or a live source: serial:/dev/ttyUSB0?baud=115200, mqtt://host/topic, "
    "lsl:name=IMU, udp://:9000, tcp://host:9000, ble:ADDRESS, stdin:, file:walk.csv; again for "
    "each sensor of the model.",
)
@click.option(
    "--output",
    "-o",
    "outputs",
    multiple=True,
    metavar="PATH|ADDRESS",
    help="Predictions, in the format of the suffix; - is standard output (the default). Or a live "
    "sink: store:ward.db, mqtt://host/topic, lsl:name=phase, udp://host:9001, prometheus://:9464, "
    "parquet:out.parquet, fhir:out.ndjson, stdout:; again for each one.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with all of this; what the command line says comes first.",
)
@click.option("--input-format", type=_FORMAT, help="Instead of what the suffix says.")
@click.option("--output-format", type=_FORMAT, help="Instead of what the suffix says.")
@click.option(
    "--columns",
    default="",
    metavar="A,B,...",
    help="Columns that feed the inputs, in the order of their elements. Without: columns named "
    "like the inputs (x[0], x[1], ...), or as the artifact says (see inspect), else all columns of "
    "numbers except time stamps, counters and labels. Quote names that hold commas.",
)
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="Pass this column through to the output."
)
@click.option("--no-header", is_flag=True, help="The CSV begins with numbers: columns 0, 1, ...")
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="Decimal sign of the CSV.  [default: as its numbers show]",
)
@click.option(
    "--on-bad-sample",
    type=click.Choice([policy.value for policy in BadSamplePolicy]),
    default=BadSamplePolicy.RAISE.value,
    show_default=True,
    help="For NaN, infinity, a missing value or a malformed line: stop; skip the frame; hold the "
    "last good one; or skip it and reset the state. They are counted and reported, by reason.",
)
@click.option(
    "--state-file",
    type=click.Path(path_type=Path),
    help="Keep the state of the stream here, with the number of the last frame; written whole or "
    "not at all, again and again and at the end. Behind a pipe that ends, the stream goes on with "
    "the next one.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue behind the last frame of the state file, and append to the output. Without a "
    "state file there the stream begins anew.",
)
@click.option(
    "--state-every",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two states while frames come.",
)
@click.option(
    "--reset-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Begin anew with the initial state after every N frames fed: windows as in training.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="HZ", help="Of the samples."
)
@click.option("--realtime", is_flag=True, help="Recordings come at the pace of their time stamps.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="With --realtime: that many times faster.",
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Live: without a sample for so long there is no prediction, which is said.  [default: 2]",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    metavar="N",
    help="Live: samples that each source may have waiting.  [default: 8192]",
)
@click.option(
    "--queue-policy",
    type=click.Choice([policy.value for policy in QueuePolicy]),
    help="Live: for more than that.  [default: files, pipes and TCP wait, others lose the oldest]",
)
@time_options
@click.option("--quiet", "-q", is_flag=True, help="No summary.")
@loading_options
@json_option
def run_command(
    artifact: Path | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    config: Path | None,
    input_format: Format | None,
    output_format: Format | None,
    columns: str,
    keep: tuple[str, ...],
    no_header: bool,
    decimal: Decimal | None,
    on_bad_sample: str,
    state_file: Path | None,
    resume: bool,
    state_every: float,
    reset_every: int | None,
    rate: float | None,
    realtime: bool,
    speed: float | None,
    silence: float | None,
    queue: int | None,
    queue_policy: str | None,
    time_settings: dict[str, Any] | None,
    quiet: bool,
    load: Loader,
    as_json: bool,
) -> None:
    """Feed a recording, standard input or sensors to ARTIFACT and write its predictions.

    Models compiled with --mode call take whole inputs: NPY or NPZ files of one call, or of several
    along a further first axis; a CSV file whose rows fill the input; NDJSON, a line a call.

    \b
    edgelstm run phase.edgelstm --input walk.csv --output phases.csv --keep time
    edgelstm run phase.edgelstm --columns ax,ay,az,gx,gy,gz --input walk.csv
    edgelstm run squat.edgelstm --input squats.csv --reset-every 240
    sensor | edgelstm run phase.edgelstm --on-bad-sample hold > phases.csv
    edgelstm run phase.edgelstm -i serial:/dev/ttyUSB0 -o store:ward.db -o mqtt://broker/phases
    edgelstm run --config ward.toml
    """
    given = given_settings(
        inputs,
        outputs,
        {
            "columns": tuple(split_names(columns)) if columns else None,
            "rate_hz": rate,
            "policy": BadSamplePolicy(on_bad_sample) if _is_given("on_bad_sample") else None,
            "reset_every": reset_every,
            "is_realtime": realtime or None,
            "speed": speed,
            "silence_s": silence,
            "queue_samples": queue,
            "queue_policy": None if queue_policy is None else QueuePolicy(queue_policy),
            "time": time_settings,
        },
        config,
    )
    artifact = artifact or given.artifact
    if artifact is None:
        raise click.UsageError("Missing argument 'ARTIFACT'.")
    if given.is_live or any(map(_is_given, LIVE_ONLY)):
        for name, instead in RECORDING_ONLY.items():
            if _is_given(name):
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for recordings, and this run is live; {instead}"
                )
        protect = [artifact] if config is None else [artifact, config]
        run_live(load(artifact), given.settings, protect, quiet, as_json)
        return
    settings = given.settings
    (input_path,), (output_path,) = settings.streams[0].inputs, settings.outputs
    reset_every = settings.reset_every
    if config is not None:
        columns = ",".join(f'"{name}"' for name in settings.columns)
        on_bad_sample = given.policy(on_bad_sample)
    if state_file is None and (resume or _is_given("state_every")):
        raise click.UsageError("--resume and --state-every are for --state-file FILE")
    model = load(artifact)
    options = StreamOptions(
        input_path=input_path,
        output_path=output_path,
        protect=(artifact,),
        input_format=input_format,
        output_format=output_format,
        columns=split_names(columns),
        keep=keep,
        has_header=not no_header,
        decimal=decimal,
        policy=BadSamplePolicy(on_bad_sample),
        state_path=state_file,
        is_resumed=resume,
        save_every_s=state_every,
        reset_every=reset_every,
    )
    check_output(output_path, (artifact, input_path), RecordingError)
    mode = mode_of(model.signature.mode)
    _expect_options(mode, given)

    def say(remark: str) -> None:
        if not as_json:
            click.echo(f"warning: {remark}", err=True)

    told = stream_warnings(model, reset_every)
    for text in () if quiet else told:
        say(text)
    run: Run = pkgutil.resolve_name(mode.runner)(model, options, say)
    summary: dict[str, Any] | None = None
    try:
        with StopRequest() as stop:
            run.run(stop, lambda source: progress_bar(model.name, source.total))
    finally:
        summary = run.summary()
        if summary is not None and not quiet and not as_json:
            _print_summary(summary)
    if as_json:
        if summary is not None and "warnings" in summary:
            summary["warnings"] = [*told, *summary["warnings"]]
        # Standard output may carry the predictions.
        print_json(summary, err=output_path == STANDARD)


def _expect_options(mode: SessionMode, given: Given) -> None:
    """Refuse what means nothing for the artifact's mode, wherever it is said.

    Raises:
        click.UsageError: names the option.
    """
    for name in mode.refused_options:
        option = name.replace("_", "-")
        if _is_given(name):
            raise click.UsageError(f"--{option} {mode.why_refused}: leave it out")
        if {"on_bad_sample": "policy"}.get(name, name) in given.values and given.file is not None:
            raise click.UsageError(f"{given.file}: {option} {mode.why_refused}: leave it out")


def _is_given(name: str) -> bool:
    """Whether an option stands on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def _print_summary(summary: dict[str, Any]) -> None:
    if "calls" in summary:
        calls = summary["calls"]
        click.echo(f"{calls} call{'' if calls == 1 else 's'}", err=True)
        return
    fed = "; ".join(f"{name} from {', '.join(names)}" for name, names in summary["columns"].items())
    text = f"{summary['predictions']} predictions from {summary['frames']} frames"
    if summary["predictions"]:
        text += f", {format_ns(summary['ns_per_step'])} a step"
    if summary["bad_frames"]:
        text += f", {summary['bad_frames']} bad frames ({summary['on_bad_sample']})"
        text += f": {', '.join(f'{n} {why}' for why, n in summary['bad_by_reason'].items())}"
    say(f"{text} ({fed})", err=True)
