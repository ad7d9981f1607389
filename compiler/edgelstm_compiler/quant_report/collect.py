"""Everything that a report says, measured: one JSON object, and the curves that are plotted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError, EdgeLSTMError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.recordings import limited
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.drift import (
    Drift,
    affordable_steps,
    measure_drift,
    repeat_recordings,
)
from edgelstm_compiler.quant_report.layers import (
    layer_rows,
    measure_layer_noise,
    measure_saturation,
)
from edgelstm_compiler.quant_report.restore import Restored, Runner, compile_float, runs_native
from edgelstm_compiler.quant_report.speed import describe_speed
from edgelstm_compiler.quant_report.split import Split, measure_split
from edgelstm_compiler.quant_report.synthetic import synthetic_recording

SATURATION_FRAMES = 2000
SHOWN_FRAMES = 1200
"""Frames of the curves that are drawn."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Args:
        drift_steps: frames of the long run; 0: none; None: `drift.STEPS`, or what a minute allows.
        seconds: spent on measuring speed; 0: not measured.
    """

    drift_steps: int | None = None
    seconds: float = 3.0


@dataclass(slots=True)
class Curves:
    """What is drawn and not written as numbers.

    Args:
        source: where the frames are from.
        wanted, found: the first output of both programs over the same frames (n, values).
        errors: absolute errors of all outputs over everything that was measured.
    """

    source: str = ""
    wanted: Array = field(default_factory=lambda: np.zeros((0, 1)))
    found: Array = field(default_factory=lambda: np.zeros((0, 1)))
    errors: Array = field(default_factory=lambda: np.zeros(0))


def collect(
    artifact: Artifact,
    restored: Restored | None,
    calibration: Sequence[Recording],
    held_out: Sequence[Recording],
    settings: Settings,
    say: Say | None = None,
) -> tuple[dict[str, Any], Curves]:
    """Measure.

    Args:
        artifact: the quantized artifact.
        restored: it beside its model; None: only what the manifest says.
        calibration: recordings that it was calibrated with, if they are given.
        held_out: others.
        settings: see above.
        say: called with what is being measured.

    Raises:
        ArtifactError: the artifact is not quantized.
    """
    tell = say or (lambda text: None)
    record = artifact.manifest.get("quantization")
    if record is None:
        raise ArtifactError(
            "the artifact is not quantized, there is nothing to report: compile it with "
            "--quantize SCHEME (`edgelstm inspect` and `edgelstm bench` tell about float32)"
        )
    rows = layer_rows(artifact.manifest)
    report: dict[str, Any] = {
        "name": artifact.name,
        "target": artifact.manifest["target"]["name"],
        "mode": artifact.signature.mode,
        "scheme": record["scheme"],
        "options": record["options"],
        "source": artifact.manifest["source"],
        "check": artifact.manifest["check"],
        "calibration": record["calibration"],
        "layers": rows,
        "bytes_fp32": sum(row["bytes_before"] for row in rows),
        "bytes_quantized": sum(row["bytes_after"] for row in rows),
        "errors": {},
        "search": record["search"],
        "max_error": record["max_error"],
        "drift": None,
        "speed": None,
    }
    if record["outputs"]:
        report["errors"]["calibration (when compiled)"] = record["outputs"]
    curves = Curves()
    floating: Artifact | None = None
    if restored is not None:
        if runs_native(artifact):
            tell("compiling in float32")
            floating = _float_or_none(restored)
        exact = Runner(restored.float_graph, floating, {})
        quantized = Runner(restored.graph, artifact, restored.integer_tensors)
        for name, recordings in (("calibration", calibration), ("held-out", held_out)):
            if recordings:
                tell(f"error on {name} recordings")
                report["errors"][name] = _errors(exact, quantized, recordings, name, curves)
        used = [*held_out, *calibration]
        source = "held-out recordings" if held_out else "calibration recordings"
        if not used:
            used = [synthetic_recording(restored, SATURATION_FRAMES)]
            source = "seeded input within the calibrated ranges"
            report["errors"][source] = _errors(exact, quantized, used, source, curves)
        tell("layers")
        _add_to_layers(rows, restored, used)
        timed = {spec.name for spec in artifact.signature.inputs if spec.time_axis is not None}
        if settings.drift_steps != 0 and timed:
            tell("drift")
            chunk = 1 if restored.cut is None else restored.cut.span.chunk
            found = _drift((exact, quantized), used, timed, source, settings.drift_steps, chunk)
            report["drift"] = found.to_json()
    tell("speed")
    timed_float = floating if settings.seconds else None
    report["speed"] = describe_speed(artifact, timed_float, rows, settings.seconds)
    report["verdicts"] = _verdicts(report)
    return report, curves


def _float_or_none(restored: Restored) -> Artifact | None:
    try:
        return compile_float(restored)
    except EdgeLSTMError:
        return None


def _drift(
    runners: tuple[Runner, Runner],
    used: Sequence[Recording],
    timed: set[str],
    source: str,
    frames: int | None,
    chunk: int,
) -> Drift:
    """Over so many frames of the recordings (None: what is affordable), `chunk` of them a step."""
    steps = (
        affordable_steps(*runners, used, timed, chunk) if frames is None else -(-frames // chunk)
    )
    long = repeat_recordings(used, timed, steps)
    period = sum(len(item[name]) for item in used for name in sorted(timed)[:1])
    return measure_drift(*runners, long, source, period, chunk)


def _errors(
    exact: Runner,
    quantized: Runner,
    recordings: Sequence[Recording],
    source: str,
    curves: Curves,
) -> dict[str, Any]:
    """Error measures of each output; keeps the curves of the last source."""
    pairs = [(exact.run(recording), quantized.run(recording)) for recording in recordings]
    names = list(pairs[0][0])
    joined = {
        name: (
            np.concatenate([wanted[name] for wanted, _ in pairs]),
            np.concatenate([found[name] for _, found in pairs]),
        )
        for name in names
    }
    wanted, found = (
        rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1) for rows in joined[names[0]]
    )
    curves.source = source
    curves.wanted, curves.found = wanted[:SHOWN_FRAMES], found[:SHOWN_FRAMES]
    curves.errors = np.concatenate(
        [np.abs(b.astype(np.float64) - a).ravel() for a, b in joined.values()]
    )
    return {name: measure(a, b).to_json() for name, (a, b) in joined.items()}


def _add_to_layers(
    rows: Sequence[dict[str, Any]], restored: Restored, recordings: Sequence[Recording]
) -> None:
    some = limited(recordings, restored.float_graph, SATURATION_FRAMES)
    defined = Runner(restored.graph, None, restored.integer_tensors)
    given = [
        {name: defined.to_integers(name, np.asarray(x)) for name, x in item.items()}
        for item in some
    ]
    shares = measure_saturation(restored, given)
    noise = {} if restored.integer_tensors else measure_layer_noise(restored, some)
    splits: dict[str, Split] = {}
    if restored.converted is not None and restored.quantized is not None:
        does_correct = restored.quantized.record["options"]["correct_bias"]
        splits = measure_split(restored.converted, some, does_correct=does_correct)
    for row in rows:
        row["saturation"] = shares.get(row["name"], {})
        row["split"] = splits.get(row["name"], {})
        if row["name"] in noise:
            row["output_sqnr_db"] = noise[row["name"]]


def _verdicts(report: dict[str, Any]) -> list[str]:
    """The sentences at the top of the page."""
    before, after = report["bytes_fp32"], report["bytes_quantized"]
    verdicts = [
        f"Weights: {before:,} bytes in fp32, {after:,} quantized"
        + (f" ({after / before:.2f} of it)." if before else ".")
    ]
    chosen = report["errors"].get("held-out")
    where = "held-out recordings"
    if chosen is None and report["errors"]:
        where, chosen = list(report["errors"].items())[-1]
        verdicts.append(
            "No held-out recordings were given (--input): errors are those on "
            f"{where}, which flatter."
        )
    for name, error in (chosen or {}).items():
        same = error["agreement"]
        decibel = "no error" if error["sqnr_db"] is None else f"{error['sqnr_db']:.1f} dB"
        agreement = "" if same is None else f", the same decision on {100 * same:.2f} % of frames"
        verdicts.append(
            f"Output {name!r} on {where}: {decibel}, largest error {error['max_error']:.3g}"
            f"{agreement}."
        )
    if report["drift"] is not None:
        verdicts.append(report["drift"]["verdict"])
    verdicts.append(report["speed"]["verdict"])
    return verdicts
