"""Prints the accuracy of every scheme: python -m tests.unit.quant.accuracy_table.

Real models beside ONNX Runtime's dynamic quantization of the same model, over whole sequences;
speech models with 24 frames to calibrate with; then seeded layers: their accuracy, and how it holds
at other amplitudes. "plain" is the same without rounding that compensates. Units, offsets, sparsity
and outliers: `accuracy_grid.py`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.recordings import as_recordings
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.rounding import choose_rounding
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.conftest import CORPUS
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import CellWeights, walk
from tests.unit.quant.real_models import RealModel, demo, pose, stepped, turbofan, watch

Array = NDArray[Any]
INTEGERS = (Scheme.INT8, Scheme.INT8_FULL)
SCHEMES = (Scheme.W8, Scheme.W4, *INTEGERS)
LAYERS = (("LSTM", 64, 128), ("LSTM", 6, 32), ("GRU", 9, 64))
CELLS = "{:20} {:14} {:>8} {:>8} {:>8} {:>10}"
ROW = "{:10} {:12} {:>8} {:>8} {:>10} {:>10} {:>10} {:>7} {:>8}"
FEW_FRAMES = ("silero_vad_openvino_16k", "dtln_model_2")


def main() -> None:
    """The table, one line per model and scheme."""
    head = ("model", "scheme", "SQNR dB", "plain dB", "max error", "RMS error", "decisions")
    print(ROW.format(*head, "bytes", "rounding"))
    for load in (demo, pose, turbofan, watch):
        model = load(CORPUS)
        _print_model(load.__name__, model)
        whole, found = _dynamic(model)
        _line(load.__name__, "ort dynamic", model, whole, found)
    for name in FEW_FRAMES:
        _print_model(name[:10], stepped(CORPUS, name))
    _print_layers()
    _print_amplitudes()


def _print_model(name: str, model: RealModel) -> None:
    """A line for each scheme, with the rounding that its recordings chose."""
    calibration = calibrate(model.graph, model.seen)
    recordings = as_recordings(model.graph, model.seen)
    wanted = model.outputs(model.graph)
    for scheme in Scheme:
        if scheme is Scheme.FP32:
            continue
        options = QuantizeOptions()
        chosen = choose_rounding(model.graph, calibration, recordings, scheme, options)
        result, plain = (
            quantize_graph(model.graph, calibration, scheme, each)
            for each in (chosen.options, replace(options, compensate=False))
        )
        before = sum(layer.bytes_before for layer in result.layers)
        share = f"{sum(layer.bytes_after for layer in result.layers) / before:.3f}"
        nearest = f"{measure(wanted, model.outputs(plain.graph)).sqnr_db:.1f}"
        how = chosen.to_json()["chosen"] if chosen.measured else ""
        found = model.outputs(result.graph)
        _line(name, scheme.value, model, wanted, found, nearest, share, how)


def _print_layers() -> None:
    """Layers of random weights on recordings that calibration has not seen, in dB."""
    print("\n" + CELLS.format("layer", "", *(scheme.value for scheme in SCHEMES)))
    for layer in LAYERS:
        for what, compensate in (("", True), ("plain", False)):
            graph, found = _quantized(layer, 2000, SCHEMES, QuantizeOptions(compensate=compensate))
            x = walk(400, layer[1], 2)
            print(CELLS.format(str(layer), what, *(_sqnr(graph, each, x) for each in found)))


def _print_amplitudes() -> None:
    """int8-full at other amplitudes than calibrated, with and without an h of 16 bits, in dB."""
    print("\n" + CELLS.format("int8-full", "frames", "x 1", "x 1.5", "x 2", "wide"))
    for layer, frames, wide in itertools.product(LAYERS, (250, 500, 2000), (False, True)):
        options = QuantizeOptions(wide_h=wide)
        graph, (found,) = _quantized(layer, frames, INTEGERS[1:], options)
        x = walk(400, layer[1], 2)
        shown = [_sqnr(graph, found, size * x) for size in (1.0, 1.5, 2.0)]
        print(CELLS.format(str(layer), frames, *shown, str(wide)), flush=True)


def _quantized(
    layer: tuple[str, int, int], frames: int, schemes: Sequence[Scheme], options: QuantizeOptions
) -> tuple[StepGraph, list[StepGraph]]:
    """A layer in float32 and in each scheme, calibrated on so many frames."""
    graph = step_graph(CellWeights.uniform(*layer).model())
    seen = [{"x": walk(frames, layer[1], 1)}]
    calibration = calibrate(graph, seen)
    return graph, [
        quantize_graph(graph, calibration, scheme, chosen.options).graph
        for scheme in schemes
        for chosen in (choose_rounding(graph, calibration, seen, scheme, options),)
    ]


def _sqnr(graph: StepGraph, quantized: StepGraph, x: Array) -> str:
    wanted, found = (Replay(each).run({"x": x})["y"] for each in (graph, quantized))
    return f"{measure(wanted, found).sqnr_db:.1f}"


def _line(
    name: str,
    scheme: str,
    model: RealModel,
    wanted: Array,
    found: Array,
    plain: str = "",
    share: str = "",
    rounding: str = "",
) -> None:
    error = measure(wanted, found)
    same = np.mean(model.decide(wanted) == model.decide(found))
    print(
        ROW.format(
            name,
            scheme,
            f"{error.sqnr_db:.1f}",
            plain,
            f"{error.max_error:.4f}",
            f"{error.rms_error:.5f}",
            f"{100 * same:.2f} %",
            share,
            rounding,
        ),
        flush=True,
    )


def _dynamic(model: RealModel) -> tuple[Array, Array]:
    """Outputs of ONNX Runtime in float32 and dynamically quantized, over whole recordings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dynamic.onnx"
        quantize_dynamic(model.path, path, weight_type=QuantType.QInt8)
        sessions = [onnxruntime.InferenceSession(p) for p in (str(model.path), str(path))]
    outputs: list[list[Array]] = [[], []]
    for recording in model.unseen:
        ((name, data),) = recording.items()
        x = data if data.ndim == 3 else data[None]
        for session, rows in zip(sessions, outputs, strict=True):
            rows.append(session.run(None, {name: x})[0].reshape(-1, model.columns))
    return np.concatenate(outputs[0]), np.concatenate(outputs[1])


if __name__ == "__main__":
    main()
