"""Input where no recording is given: seeded, smooth, within the ranges that calibration saw."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.check_inputs import default_domain, draw_white, find_domains, types_of
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.restore import Restored

_MEMORY = 0.9


def synthetic_recording(restored: Restored, count: int, seed: int = 0) -> Recording:
    """So many frames in floats for the float32 step graph; one whole input in call mode."""
    rng = np.random.default_rng(seed)
    graph = restored.float_graph
    calibration = restored.quantized.calibration if restored.quantized is not None else None
    types = types_of(graph)
    domains = find_domains(graph, lambda found: draw_white(types, found)) or {}
    recording: dict[str, Array] = {}
    for item in graph.inputs:
        shape, dtype = item.value.type.shape, item.value.type.dtype
        timed = item.time_axis is not None
        domain = domains.get(item.value.name, default_domain(dtype))
        if not dtype.is_float:
            noise = rng.standard_normal((count, *shape) if timed else shape)
            recording[item.value.name] = domain.of(noise, dtype)
            continue
        walk = _walk(rng, (count, *shape) if timed else shape)
        if calibration is not None and item.value.name in calibration.values:
            found = calibration.values[item.value.name]
            walk = found.mean + walk * np.minimum(found.high - found.mean, found.mean - found.low)
        elif domain.kind != "any":
            walk = domain.of(2.0 * walk, dtype)
        recording[item.value.name] = walk.astype(dtype.numpy)
    return recording


def _walk(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Filtered noise within [-1, 1] along the first axis."""
    noise = rng.standard_normal(shape)
    walk = np.empty_like(noise)
    level = np.zeros(shape[1:])
    for index, value in enumerate(noise):
        level = _MEMORY * level + np.sqrt(1 - _MEMORY**2) * value
        walk[index] = level
    return np.asarray(np.tanh(0.7 * walk + 0.1 * noise))
