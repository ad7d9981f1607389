"""The same layers in PyTorch: cuDNN in float32 without TF32 and in float16, eager and as graphs.

On a machine without a GPU the same code runs on the processor (`--peers cpu`), to see that it runs.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tests.gpu.workloads import Workload

REPEATS = 10
WARM_UP = 3
STEPS = 500
MANY_FRAMES = 64


class Place(Protocol):
    """Where layers run, and how that is timed."""

    name: str

    def time(self, work: Callable[[], Any]) -> float:
        """Microseconds of one run."""
        ...

    def record(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """The same work as one graph."""
        ...

    def pin(self, tensor: Any) -> Any:
        """Host memory that copies start from at once."""
        ...

    def wait(self) -> None:
        """Until everything is done."""
        ...


class Gpu:
    """A GPU: times by events, graphs by capture."""

    name = "cuda"

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def time(self, work: Callable[[], Any]) -> float:
        """Between two events."""
        cuda = self.torch.cuda
        start, end = (cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        cuda.synchronize()
        return float(start.elapsed_time(end)) * 1000

    def record(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Warmed up in a stream of its own, then captured."""
        cuda = self.torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            work()
        replay: Callable[[], Any] = graph.replay
        return replay

    def pin(self, tensor: Any) -> Any:
        """Pinned by PyTorch."""
        return tensor.pin_memory()

    def wait(self) -> None:
        """For the whole device."""
        self.torch.cuda.synchronize()


class Processor:
    """The processor, for trying this file out: times by the clock, no graphs."""

    name = "cpu"

    def time(self, work: Callable[[], Any]) -> float:
        """By the clock."""
        start = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start) / 1000

    def record(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """The work itself."""
        return work

    def pin(self, tensor: Any) -> Any:
        """As it is."""
        return tensor

    def wait(self) -> None:
        """Nothing runs on."""


def time_torch(workload: Workload, where: str) -> dict[str, float | str]:
    """Microseconds by name, or why there are none; what fails does not keep the rest back."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        return {"torch": str(error)}
    if where == "cuda" and not torch.cuda.is_available():
        return {"torch": f"torch {torch.__version__} sees no GPU"}
    place: Place = Gpu(torch) if where == "cuda" else Processor()
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, float | str] = {"torch": str(torch.__version__)}
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        layer = getattr(torch.nn, workload.op)(workload.features, workload.hidden, workload.layers)
        layer = layer.to(place.name, dtype).eval()
        for kind, timing in _timings(torch, place, layer, workload).items():
            found[f"{kind}_{name}_us"] = _attempt(torch, timing)
    return found


def _timings(
    torch: Any, place: Place, layer: Any, workload: Workload
) -> dict[str, Callable[[], float]]:
    """What is timed of a layer, by kind."""
    one, many = (workload.chunk, 1), (MANY_FRAMES, workload.streams)
    timings: dict[str, Callable[[], float]] = {}
    if workload.chunk:
        timings["chunk"] = lambda: _chunk(torch, place, layer, workload, one, False)
        timings["chunk_graph"] = lambda: _chunk(torch, place, layer, workload, one, True)
        timings["step_graph"] = lambda: _step(torch, place, layer, workload)
    if workload.streams:
        timings["many"] = lambda: _chunk(torch, place, layer, workload, many, False)
    return timings


def _attempt(torch: Any, timing: Callable[[], float]) -> float | str:
    try:
        with torch.inference_mode():
            return timing()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _chunk(
    torch: Any,
    place: Place,
    layer: Any,
    workload: Workload,
    extents: tuple[int, int],
    as_graph: bool,
) -> float:
    """Frames of streams that stand on the device."""
    dtype = next(layer.parameters()).dtype
    x = torch.randn(*extents, workload.features, device=place.name, dtype=dtype)
    work = place.record(lambda: layer(x)) if as_graph else lambda: layer(x)
    times = []
    for _ in range(REPEATS + WARM_UP):
        place.wait()
        times.append(place.time(work))
    return float(np.median(times[WARM_UP:]))


def _step(torch: Any, place: Place, layer: Any, workload: Workload) -> float:
    """One frame from host memory to host memory, the layer and its states as one graph."""
    dtype = next(layer.parameters()).dtype
    x = torch.zeros(1, 1, workload.features, device=place.name, dtype=dtype)
    y = torch.zeros(1, 1, workload.hidden, device=place.name, dtype=dtype)
    h = torch.zeros(workload.layers, 1, workload.hidden, device=place.name, dtype=dtype)
    c = torch.zeros_like(h)
    is_lstm = workload.op == "LSTM"

    def work() -> None:
        made, after = layer(x, (h, c) if is_lstm else h)
        y.copy_(made)
        h.copy_(after[0] if is_lstm else after)
        if is_lstm:
            c.copy_(after[1])

    replay = place.record(work)
    frame = place.pin(torch.randn(1, 1, workload.features, dtype=dtype))
    result = place.pin(torch.empty(1, 1, workload.hidden, dtype=dtype))
    times = []
    for _ in range(STEPS):
        start = time.perf_counter_ns()
        x.copy_(frame, non_blocking=True)
        replay()
        result.copy_(y, non_blocking=True)
        place.wait()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times[50:])) / 1000
