"""Prints the accuracy of every scheme: python -m tests.unit.quant.accuracy_table.

Real models beside ONNX Runtime's dynamic quantization of the same model, over whole sequences; then
seeded layers: their accuracy, and how it holds at other amplitudes. Units, offsets, sparsity and
outliers: `accuracy_grid.py`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.conftest import CORPUS
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import CellWeights, walk
from tests.unit.quant.real_models import RealModel, demo, pose, turbofan, watch

Array = NDArray[Any]
INTEGERS = (Scheme.INT8, Scheme.INT8_FULL)
SCHEMES = (Scheme.W8, Scheme.W4, *INTEGERS)
LAYERS = (("LSTM", 64, 128), ("LSTM", 6, 32), ("GRU", 9, 64))
CELLS = "{:20} {:14} {:>8} {:>8} {:>8} {:>10}"
ROW = "{:10} {:12} {:>8} {:>10} {:>10} {:>10} {:>7}"


def main() -> None:
    """The table, one line per model and scheme."""
    print(ROW.format("model", "scheme", "SQNR dB", "max error", "RMS error", "decisions", "bytes"))
    for load in (demo, pose, turbofan, watch):
        model = load(CORPUS)
        calibration = calibrate(model.graph, model.seen)
        wanted = model.outputs(model.graph)
        for scheme in Scheme:
            if scheme is Scheme.FP32:
                continue
            result = quantize_graph(model.graph, calibration, scheme)
            before = sum(layer.bytes_before for layer in result.layers)
            share = sum(layer.bytes_after for layer in result.layers) / before
            _line(load.__name__, scheme.value, model, wanted, model.outputs(result.graph), share)
        whole, found = _dynamic(model)
        _line(load.__name__, "ort dynamic", model, whole, found, None)
    _print_layers()
    _print_amplitudes()


def _print_layers() -> None:
    """Layers of random weights on recordings that calibration has not seen, in dB."""
    print("\n" + CELLS.format("layer", "", *(scheme.value for scheme in SCHEMES)))
    for layer in LAYERS:
        graph = step_graph(CellWeights.uniform(*layer).model())
        calibration = calibrate(graph, [{"x": walk(2000, layer[1], 1)}])
        x = walk(400, layer[1], 2)
        print(CELLS.format(str(layer), "", *_sqnr(graph, calibration, x, SCHEMES)))


def _print_amplitudes() -> None:
    """int8-full at other amplitudes than calibrated, with and without an h of 16 bits, in dB."""
    print("\n" + CELLS.format("int8-full", "frames", "x 1", "x 1.5", "x 2", "wide"))
    for layer, frames in itertools.product(LAYERS, (250, 500, 2000)):
        graph = step_graph(CellWeights.uniform(*layer).model())
        calibration = calibrate(graph, [{"x": walk(frames, layer[1], 1)}])
        for wide in (False, True):
            options = QuantizeOptions(wide_h=wide)
            found = [
                _sqnr(graph, calibration, size * walk(400, layer[1], 2), INTEGERS[1:], options)[0]
                for size in (1.0, 1.5, 2.0)
            ]
            print(CELLS.format(str(layer), frames, *found, str(wide)))


def _sqnr(
    graph: StepGraph,
    calibration: Calibration,
    x: Array,
    schemes: Sequence[Scheme],
    options: QuantizeOptions | None = None,
) -> list[str]:
    wanted = Replay(graph).run({"x": x})["y"]
    return [
        f"{measure(wanted, Replay(quantized.graph).run({'x': x})['y']).sqnr_db:.1f}"
        for quantized in (quantize_graph(graph, calibration, s, options) for s in schemes)
    ]


def _line(
    name: str, scheme: str, model: RealModel, wanted: Array, found: Array, share: float | None
) -> None:
    error = measure(wanted, found)
    same = np.mean(model.decide(wanted) == model.decide(found))
    print(
        ROW.format(
            name,
            scheme,
            f"{error.sqnr_db:.1f}",
            f"{error.max_error:.4f}",
            f"{error.rms_error:.5f}",
            f"{100 * same:.2f} %",
            "" if share is None else f"{share:.3f}",
        )
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
