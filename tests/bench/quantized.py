"""Quantized schemes beside float32 and ONNX Runtime's dynamic quantization, with verdicts.

Part of `make bench`; alone: `python -m tests.bench.quantized [--json FILE] [--rounds N] [--isa
NAME]`. All variants of a size are timed in turn in every round; medians over the rounds. Shared
machines: believe the ratios.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgelstm.artifact import Artifact
from edgelstm.engines.native import ISA_VARIABLE
from edgelstm.timing import StepTimer, random_frames
from edgelstm_compiler import compile_model
from edgelstm_compiler.bench_peer import OnnxRuntimeBench
from tests.bench.table import FRAMES, NEAR_BYTES, SIZES, conclude
from tests.models import stacked_model

SCHEMES = ("int8", "int8-full", "w8", "w4", "fp16")
SPEED_GOALS = {"(6,32)": 1.0, "(9,128)": 2.5, "(64,256)": 2.5}
SIZE_GOALS = {"int8": 0.27, "w4": 0.16}
READINGS_GOAL = 2.0
_SECONDS = 0.1


class Row:
    """One size in all schemes.

    Args:
        name: of the size.
        options: of the model.
        schemes: to compile.
        folder: for the model's files.
        isa: the instruction set to force, or None.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        schemes: tuple[str, ...],
        folder: Path,
        isa: str | None,
    ) -> None:
        self.name = name
        model = stacked_model(steps=None, **options)
        path, dynamic = folder / "model.onnx", folder / "dynamic.onnx"
        onnx.save(model, path)
        quantize_dynamic(path, dynamic, weight_type=QuantType.QInt8)
        self.artifacts = {"fp32": compile_model(path)}
        signature = self.artifacts["fp32"].signature
        frames = random_frames(signature, FRAMES)
        self.compile_s: dict[str, float] = {}
        for scheme in schemes:
            start = time.perf_counter()
            self.artifacts[scheme] = compile_model(path, quantize=scheme, calibration=[frames])
            self.compile_s[scheme] = time.perf_counter() - start
        self.timers = {
            key: StepTimer(_forced(each, isa), frames) for key, each in self.artifacts.items()
        }
        self.peer = OnnxRuntimeBench(dynamic, signature)
        self.peer.prepare(frames)

    def time(self, rounds: int) -> dict[str, Any]:
        """Everything in turn, in every round."""
        steps: dict[str, list[float]] = {key: [] for key in self.timers}
        reads: dict[str, list[float]] = {key: [] for key in self.timers}
        peer: list[float] = []
        for _ in range(rounds):
            for key, timer in self.timers.items():
                steps[key].append(timer.time_step(_SECONDS).median)
                reads[key].append(timer.time_read() or 0.0)
            peer.append(self.peer.time_step())
        base = statistics.median(steps["fp32"])
        peer_ns = statistics.median(peer)
        schemes = {}
        float_bytes = self.artifacts["fp32"].manifest["memory"]["weights_bytes"]
        for key, artifact in self.artifacts.items():
            step = statistics.median(steps[key])
            code = artifact.container.sections
            sizes = [len(artifact.container.section(n)) for n in code if n.startswith("code/")]
            schemes[key] = {
                "weights_bytes": artifact.manifest["memory"]["weights_bytes"],
                "share_of_fp32": artifact.manifest["memory"]["weights_bytes"] / float_bytes,
                "largest_code_bytes": max(sizes),
                "step_ns": step,
                "times_fp32": base / step,
                "step_per_reading": step / statistics.median(reads[key]),
                "times_peer": peer_ns / step,
                "compile_s": self.compile_s.get(key),
            }
        return {"size": self.name, "peer_step_ns": peer_ns, "schemes": schemes}


def _forced(artifact: Artifact, isa: str | None) -> Artifact:
    """The artifact on an instruction set, or on the one without VNNI where it has no such code."""
    fresh = Artifact(artifact.container)
    if isa is not None:
        found = f"code/{isa}" in artifact.container.sections
        os.environ[ISA_VARIABLE] = isa if found else isa.removesuffix("-vnni")
    assert fresh.kernel.facts
    os.environ.pop(ISA_VARIABLE, None)
    return fresh


def verdicts(row: dict[str, Any]) -> list[str]:
    """What a row misses of the promises."""
    missed = [
        f"{scheme} {row['schemes'][scheme]['share_of_fp32']:.3f} of fp32's bytes > {share}"
        for scheme, share in SIZE_GOALS.items()
        if scheme in row["schemes"] and row["schemes"][scheme]["share_of_fp32"] > share
    ]
    found = row["schemes"].get("int8")
    if found is None:
        return missed
    goal = SPEED_GOALS.get(row["size"])
    if goal is not None and found["times_fp32"] < goal:
        missed.append(f"int8 {found['times_fp32']:.2f}x fp32 < {goal}x")
    if found["weights_bytes"] > NEAR_BYTES and found["step_per_reading"] > READINGS_GOAL:
        missed.append(f"int8 {found['step_per_reading']:.2f} readings > {READINGS_GOAL}")
    if found["times_peer"] < 1:
        missed.append(f"int8 {found['times_peer']:.2f}x ONNX Runtime")
    return missed


def main() -> int:
    """Print the table; the exit code is 1 if a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", help="force one instruction set of the artifacts")
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--sizes", help="only sizes with this text in their name")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    schemes = tuple(arguments.schemes.split(","))
    rows = []
    print(
        "| size | scheme | weights | of fp32 | native step | times fp32 | readings of the weights "
        "| times ONNX Runtime dynamic int8 | code | compile |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, options in SIZES:
            if arguments.sizes and arguments.sizes not in name:
                continue
            row = Row(name, options, schemes, Path(folder), arguments.isa).time(arguments.rounds)
            rows.append(row)
            for scheme, found in row["schemes"].items():
                print(
                    f"| {name} | {scheme} | {found['weights_bytes'] / 1024:.0f} KB "
                    f"| {found['share_of_fp32']:.3f} "
                    f"| {found['step_ns'] / 1000:.3f} us | {found['times_fp32']:.2f} "
                    f"| {found['step_per_reading']:.2f} | {found['times_peer']:.0f} "
                    f"| {found['largest_code_bytes'] / 1024:.1f} KB "
                    f"| {found['compile_s'] or 0.0:.1f} s |",
                    flush=True,
                )
    return conclude(rows, verdicts, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
