"""Quantized step graphs of tiny seeded models, and the recordings to calibrate them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgelstm_compiler.binding import bind_call, bind_stream
from edgelstm_compiler.driver import CompileOptions, to_step_graph
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import Quantized, quantize_graph
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme

Array = NDArray[Any]


def step_graph(
    model: onnx.ModelProto, mode: str = "stream", shapes: Mapping[str, Any] | None = None
) -> StepGraph:
    """The float step graph of a model, after all passes."""
    read = read_model(model)
    binding = (bind_stream if mode == "stream" else bind_call)(read, shapes or {})
    options = CompileOptions(mode=mode)  # type: ignore[arg-type]
    return to_step_graph(binding, options, PassContext())


def recordings(graph: StepGraph, count: int = 3, frames: int = 80, seed: int = 0) -> list[Any]:
    """Smooth seeded recordings for every input of a graph; whole inputs in call mode."""
    rng = np.random.default_rng(seed)
    return [
        {
            item.value.name: _smooth(rng, item.value.type.shape, graph.mode, frames).astype(
                item.value.type.dtype.numpy
            )
            if item.value.type.dtype.is_float
            else np.ones(item.value.type.shape, item.value.type.dtype.numpy)
            for item in graph.inputs
        }
        for _ in range(count)
    ]


def quantized(
    graph: StepGraph, scheme: Scheme, options: QuantizeOptions | None = None, seed: int = 0
) -> Quantized:
    """The graph in a scheme, calibrated on its own recordings."""
    return quantize_graph(graph, calibrate(graph, recordings(graph, seed=seed)), scheme, options)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], mode: str, frames: int) -> Array:
    full = shape if mode == "call" else (frames, *shape)
    noise = rng.standard_normal(full)
    return np.asarray(np.sin(0.4 * np.cumsum(noise, axis=0)) + 0.2 * noise)
