"""`edgelstm demo`: the bundled model compiled, verified, and streamed over the bundled trial."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.commands.report import json_option, print_json, say
from edgelstm.errors import ArtifactError, MismatchError
from edgelstm.io.recording import read_frames
from edgelstm.outputs import STANDARD, check_output
from edgelstm.timing import StepTimer
from edgelstm_compiler.demo import MODEL_PATH, PHASES, RATE_HZ, REPORT_PATH, TRIAL_PATH
from edgelstm_compiler.demo.timeline import format_timeline, phase_timeline
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.session_rows import step_through
from edgelstm_compiler.target import DEFAULT_TARGET
from edgelstm_compiler.verification import verify_stream

TOLERANCE = 1e-5


@click.command("demo")
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="See `edgelstm targets`.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the compiled artifact here.",
)
@json_option
def demo_command(target: str, keep: Path | None, as_json: bool) -> None:
    """Compile the bundled timed-up-and-go model and stream the bundled trial through it.

    The model tells from an IMU at the hip (100 Hz) whether a person sits, stands up, walks, turns
    or sits down. The trial is simulated; see compiler/edgelstm_compiler/demo/README.md.
    """
    protect = (MODEL_PATH, TRIAL_PATH, REPORT_PATH)
    if keep is not None:
        check_output(keep, protect, ArtifactError)
    artifact = compile_model(MODEL_PATH, target=target, rate_hz=RATE_HZ)
    with tempfile.TemporaryDirectory() as folder:
        # Kept or not, what is streamed has gone through a file.
        path = Path(folder) / "tug_phase.edgelstm"
        artifact.save(path)
        result = stream_trial(Artifact.load(path))
    if keep is not None:
        artifact.save(keep, protect=protect)
    is_taken = str(keep) == STANDARD
    if as_json:
        print_json(result, err=is_taken)
    else:
        say(_as_text(result), err=is_taken)
    if not result["verification"]["passed"]:
        raise MismatchError("the compiled demo model does not compute what the ONNX model does")


def stream_trial(artifact: Artifact) -> dict[str, Any]:
    """Verify the artifact on the bundled trial, step through it, and time it."""
    frames = read_frames(TRIAL_PATH, artifact.signature)
    verification = verify_stream(artifact, read_model(MODEL_PATH), frames, TOLERANCE)
    count = len(next(iter(frames.values())))
    (rows,) = step_through(artifact.session(), frames, count).values()
    timer = StepTimer(artifact, frames)
    native, from_python = timer.time_step(), timer.time_python_step()
    return {
        "held_out": json.loads(REPORT_PATH.read_text(encoding="utf-8"))["held_out"],
        "check": artifact.manifest["check"],
        "verification": verification.to_json(),
        "frames": count,
        "seconds": count / RATE_HZ,
        "timeline": phase_timeline(np.asarray(rows), PHASES, RATE_HZ),
        "native_step_ns": native.to_json(),
        "python_step_ns": round(from_python, 1),
        "real_time_factor": round(1e9 / RATE_HZ / native.median),
        "engine": dict(artifact.kernel.facts),
    }


def _as_text(result: dict[str, Any]) -> str:
    check, verification = result["check"], result["verification"]
    errors = [output["max_error"] for output in verification["outputs"]]
    native = result["native_step_ns"]
    held_out = result["held_out"]
    lines = [
        f"model      phases of a timed-up-and-go test: {100 * held_out['accuracy']:.1f} % right on "
        f"{held_out['samples']} real samples of {len(held_out['subjects'])} people it never saw",
        f"compiled   self-check against {check['against']}: max error {check['max_error']:.2g}",
        f"verified   {result['frames']} frames step by step against {verification['against']}: "
        f"max error {max(errors):.2g}, {'PASS' if verification['passed'] else 'FAIL'}",
        f"streamed   {result['seconds']:.1f} s of simulated timed-up-and-go trial at "
        f"{RATE_HZ:.0f} Hz:",
        "",
        format_timeline(result["timeline"]),
        "",
        f"speed      {native['p50_ns']:.0f} ns a step in native code ({_engine(result)}), "
        f"{result['python_step_ns'] / 1000:.2f} microseconds from Python: "
        f"{result['real_time_factor']} times faster than the sensor",
    ]
    return "\n".join(lines)


def _engine(result: dict[str, Any]) -> str:
    return ", ".join(str(value) for value in result["engine"].values())
