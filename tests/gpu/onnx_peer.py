"""The same model in ONNX Runtime, on the GPU where its build can, else on the processor."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from tests.gpu.workloads import Workload, make_model

REPEATS = 10
STEPS = 500


def time_onnxruntime(workload: Workload) -> dict[str, float | str]:
    """Microseconds of a chunk and of one frame, or why there are none."""
    if not workload.chunk:
        return {}
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        return {"onnxruntime": str(error)}
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [each for each in wanted if each in runtime.get_available_providers()]
    session = runtime.InferenceSession(make_model(workload).SerializeToString(), None, providers)
    used = session.get_providers()[0]
    rng = np.random.default_rng(3)
    found: dict[str, float | str] = {"onnxruntime": f"{runtime.__version__} {used}"}
    for name, frames, repeats in (("chunk_us", workload.chunk, REPEATS), ("frame_us", 1, STEPS)):
        x = rng.standard_normal((frames, 1, workload.features)).astype(np.float32)
        times = []
        for _ in range(repeats):
            start = time.perf_counter_ns()
            session.run(None, {"X": x})
            times.append(time.perf_counter_ns() - start)
        found[name] = float(np.median(times)) / 1000
    return found
