"""What is measured, section by section, each on one workload at a time; run as a process.

`python -m tests.gpu.sections SECTION FOLDER WORKLOAD...` prints a line of JSON for each workload as
it is done: {"name", "result"} or {"name", "failed"}. A kernel that fails spoils the process it
runs in: this one ends then, and the session starts another for the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "compiler"), str(ROOT / "targets")]

import numpy as np  # noqa: E402 - behind the paths of an edgelstm that is not installed

from edgelstm.artifact import Artifact  # noqa: E402
from edgelstm.engines.cuda_kernels import LoadedKernel, kernel_entries  # noqa: E402
from edgelstm.errors import ToolchainError  # noqa: E402
from tests.gpu.artifacts import build, find_workload, load_artifact  # noqa: E402
from tests.gpu.onnx_peer import time_onnxruntime  # noqa: E402
from tests.gpu.peers import MANY_FRAMES, time_torch  # noqa: E402
from tests.gpu.timing import (  # noqa: E402
    clock_ghz,
    cuda_kernel,
    make_runner,
    time_kernels,
    time_launch,
    time_steps,
)
from tests.gpu.workloads import Workload  # noqa: E402

SWEEP = (256, 1024, 4096, 16384)
"""Streams for which each kernel of an artifact is timed, to see what should be taken."""

STREAMS = 35
"""Of each kernel, for parity: the last group is a part of one."""

Result = dict[str, Any]
SPOILED = 3
"""Exit status: the driver failed, and nothing more runs in this process."""


def compile_here(workload: Workload, folder: Path, option: str) -> Result:
    """Artifacts for the chips that `option` names."""
    start = time.monotonic()
    build(workload, option, folder)
    return {"seconds": round(time.monotonic() - start, 1)}


def check_parity(workload: Workload, folder: Path, option: str) -> Result:
    """The largest error against the reference, over the largest value."""
    del option
    artifact, reference = _artifacts(workload, folder)
    error = parity(artifact, reference)
    shape = artifact.kernel.facts["shape"]
    return {"error": error, "agrees": error <= workload.tolerance, "shape": shape}


def time_chunks(workload: Workload, folder: Path, option: str) -> Result:
    """Nanoseconds of a frame of one stream inside a chunk, and what the kernel does for it."""
    del option
    if not workload.chunk:
        return {}
    artifact = load_artifact(folder, workload, "cuda")
    frames = workload.chunk
    ns = time_launch(artifact, frames, 1) / frames * 1000
    return {"ns": ns, "cycles": ns * clock_ghz(), **describe_kernel(artifact)}


def time_streams(workload: Workload, folder: Path, option: str) -> Result:
    """Steps of single layers of single streams in a second, and each kernel by streams."""
    del option
    if not workload.streams:
        return {}
    artifact = load_artifact(folder, workload, "cuda")
    us = time_launch(artifact, MANY_FRAMES, workload.streams)
    cells = workload.streams * MANY_FRAMES * workload.layers
    sweep = [time_choice(artifact, streams) for streams in SWEEP]
    taken = cuda_kernel(artifact).choose(workload.streams).entry.name
    return {
        "streams": workload.streams,
        "us": us,
        "giga": cells / us / 1000,
        "taken": taken,
        "sweep": sweep,
    }


def time_choice(artifact: Artifact, streams: int) -> Result:
    """Which kernel so many streams take, and microseconds of every one that they could take."""
    kernel = cuda_kernel(artifact)
    fitting = [each for each in kernel.kernels if each.fits(streams)]
    times = time_kernels(artifact, fitting, MANY_FRAMES, streams)
    names = [each.entry.name for each in fitting]
    taken = kernel.choose(streams).entry.name
    return {"streams": streams, "taken": taken, "us": dict(zip(names, times, strict=True))}


def time_graph_steps(workload: Workload, folder: Path, option: str) -> Result:
    """Microseconds of one step from Python, by graph: median and 99th percentile."""
    del option
    if not workload.peers or not workload.chunk:
        return {}
    with load_artifact(folder, workload, "cuda").session() as session:
        median, late = time_steps(session)
    return {"us": median, "p99_us": late}


def time_doorbell(workload: Workload, folder: Path, option: str) -> Result:
    """The same by doorbell, and its largest error against the reference."""
    del option
    if not workload.doorbell:
        return {}
    artifact, reference = _artifacts(workload, folder)
    error = doorbell_parity(artifact, reference)
    with artifact.session(latency="doorbell") as session:
        median, late = time_steps(session)
    return {"error": error, "agrees": error <= workload.tolerance, "us": median, "p99_us": late}


def time_peers(workload: Workload, folder: Path, option: str) -> Result:
    """PyTorch and ONNX Runtime; `option` is where PyTorch runs."""
    del folder
    if not workload.peers:
        return {}
    sizes = {"frames": workload.chunk, "cells": workload.streams * MANY_FRAMES * workload.layers}
    return {**sizes, **time_torch(workload, option), **time_onnxruntime(workload)}


SECTIONS: dict[str, Callable[[Workload, Path, str], Result]] = {
    "build": compile_here,
    "parity": check_parity,
    "chunk": time_chunks,
    "streams": time_streams,
    "graph": time_graph_steps,
    "doorbell": time_doorbell,
    "peers": time_peers,
}


def parity(artifact: Artifact, reference: Artifact) -> float:
    """Largest error of streams, single steps, chunks, and every kernel, over the largest value."""
    x = _frames(artifact, 3)
    expected = np.stack([reference.session().run(x[:, each]) for each in range(3)], 1)
    streams, single = artifact.session(streams=3), artifact.session()
    steps = [single.step(frame).copy() for frame in x[:5, 0]]
    many = np.arange(STREAMS) % 3
    return max(
        _error(np.concatenate([streams.run(x[:7]), streams.run(x[7:])]), expected),
        _error(np.concatenate([steps, single.run(x[5:, 0])]), expected[:, 0]),
        *(
            _error(run_kernel(artifact, each, x[:, many]), expected[:, many])
            for each in cuda_kernel(artifact).kernels
            if each.fits(STREAMS)
        ),
    )


def run_kernel(artifact: Artifact, kernel: LoadedKernel, x: Any) -> Any:
    """Outputs of one of the artifact's kernels, for frames (n, streams, *frame)."""
    frames, streams = x.shape[:2]
    (output,) = artifact.signature.outputs
    y = np.empty((frames, streams, *output.shape), np.float32)
    runner = make_runner(artifact, kernel, streams)
    runner.run(x.reshape(-1).view(np.uint8), y.reshape(-1).view(np.uint8), frames)
    return y


