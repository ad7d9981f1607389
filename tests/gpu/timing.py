"""Times kernels by events of the driver, and steps by the clock of the host; warm-up, medians."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.engines.cuda import CudaKernel
from edgelstm.engines.cuda_driver import Device, open_device
from edgelstm.engines.cuda_kernels import LoadedKernel
from edgelstm.engines.cuda_memory import DeviceMemory
from edgelstm.engines.cuda_streams import StreamRunner
from edgelstm.sessions import Session

REPEATS = 15
WARM_UP = 3
STEPS = 2000
_CLOCK_RATE = 13  # CU_DEVICE_ATTRIBUTE_CLOCK_RATE, in kHz


def cuda_kernel(artifact: Artifact) -> CudaKernel:
    """The artifact's kernels, loaded."""
    kernel: Any = artifact.kernel
    assert isinstance(kernel, CudaKernel)
    return kernel


def make_runner(artifact: Artifact, kernel: LoadedKernel, streams: int) -> StreamRunner:
    """Streams at their start, run by one of the artifact's kernels."""
    state = np.frombuffer(artifact.container.section("state_init"), np.uint8)
    runner = StreamRunner(open_device(), kernel, artifact.signature, streams, state.size)
    if state.size:
        runner.write_state(0, np.tile(state, streams))
    return runner


def time_launch(artifact: Artifact, frames: int, streams: int) -> float:
    """Microseconds of one launch over frames of all streams that stand in device memory."""
    kernel = cuda_kernel(artifact).choose(streams)
    return time_kernels(artifact, [kernel], frames, streams)[0]


def time_kernels(
    artifact: Artifact, kernels: Sequence[LoadedKernel], frames: int, streams: int
) -> list[float]:
    """The same for each of some kernels, on the same frames."""
    signature, device = artifact.signature, open_device()
    x = DeviceMemory(device, frames * streams * signature.input_bytes)
    y = DeviceMemory(device, frames * streams * signature.output_bytes)
    noise = np.random.default_rng(1).standard_normal(x.size // 4, np.float32)
    x.upload(noise.view(np.uint8))
    found = []
    for kernel in kernels:
        runner = make_runner(artifact, kernel, streams)

        def launch(runner: StreamRunner = runner) -> None:
            runner.start(x.address, y.address, frames)

        times = [_between_events(device, launch, runner.queue) for _ in range(REPEATS + WARM_UP)]
        found.append(float(np.median(times[WARM_UP:])))
    return found


def time_steps(session: Session) -> tuple[float, float]:
    """Microseconds of one step from Python, frame to result: median and 99th percentile."""
    spec = session.signature.inputs[0]
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


def clock_ghz() -> float:
    """The highest clock of the multiprocessors: turns times into cycles."""
    return open_device().attribute(_CLOCK_RATE) / 1e6


def _between_events(device: Device, work: Callable[[], None], stream: int) -> float:
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
