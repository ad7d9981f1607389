"""`make bench`: the sizes that are promised, compiled and timed beside ONNX Runtime, with verdicts.

Run by hand: `python -m tests.bench.table [--json FILE] [--rounds N]`. All engines of a row are
timed in turn in every round; medians over the rounds. Shared machines: believe the ratios.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from edgelstm.commands.bench import measure
from edgelstm.timing import StepTimer, random_frames
from edgelstm_compiler import compile_model
from edgelstm_compiler.bench_peer import OnnxRuntimeBench
from tests.models import stacked_model

FRAMES = 1000

SIZES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("(3,8)", {"features": 3, "hidden": 8, "ops": ("LSTM",)}),
    ("(6,32)", {"features": 6, "hidden": 32, "ops": ("LSTM",)}),
    ("(9,64)", {"features": 9, "hidden": 64, "ops": ("LSTM",)}),
    ("(9,128)", {"features": 9, "hidden": 128, "ops": ("LSTM",)}),
    ("(64,256)", {"features": 64, "hidden": 256, "ops": ("LSTM",)}),
    ("2 x (9,128)", {"features": 9, "hidden": 128, "ops": ("LSTM", "LSTM")}),
    ("GRU (9,64)", {"features": 9, "hidden": 64, "ops": ("GRU",)}),
    ("GRU (9,128)", {"features": 9, "hidden": 128, "ops": ("GRU",)}),
)

# Near the processor a step is arithmetic; further away all engines wait for the same weights, and
# ONNX Runtime's sequences do so on all cores.
NEAR_BYTES, MIDDLE_BYTES = 80 << 10, 512 << 10
STEP_GOALS, SEQUENCE_GOALS = (20.0, 2.0, 2.0), (1.5, 1.0, None)
"""Times ONNX Runtime: with near weights, with those of half a second-level cache, beyond."""

READINGS_GOAL, PYTHON_GOAL_NS = 1.33, 2000.0


def time_size(name: str, options: dict[str, Any], rounds: int, folder: Path) -> dict[str, Any]:
    """Compile one model and time it beside ONNX Runtime."""
    path = folder / "model.onnx"
    onnx.save(stacked_model(steps=None, **options), path)
    start = time.perf_counter()
    artifact = compile_model(path)
    seconds = time.perf_counter() - start
    frames = random_frames(artifact.signature, FRAMES)
    peer = OnnxRuntimeBench(path, artifact.signature)
    peer.prepare(frames)
    report = measure(artifact, StepTimer(artifact, frames), [peer], rounds, 0.1)
    saved = folder / "model.edgelstm"
    artifact.save(saved)
    overhead = saved.stat().st_size - artifact.manifest["memory"]["weights_bytes"]
    return {"size": name, "compile_s": seconds, "code_bytes": overhead, **report}


def verdicts(row: dict[str, Any]) -> list[str]:
    """What a row misses of the promises."""
    (peer,) = row["peers"]
    size, missed = row["weights_bytes"], []
    distance = (size > NEAR_BYTES) + (size > MIDDLE_BYTES)
    step, sequence = STEP_GOALS[distance], SEQUENCE_GOALS[distance]
    if peer["step_ratio"] < step:
        missed.append(f"step {peer['step_ratio']:.1f}x < {step:.0f}x")
    if sequence is not None and peer["sequence_ratio"] < sequence:
        missed.append(f"sequence {peer['sequence_ratio']:.2f}x < {sequence}x")
    if distance and row["step_per_reading"] > READINGS_GOAL:
        missed.append(f"{row['step_per_reading']:.2f} readings > {READINGS_GOAL}")
    if row["python_overhead_ns"] > PYTHON_GOAL_NS:
        missed.append(f"python {row['python_overhead_ns']:.0f} ns > {PYTHON_GOAL_NS:.0f} ns")
    return missed


def conclude(
    rows: list[dict[str, Any]], judge: Callable[[dict[str, Any]], list[str]], path: Path | None
) -> int:
    """Print what each row misses and keep the numbers; 1 if anything is missed."""
    missed = {row["size"]: judge(row) for row in rows}
    for size, reasons in missed.items():
        print(f"{size}: {'; '.join(reasons) or 'all promises kept'}")
    if path is not None:
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(any(missed.values()))


def main() -> int:
    """Print the table; the exit code is 1 if a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    print(
        "| LSTM (input, hidden) | weights | native step | readings of the weights "
        "| step from Python | ONNX Runtime step | ratio | a step of its sequence | ratio "
        "| compile |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, options in SIZES:
            row = time_size(name, options, arguments.rounds, Path(folder))
            rows.append(row)
            (peer,) = row["peers"]
            print(
                f"| {name} | {row['weights_bytes'] / 1024:.0f} KB "
                f"| {row['native']['p50_ns'] / 1000:.3f} us | {row['step_per_reading']:.2f} "
                f"| +{row['python_overhead_ns'] / 1000:.2f} us "
                f"| {peer['step_ns'] / 1000:.1f} us | {peer['step_ratio']:.0f}x "
                f"| {peer['sequence_ns'] / 1000:.2f} us | {peer['sequence_ratio']:.1f}x "
                f"| {row['compile_s']:.1f} s |",
                flush=True,
            )
    return conclude(rows, verdicts, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
