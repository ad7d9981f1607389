"""Every quantized compilation says how good it is, and refuses what is useless."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgelstm.errors import CalibrationError, CapabilityError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.held_out import measure_outputs, split_recordings
from edgelstm_compiler.quant.scheme import Observer, QuantizeOptions
from tests.models import CellCase, _info, cell_attributes, cell_weights, make_model, stacked_model
from tests.quantized_models import recordings, step_graph
from tests.unit.quant.generated_models import CellWeights, walk

CELL = CellWeights.normal("LSTM", 6, 16)


def _record(**options: Any) -> dict[str, Any]:
    artifact = compile_model(CELL.model(), target="reference", check=False, **options)
    return dict(artifact.manifest["quantization"]["held_out"])


@pytest.mark.parametrize("scheme", ["fp16", "w8", "w4", "int8", "int8-full"])
def test_the_last_fifth_is_measured(scheme: str) -> None:
    """80 of 400 frames, with the error of every output."""
    found = _record(quantize=scheme, calibration=[walk(400, 6, 1)])
    assert found["on"].startswith("the last fifth")
    assert found["frames"] == 80
    assert found["outputs"]["y"]["sqnr_db"] > 15
    assert found["outputs"]["y"]["agreement"] is None


def test_recordings_held_out_are_measured() -> None:
    """In place of the last fifth; with a finished calibration too."""
    given = {"quantize": "int8", "holdout": [walk(150, 6, 2)]}
    found = _record(calibration=[walk(400, 6, 1)], **given)
    assert (found["on"], found["frames"]) == ("recordings held out", 150)


def test_without_recordings_synthetic_input_is_measured() -> None:
    """Stored weights need no recordings: then nothing is refused, but it is told."""
    found = _record(quantize="w8")
    assert found["on"].startswith("synthetic input")
    assert found["outputs"]["y"]["sqnr_db"] > 35


@pytest.mark.parametrize("frame", [100, 390])
def test_a_ruined_model_is_refused(frame: int) -> None:
    """Wherever the glitch is that ruins it; forced, it is compiled with a warning."""
    ruined = walk(400, 6, 1)
    ruined[frame] = 1e5
    given = {"quantize": "int8", "calibration": [ruined]}
    with pytest.raises(CalibrationError, match="--force"):
        _record(**given)
    (warning,) = _record(**given, force=True)["warnings"]
    assert "dB" in warning
    options = QuantizeOptions(observer=Observer.PERCENTILE)
    assert _record(**given, quantize_options=options)["warnings"] == []


def test_decisions_of_a_softmax() -> None:
    """The largest of each frame."""
    graph = step_graph(stacked_model(ops=("LSTM",), steps=None, head="sequence"))
    found = measure_outputs(graph, graph, recordings(graph, 1), on="")
    assert found.outputs["Z"].agreement == 1.0


def test_decisions_of_a_sigmoid() -> None:
    """Each element at 0.5; a shift of all of them is seen."""
    case = CellCase(op="LSTM", hidden=4, features=3)
    arrays = {**cell_weights(case), "v": np.ones((4, 1), np.float32), "axis": np.array([1])}

    def graph(bias: float) -> Any:
        nodes = [
            helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], **cell_attributes(case)),
            helper.make_node("Squeeze", ["Y", "axis"], ["y"]),
            helper.make_node("MatMul", ["y", "v"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["s"]),
            helper.make_node("Sigmoid", ["s"], ["Z"]),
        ]
        known = {**arrays, "b": np.array([bias], np.float32)}
        shapes = (("T", 1, 3), ("T", 1, 1))
        return step_graph(
            make_model(nodes, [_info("X", shapes[0])], [_info("Z", shapes[1])], known)
        )

    wanted = graph(0.0)
    given = recordings(wanted, 1)
    assert measure_outputs(wanted, wanted, given, on="").outputs["Z"].agreement == 1.0
    moved = measure_outputs(wanted, graph(9.0), given, on="")
    agreement = moved.outputs["Z"].agreement
    assert agreement is not None
    assert agreement < 0.9
    assert any("decides" in warning for warning in moved.warnings())


def test_splitting_calls() -> None:
    """In call mode the last fifth of the calls; too few leave nothing out."""
    graph = step_graph(stacked_model(ops=("LSTM",)), "call")
    parts = split_recordings(graph, recordings(graph, 11))
    assert parts is not None
    assert [len(part) for part in parts] == [9, 2]
    assert split_recordings(graph, recordings(graph, 4)) is None


@pytest.mark.parametrize(("scheme", "matrix"), [("fp16", "w"), ("fp16", "r"), ("w4", "r")])
def test_weights_beyond_halves(scheme: str, matrix: str) -> None:
    """Refused by name, with what holds them; never saturated, never a traceback."""
    cell = CellWeights.normal("LSTM", 6, 16)
    getattr(cell, matrix)[0, 3, 2] = 1e6
    with pytest.raises(CapabilityError, match="1e\\+06"):
        compile_model(cell.model(), target="reference", quantize=scheme, check=False)


def test_weights_for_volts() -> None:
    """EMG in microvolts, given in volts: weights of 500,000 are scaled in w4, refused in fp16."""
    cell = CELL.in_units(np.full(6, 1e-6), np.zeros(6))
    given = [np.asarray(walk(300, 6, 1) * 1e-6, np.float32)]
    with pytest.raises(CapabilityError, match="fp16"):
        compile_model(cell.model(), target="reference", quantize="fp16", calibration=given)
    artifact = compile_model(cell.model(), target="reference", quantize="w4", calibration=given)
    held_out = artifact.manifest["quantization"]["held_out"]
    assert held_out["outputs"]["y"]["sqnr_db"] > 15
