"""Times kernels by events, and steps by the clock of the host; warm-up first, medians."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.engines.cuda import CudaKernel
from edgelstm.engines.cuda_driver import Device, open_device

REPEATS = 15
STEPS = 2000


def time_chunk(artifact: Artifact, frames: int, streams: int) -> float:
    """Microseconds of one launch over a chunk, on what stands in device memory."""
    kernel: Any = artifact.kernel
    assert isinstance(kernel, CudaKernel)
    signature = artifact.signature
    runner = kernel.bind_streams(streams, artifact.manifest["memory"]["state_bytes"])
    rng = np.random.default_rng(1)
    shape = (frames * streams * signature.input_bytes // 4,)
    x = rng.standard_normal(shape).astype(np.float32)
    y = np.empty(frames * streams * signature.output_bytes, np.uint8)
    runner.run(x.view(np.uint8), y, frames)
    times = [
        _between_events(lambda: runner.launch(frames), runner.queue) for _ in range(REPEATS + 3)
    ]
    return float(np.median(times[3:]))


def time_steps(artifact: Artifact) -> tuple[float, float]:
    """Microseconds of one step from Python, launch to result: median and 99th percentile."""
    session = artifact.session()
    spec = artifact.signature.inputs[0]
    frame = np.random.default_rng(2).standard_normal(spec.shape).astype(np.float32)
    for _ in range(100):
        session.step(frame)
    times = np.empty(STEPS)
    for index in range(STEPS):
        start = time.perf_counter_ns()
        session.step(frame)
        times[index] = time.perf_counter_ns() - start
    median, late = np.percentile(times, (50, 99)) / 1000
    return float(median), float(late)


def _between_events(work: Callable[[], None], stream: int) -> float:
    device: Device = open_device()
    driver = device.driver
    events = [driver.handle("cuEventCreate", 0) for _ in range(2)]
    driver.call("cuEventRecord", events[0], stream)
    work()
    driver.call("cuEventRecord", events[1], stream)
    driver.call("cuEventSynchronize", events[1])
    milliseconds = ctypes.c_float()
    driver.call("cuEventElapsedTime", ctypes.byref(milliseconds), *events)
    for event in events:
        driver.call("cuEventDestroy_v2", event)
    return milliseconds.value * 1000
