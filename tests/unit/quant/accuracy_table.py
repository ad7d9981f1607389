"""Prints the accuracy of every scheme on real models: python -m tests.unit.quant.accuracy_table.

Beside them ONNX Runtime's dynamic quantization of the same model, over whole sequences.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.scheme import Scheme
from tests.conftest import CORPUS
from tests.unit.quant.real_models import RealModel, demo, pose, turbofan, watch

Array = NDArray[Any]
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
