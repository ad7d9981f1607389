"""`edgelstm monitor`: a page that shows a run and the history of patients."""

from __future__ import annotations

import gc
import pkgutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import say
from edgelstm.commands.run_settings import given_settings
from edgelstm.commands.time_options import time_options
from edgelstm.errors import OutputError, TargetUnavailableError
from edgelstm.extras import load_extra
from edgelstm.install_hint import install_hint
from edgelstm.io.address import split_scheme
from edgelstm.io.columns import split_names
from edgelstm.io.decoding.recipe import read_recipe
from edgelstm.io.settings import LiveSettings, StreamSettings
from edgelstm.io.time_settings import TimeSettings
from edgelstm.monitor.report import DISCLAIMER

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command("monitor")
@click.argument("artifact", type=click.Path(path_type=Path), required=False)
@click.option("--input", "-i", "inputs", multiple=True, metavar="ADDRESS", help="As for run.")
@click.option("--output", "-o", "outputs", multiple=True, metavar="ADDRESS", help="More sinks.")
@click.option("--config", type=_PATH, help="TOML file, as for run.")
@click.option("--columns", default="", metavar="A,B,...", help="As for run.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="HZ")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Recordings come that many times faster than they were recorded.",
)
@click.option("--patient", default="", metavar="PSEUDONYM", help="Whose stream it is.")
@click.option(
    "--store",
    metavar="FILE",
    help="SQLite file of the history.  [default: monitor.db, or that of an output]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need --token-file.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 is any."
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Lines `view TOKEN` and `annotate TOKEN`; made where it is not there.",
)
@click.option("--tls-cert", type=_PATH, help="Certificate (PEM), to serve by HTTPS.")
@click.option("--tls-key", type=_PATH, help="Its key.")
@click.option(
    "--reference",
    type=_PATH,
    help="ARTIFACT's model compiled with --target reference: the page shows its gates.",
)
@click.option("--demo", is_flag=True, help="Show simulated patients.")
@time_options
@loading_options
def monitor_command(
    artifact: Path | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    config: Path | None,
    columns: str,
    rate: float | None,
    speed: float | None,
    patient: str,
    store: str | None,
    host: str,
    port: int,
    token_file: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    reference: Path | None,
    demo: bool,
    time_settings: dict[str, Any] | None,
    load: Loader,
) -> None:
    """Serve a page that shows a run of ARTIFACT, and the history of its patients.

    A development tool, not a medical device. Nothing that the page does leaves this machine.

    \b
    edgelstm monitor --demo
    edgelstm monitor gait.edgelstm -i serial:/dev/ttyUSB0 --patient P017 --store ward.db
    edgelstm monitor --config ward.toml --host 0.0.0.0 --token-file tokens
    """
    for module in ("starlette", "uvicorn", "websockets"):
        load_extra(module, "monitor", "pages")
    # Only now: the packages are there.
    from edgelstm.monitor.server.access import is_local, read_tokens
    from edgelstm.monitor.server.app import VENDOR
    from edgelstm.monitor.server.serve import MonitorRun, ServerOptions

    if not VENDOR.joinpath("uPlot.iife.min.js").is_file():
        raise TargetUnavailableError(
            "the page's charts (uPlot) were not built, because npm or the network was missing when "
            f"edgelstm was installed: {install_hint('monitor')} with a network"
        )
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    tokens = {} if token_file is None else read_tokens(Path(token_file))
    if not is_local(host) and not tokens:
        raise click.UsageError(
            f"--host {host} is open to other machines: give --token-file FILE, and best --tls-cert"
        )
    with ExitStack() as stack:
        if demo:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            artifact, reference, settings, store_path = _demo(folder, store)
        else:
            given = given_settings(
                inputs,
                outputs,
                {
                    "columns": tuple(split_names(columns)) if columns else None,
                    "rate_hz": rate,
                    "speed": speed,
                    "is_realtime": True,
                    "time": time_settings,
                },
                config,
            )
            artifact = artifact or given.artifact
            if artifact is None:
                raise click.UsageError("Missing argument 'ARTIFACT', or --demo.")
            settings, store_path = _with_store(given.settings, outputs, store, patient)
        options = ServerOptions(host, port, store_path, tokens, tls_cert, tls_key, is_demo=demo)

        def ready(address: str) -> None:
            say(f"{address}   (store {store_path}; Ctrl-C ends)")
            say(DISCLAIMER)
            if tokens and token_file is not None:
                say(f"tokens to log in with: {token_file}")
            if not is_local(host) and tls_cert is None:
                say("warning: what is shown goes over the network unencrypted: --tls-cert FILE")
            # What stands now stays: a run that goes on need not look through it again and again.
            gc.collect()
            gc.freeze()

        inside = None if reference is None else load(reference)
        MonitorRun(load(artifact), settings, options, ready=ready, reference=inside).serve()


def _with_store(
    settings: LiveSettings, outputs: Sequence[str], store: str | None, patient: str
) -> tuple[LiveSettings, Path]:
    """The settings with a store among their sinks, and its file."""
    sinks = [text for text in settings.outputs if text != "-" or "-" in outputs]
    found = [parts[1] for text in sinks if (parts := split_scheme(text)) and parts[0] == "store"]
    if found and store is not None:
        raise click.UsageError(f"--store {store}, and an output is a store already: give one")
    if len(found) > 1:
        raise click.UsageError("two outputs are stores: the history is in one")
    if not found:
        name = store or "monitor.db"
        if "?" in name:
            raise OutputError(f"--store {name}: a file without a question mark in its name")
        sinks.append(f"store:{name}")
        found = [name]
    streams = [
        replace(stream, patient=patient) if patient and not stream.patient else stream
        for stream in settings.streams
    ]
    path = Path(found[0].partition("?")[0] or "edgelstm.db")
    return replace(settings, streams=tuple(streams), outputs=tuple(sinks)), path


def _demo(folder: Path, store: str | None) -> tuple[Path, Path, LiveSettings, Path]:
    """Simulated patients: artifact and reference, streams, and a store with their past."""
    from edgelstm.io.sinks.store.schema import open_store
    from edgelstm.monitor.history import History
    from edgelstm.monitor.simulated import DEMO_PATIENTS, write_patient

    try:
        prepare = pkgutil.resolve_name("edgelstm_compiler.demo.monitored:prepare")
        compile_demo = pkgutil.resolve_name("edgelstm_compiler.demo.monitored:compile_demo")
    except ImportError as exc:
        raise TargetUnavailableError(
            f"--demo compiles its model: {install_hint('compiler')}"
        ) from exc
    artifact, decoding, recordings = prepare(folder)
    reference = folder / "reference.edgelstm"
    compile_demo(reference, "reference")
    path = folder / "demo.db" if store is None else Path(store)
    with closing(open_store(path)) as connection:
        known = History(connection).patients()
        for seed, patient in enumerate(DEMO_PATIENTS):
            if patient.pseudonym not in known:
                write_patient(connection, patient, seed, time.time() - 86_400.0)
    # The name of the stream is that of the patient: a new run of the demo is a new stream.
    run = time.strftime("%H%M%S")
    streams = tuple(
        StreamSettings((f"file:{recording}?repeat=1000000",), f"{patient} {run}", patient)
        for patient, recording in recordings.items()
    )
    settings = LiveSettings(
        streams,
        (f"store:{path}",),
        is_realtime=True,
        time=TimeSettings(decode=read_recipe(decoding)),
    )
    return artifact, reference, settings, path
