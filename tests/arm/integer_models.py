"""Artifacts in whole numbers for microcontrollers, and the bundled demo among them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import onnx

from edgelstm.artifact import Artifact
from edgelstm.io.recording import read_frames
from edgelstm.signature import Signature
from edgelstm_compiler import compile_model
from edgelstm_compiler.binding import bind_stream
from edgelstm_compiler.demo import MODEL_PATH, RATE_HZ, TRIAL_PATH
from edgelstm_compiler.driver import CompileOptions, to_step_graph
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.quantized_models import recordings, step_graph


def in_integers(
    source: onnx.ModelProto | Path, target: str, *, integer_io: bool = True, **options: Any
) -> Artifact:
    """int8-full, calibrated on seeded recordings."""
    model = onnx.load(source) if isinstance(source, Path) else source
    graph = step_graph(model, options.get("mode", "stream"), options.get("shapes"))
    return compile_model(
        source,
        target=target,
        quantize="int8-full",
        calibration=recordings(graph, frames=40),
        quantize_options=QuantizeOptions(integer_io=integer_io),
        check=False,
        **options,
    )


@functools.cache
def demo_signature() -> Signature:
    """The demo's inputs and outputs in floats."""
    return make_signature(demo_graph())


@functools.cache
def demo_calibration() -> Calibration:
    """What the bundled trial shows of the demo model."""
    return calibrate(demo_graph(), [dict(read_frames(TRIAL_PATH, demo_signature()))])


@functools.cache
def demo_in_integers(target: str) -> Artifact:
    """The phase model in int8-full without floats, calibrated on the bundled trial."""
    return compile_model(
        MODEL_PATH,
        target=target,
        rate_hz=RATE_HZ,
        quantize="int8-full",
        calibration=demo_calibration(),
        quantize_options=QuantizeOptions(integer_io=True),
        check=False,
    )


@functools.cache
def demo_graph() -> StepGraph:
    """The demo as a step graph."""
    return to_step_graph(bind_stream(read_model(MODEL_PATH), {}), CompileOptions(), PassContext())


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file, for what reads files."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path
