"""The same layers in PyTorch, by cuDNN: float32 without TF32, float16, and under a CUDA graph."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from tests.gpu.workloads import Workload

REPEATS = 10
STEPS = 500


def time_torch(workload: Workload) -> dict[str, float | str]:
    """Microseconds by name, or why there are none."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        return {"torch": str(error)}
    if not torch.cuda.is_available():
        return {"torch": "sees no GPU"}
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, float | str] = {"torch": str(torch.__version__)}
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        layer = getattr(torch.nn, workload.op)(workload.features, workload.hidden, workload.layers)
        layer = layer.cuda().to(dtype).eval()
        with torch.inference_mode():
            found[f"chunk_{name}_us"] = _chunk(torch, layer, workload.chunk, 1, workload, dtype)
            found[f"step_graph_{name}_us"] = _step(torch, layer, workload, dtype)
            if workload.streams:
                found[f"many_{name}_us"] = _chunk(
                    torch, layer, 64, workload.streams, workload, dtype
                )
    return found


def _chunk(
    torch: Any, layer: Any, frames: int, streams: int, workload: Workload, dtype: Any
) -> float:
    x = torch.randn(frames, streams, workload.features, device="cuda", dtype=dtype)
    for _ in range(3):
        layer(x)
    torch.cuda.synchronize()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(True), torch.cuda.Event(True)
        start.record()
        layer(x)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1000)
    return float(np.median(times))


def _step(torch: Any, layer: Any, workload: Workload, dtype: Any) -> float:
    """One frame from host memory to host memory, the layer as a CUDA graph."""
    x = torch.zeros(1, 1, workload.features, device="cuda", dtype=dtype)
    shape = (workload.layers, 1, workload.hidden)
    h = torch.zeros(shape, device="cuda", dtype=dtype)
    states: Any = (h, h.clone()) if workload.op == "LSTM" else h
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            layer(x, states)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, after = layer(x, states)
        if workload.op == "LSTM":
            states[0].copy_(after[0])
            states[1].copy_(after[1])
        else:
            states.copy_(after)
    frame = torch.randn(1, 1, workload.features, dtype=dtype).pin_memory()
    result = torch.empty(1, 1, workload.hidden, dtype=dtype).pin_memory()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter_ns()
        x.copy_(frame, non_blocking=True)
        graph.replay()
        result.copy_(y, non_blocking=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times[50:])) / 1000
