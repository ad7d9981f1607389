"""`edgelstm bench`: how long a step takes, beside one reading of the weights and other engines."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.commands.loading import Loader, loading_options
from edgelstm.commands.report import (
    format_bytes,
    format_ns,
    json_option,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    say,
)
from edgelstm.errors import TargetNotFoundError, TargetUnavailableError
from edgelstm.install_hint import install_hint
from edgelstm.sessions import mode_of
from edgelstm.timing import PEER_GROUP, Distribution, Peer, StepTimer, random_frames

EMULATOR_GROUP = "edgelstm.emulators"
"""Entry points of emulators: `NAME = function(artifact) -> dict`, see `_print_counts`."""


@click.command("bench")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against",
    multiple=True,
    metavar="ENGINE",
    help="Time this engine on the ONNX model too, in turn with ours: onnxruntime.",
)
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX model, for --against.")
@click.option("--frames", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--seconds", default=0.2, show_default=True, help="Per measurement and round.", type=float
)
@click.option("--seed", default=0, show_default=True, help="Of the random frames.")
@click.option(
    "--emulate",
    "is_emulated",
    is_flag=True,
    help="Count the instructions of a step of ARM code on an emulated processor, in place of time.",
)
@loading_options
@json_option
def bench_command(
    artifact: Path,
    against: tuple[str, ...],
    model: Path | None,
    frames: int,
    rounds: int,
    seconds: float,
    seed: int,
    is_emulated: bool,
    load: Loader,
    as_json: bool,
) -> None:
    """Time ARTIFACT: the native step, `step` and `run` from Python, and reading its weights once.

    A native step is one of a loop in native code in which each step needs the state of the one
    before; nothing is taken off. On a device it is one call. All engines are measured in turn in
    every round; the numbers are medians over the rounds. Reading the weights in order, again and
    again, is a yardstick and no limit: a step walks what outgrows a near cache forwards and
    backwards in turn, and reads a large table in few places only. Where outputs come every few
    frames, the slowest phase is told, too: a deadline has to hold in every step.

    \b
    edgelstm bench phase.edgelstm
    edgelstm bench phase.edgelstm --against onnxruntime --model phase.onnx --json
    edgelstm bench phase_m4.edgelstm --emulate
    """
    if against and model is None:
        raise click.UsageError("--against needs --model MODEL.onnx")
    loaded = load(artifact)
    if is_emulated:
        counts = find_emulator()(loaded)
        if as_json:
            print_json(counts)
        else:
            _print_counts(counts)
        return
    data = random_frames(loaded.signature, frames, seed)
    timer = StepTimer(loaded, data)
    peers = [find_peer(name, model, loaded) for name in against if model is not None]
    for peer in peers:
        peer.prepare(data)
    report = measure(loaded, timer, peers, rounds, seconds)
    if as_json:
        print_json(report)
    else:
        _print_report(report)


def find_emulator() -> Callable[[Artifact], dict[str, Any]]:
    """What counts the instructions of an artifact.

    Raises:
        TargetUnavailableError: the compiler, which brings it, is not installed.
    """
    for entry in entry_points(group=EMULATOR_GROUP):
        count: Callable[[Artifact], dict[str, Any]] = entry.load()
        return count
    raise TargetUnavailableError(
        f"emulation comes with the compiler: {install_hint('compiler', 'emulate')}"
    )


def find_peer(name: str, model: Path, artifact: Artifact) -> Peer:
    """Another engine, loaded with the model.

    Raises:
        TargetNotFoundError: no package offers it.
        TargetUnavailableError: it cannot be imported.
    """
    entries = {entry.name: entry for entry in entry_points(group=PEER_GROUP)}
    if name not in entries:
        raise TargetNotFoundError(
            f"engine {name!r} is not known; known: {', '.join(sorted(entries)) or 'none'} "
            f"({install_hint('compiler', 'check')} brings onnxruntime)"
        )
    try:
        factory = entries[name].load()
    except ImportError as exc:
        raise TargetUnavailableError(f"engine {name!r} cannot be loaded: {exc}") from exc
    peer: Peer = factory(model, artifact.signature, artifact.manifest.get("options", {}))
    return peer


def measure(
    artifact: Artifact, timer: StepTimer, peers: Sequence[Peer], rounds: int, seconds: float
) -> dict[str, Any]:
    """All numbers of one bench, as a JSON object; ns are per step (call mode: per call)."""
    native: list[Distribution] = []
    jobs: dict[str, Callable[[], float | None]] = {
        "native_run_ns": lambda: timer.time_run(seconds),
        "python_step_ns": lambda: timer.time_python_step(seconds),
        "python_run_ns": lambda: timer.time_python_run(seconds),
        "read_ns": timer.time_read,
    }
    for peer in peers:
        jobs[f"{peer.name} step"] = peer.time_step
        jobs[f"{peer.name} sequence"] = peer.time_sequence
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with progress_bar(f"timing {artifact.name}", rounds * (1 + len(jobs))) as advance:
        for _ in range(rounds):
            native.append(timer.time_step(seconds))
            advance(1)
            for name, job in jobs.items():
                value = job()
                if value is not None:
                    times[name].append(value)
                advance(1)
    medians = {
        name: statistics.median(values) if values else None for name, values in times.items()
    }
    step_ns = statistics.median(item.median for item in native)
    phases = timer.time_phases(rounds * seconds)
    report: dict[str, Any] = {
        "artifact": artifact.name,
        "mode": artifact.signature.mode,
        "chunk": artifact.signature.chunk,
        "worst_phase": None if phases is None else _worst_phase(phases),
        "engine": dict(artifact.kernel.facts),
        "rounds": rounds,
        "native": Distribution(
            minimum=min(item.minimum for item in native),
            median=step_ns,
            p99=statistics.median(item.p99 for item in native),
            steps=sum(item.steps for item in native),
        ).to_json(),
        "native_run_ns": _rounded(medians["native_run_ns"]),
        "python_step_ns": _rounded(medians["python_step_ns"]),
        "python_overhead_ns": _rounded((medians["python_step_ns"] or 0.0) - step_ns),
        "python_run_ns": _rounded(medians["python_run_ns"]),
        "macs": artifact.manifest.get("macs", 0),
        "weights_bytes": artifact.manifest["memory"]["weights_bytes"],
        "read_ns": _rounded(medians["read_ns"]),
        "step_per_reading": _ratio(step_ns, medians["read_ns"] or 0.0),
        "peers": [],
    }
    for peer in peers:
        step, sequence = medians[f"{peer.name} step"], medians[f"{peer.name} sequence"]
        report["peers"].append(
            {
                "name": peer.name,
                "version": peer.version,
                "step_ns": _rounded(step),
                "sequence_ns": _rounded(sequence),
                "step_ratio": _ratio(step, step_ns),
                "sequence_ratio": _ratio(sequence, medians["native_run_ns"] or step_ns),
            }
        )
    return report


def _print_report(report: dict[str, Any]) -> None:
    mode = mode_of(report["mode"])
    chunk = report["chunk"]
    unit = mode.unit if chunk == 1 else "frame"
    native = report["native"]
    say(f"{report['artifact']} on {' '.join(report['engine'].values())}, time a {unit}:")
    spread = f"min {format_ns(native['min_ns'])}, p99 {format_ns(native['p99_ns'])}"
    readings = report["step_per_reading"]
    reading = f"{format_ns(report['read_ns'])} for {format_bytes(report['weights_bytes'])}"
    overhead = format_ns(report["python_overhead_ns"])
    entry = f"session.{mode.entry}"
    of_chunk = f", in steps of {chunk}" if chunk > 1 else ""
    run_ns = report["python_run_ns"]
    print_facts(
        [
            ("native step", f"{format_ns(native['p50_ns'])} ({spread})"),
            ("native run", f"{format_ns(report['native_run_ns'])} a {unit}, in a block of frames"),
            (
                "reading the weights",
                "" if readings is None else f"{reading}; a {unit} takes {readings:.3g} times that",
            ),
            ("worst phase", _phase_text(report["worst_phase"])),
            (entry, f"{format_ns(report['python_step_ns'])} ({overhead} over native){of_chunk}"),
            ("session.run", "" if run_ns is None else f"{format_ns(run_ns)} a {unit}"),
        ]
    )
    if report["peers"]:
        print_table(
            ["engine", f"called per {unit}", "ratio", "one call per sequence", "ratio"],
            [
                [
                    f"{peer['name']} {peer['version']}",
                    format_ns(peer["step_ns"]),
                    _times(peer["step_ratio"]),
                    format_ns(peer["sequence_ns"]),
                    _times(peer["sequence_ratio"]),
                ]
                for peer in report["peers"]
            ],
        )


def _worst_phase(phases: NDArray[np.float64]) -> dict[str, Any]:
    """The slowest of the steps between two in which all outputs come, beside the fastest."""
    return {
        "period": len(phases),
        "phase": int(phases.argmax()),
        "ns": round(float(phases.max()), 2),
        "best_ns": round(float(phases.min()), 2),
    }


def _phase_text(worst: dict[str, Any] | None) -> str:
    if worst is None:
        return ""
    return (
        f"{format_ns(worst['ns'])}, step {worst['phase']} of every {worst['period']} (the fastest "
        f"{format_ns(worst['best_ns'])}; single calls)"
    )


def _print_counts(report: dict[str, Any]) -> None:
    unit = mode_of(report["mode"]).unit
    say(f"{report['artifact']} on {report['emulator']}, counted a {unit}:")
    print_table(
        ["instruction set", "instructions", "per MAC", "stack"],
        [
            [x["isa"], round(x["instructions"]), x["instructions_per_mac"], x["stack_bytes"]]
            for x in report["isas"]
        ],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _ratio(value: float | None, base: float) -> float | None:
    return None if value is None or base <= 0 else float(f"{value / base:.4g}")


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}x"
