"""Parity and speed on a GPU, beside cuDNN, in one command: `python -m tests.gpu.session`.

Installs nothing: torch is there for the peers, and either numba-cuda and its wheels, or artifacts
that `python -m tests.gpu.session --build sm_90` made elsewhere (in tests/gpu/artifacts). Ends
within 8 minutes, with a table and a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "compiler"), str(ROOT / "targets")]

import numpy as np  # noqa: E402 - behind the paths of an edgelstm that is not installed

from edgelstm.artifact import Artifact  # noqa: E402
from edgelstm.engines.cuda_driver import Device, open_device  # noqa: E402
from tests.gpu.artifacts import build, find_artifacts  # noqa: E402
from tests.gpu.peers import time_torch  # noqa: E402
from tests.gpu.timing import time_chunk, time_steps  # noqa: E402
from tests.gpu.workloads import WORKLOADS, Workload  # noqa: E402

TOLERANCE = 2e-6
LIMIT_S = 450.0
MANY_FRAMES = 64
COLUMNS = (
    ("model", "name", ""),
    ("shape", "shape", ""),
    ("error", "error", ".1e"),
    ("ns/frame", "ns_per_frame", ".0f"),
    ("cuDNN fp32", "cudnn_ns_per_frame", ".0f"),
    ("ratio", "ratio", ".2f"),
    ("step us", "step_us", ".1f"),
    ("p99", "step_p99_us", ".1f"),
    ("cuDNN graph", "cudnn_step_us", ".1f"),
    ("1e9 cells/s", "many_giga", ".3f"),
    ("cuDNN fp16", "cudnn_many_giga", ".3f"),
)


def main() -> int:
    """Run everything; 0 if all models agree with the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", metavar="CHIPS", help="only compile, e.g. sm_90 or all")
    parser.add_argument("--json", type=Path, default=Path(os.environ.get("OUT", "."), "gpu.json"))
    parser.add_argument("--only", default="", help="models whose name contains this")
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.build)
        return 0
    start = time.monotonic()
    device = open_device()
    report: dict[str, Any] = {
        "command": "python -m tests.gpu.session",
        "device": device.name,
        "capability": device.capability,
        "driver_cuda": device.driver_version,
        "host": platform.processor() or platform.machine(),
        "rows": [],
    }
    for workload in WORKLOADS:
        if arguments.only not in workload.name:
            continue
        row: dict[str, Any] = {"name": workload.name}
        report["rows"].append(row)
        if time.monotonic() - start > LIMIT_S:
            row["skipped"] = "no time left"
            continue
        measure(workload, device, row)
        # Written after each model: a run that is cut off leaves what it has.
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(format_row(row), flush=True)
    report["seconds"] = round(time.monotonic() - start, 1)
    arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"\n{device.name}, {report['seconds']} s; {arguments.json}\n")
    print(" | ".join(title for title, _, _ in COLUMNS))
    for row in report["rows"]:
        print(format_row(row))
    return 0 if all(row.get("agrees") for row in report["rows"] if "skipped" not in row) else 1


def measure(workload: Workload, device: Device, row: dict[str, Any]) -> None:
    """Fill one row; what goes wrong is noted there and does not stop the others."""
    chip = f"sm_{device.capability[0]}{device.capability[1]}"
    try:
        artifact, reference = find_artifacts(workload, chip)
        row["shape"] = artifact.kernel.facts["shape"]
        row["error"] = parity(artifact, reference)
        row["agrees"] = row["error"] <= TOLERANCE
        frames = workload.chunk
        row["ns_per_frame"] = time_chunk(artifact, frames, 1) / frames * 1000
        row["step_us"], row["step_p99_us"] = time_steps(artifact)
        if workload.streams:
            cells = workload.streams * MANY_FRAMES * workload.layers
            row["many_giga"] = cells / time_chunk(artifact, MANY_FRAMES, workload.streams) / 1000
    except Exception as error:
        row["failed"] = f"{type(error).__name__}: {error}"
        row["trace"] = traceback.format_exc(limit=-4)
    try:
        row["peer"] = peer = time_torch(workload)
    except Exception as error:
        row["peer"] = peer = {"torch": f"{type(error).__name__}: {error}"}
    add_peer(workload, row, peer)


def add_peer(workload: Workload, row: dict[str, Any], peer: dict[str, float | str]) -> None:
    """The peer's times in the units of the row."""
    chunk, step, many = (
        peer.get(name) for name in ("chunk_fp32_us", "step_graph_fp32_us", "many_fp16_us")
    )
    if isinstance(chunk, float):
        row["cudnn_ns_per_frame"] = chunk / workload.chunk * 1000
        if "ns_per_frame" in row:
            row["ratio"] = row["cudnn_ns_per_frame"] / row["ns_per_frame"]
    if isinstance(step, float):
        row["cudnn_step_us"] = step
    if isinstance(many, float):
        row["cudnn_many_giga"] = workload.streams * MANY_FRAMES / many / 1000


def parity(artifact: Artifact, reference: Artifact) -> float:
    """Largest error of three streams, of single steps, and of chunks, over the largest value."""
    spec = artifact.signature.inputs[0]
    x = np.random.default_rng(3).standard_normal((40, 3, *spec.shape)).astype(np.float32)
    expected = np.stack([reference.session().run(x[:, each]) for each in range(3)], 1)
    streams = artifact.session(streams=3)
    found = [np.concatenate([streams.run(x[:7]), streams.run(x[7:])])]
    single = artifact.session()
    steps = [single.step(frame).copy() for frame in x[:5, 0]]
    found.append(np.concatenate([steps, single.run(x[5:, 0])])[:, None])
    errors = [np.abs(each - expected[:, : each.shape[1]]) for each in found]
    scale = max(1.0, float(np.abs(expected).max()))
    return max(float(np.max(each)) for each in errors) / scale


def format_row(row: dict[str, Any]) -> str:
    """One line of the table."""
    if "skipped" in row or "failed" in row:
        return f"{row['name']} | {row.get('skipped') or row['failed']}"
    return " | ".join(format(row[key], form) if key in row else "-" for _, key, form in COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