def doorbell_parity(artifact: Artifact, reference: Artifact) -> float:
    """Largest error of frames that a kernel waits for, over the largest value."""
    x = _frames(artifact, 1)[:, 0]
    with artifact.session(latency="doorbell") as session:
        found = np.array([session.step(frame).copy() for frame in x])
    return _error(found, reference.session().run(x))


def _frames(artifact: Artifact, streams: int) -> Any:
    shape = (40, streams, *artifact.signature.inputs[0].shape)
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def _error(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))


def _artifacts(workload: Workload, folder: Path) -> tuple[Artifact, Artifact]:
    return load_artifact(folder, workload, "cuda"), load_artifact(folder, workload, "reference")


def describe_kernel(artifact: Artifact) -> Result:
    """The kernel for one stream: its shape, what it does for a frame, and what that should cost."""
    entry = cuda_kernel(artifact).choose(1).entry
    index = kernel_entries(artifact.container).index(entry)
    facts = artifact.manifest["target"]["facts"]["kernels"][index]
    names = ("shape", "team", "registers", "work", "exchanges")
    return {**{name: facts.get(name) for name in names}, "expected_cycles": facts["cycles"]}


def main() -> int:
    """Do one section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("workloads", nargs="+", metavar="WORKLOAD")
    parser.add_argument("--option", default="", help="build: chips; peers: cuda or cpu")
    arguments = parser.parse_args()
    measure = SECTIONS[arguments.section]
    for name in arguments.workloads:
        line: Result = {"name": name}
        spoiled = False
        try:
            line["result"] = measure(find_workload(name), arguments.folder, arguments.option)
        except Exception as error:
            line["failed"] = f"{type(error).__name__}: {error}"
            line["trace"] = traceback.format_exc(limit=-4)
            spoiled = isinstance(error, ToolchainError)
        print(json.dumps(line), flush=True)
        if spoiled:
            return SPOILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
