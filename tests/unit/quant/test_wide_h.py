"""int8-full: h in 16 bits for all but R, with a calibrated step for R."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import quantized, step_graph
from tests.unit.quant.generated_models import CellWeights, walk

LAYERS = [("LSTM", 64, 128, 44.0), ("LSTM", 6, 32, 45.0), ("GRU", 9, 64, 46.5)]
STACK = {"ops": ("LSTM", "GRU"), "steps": None, "head": "sequence"}
MODELS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lstm": (lstm_model, {"peepholes": True}, "call"),
    "bidirectional": (lstm_model, {"direction": "bidirectional"}, "call"),
    "lengths": (lstm_model, {"batch": 4, "sequence_lens": (5, 3, 1, 0)}, "call"),
    "gru": (gru_model, {"initial_h": "constant"}, "call"),
    "rnn": (rnn_model, {}, "call"),
    "stream": (stacked_model, STACK, "stream"),
    "both ways": (
        stacked_model,
        {"ops": ("LSTM", "GRU", "LSTM"), "direction": "bidirectional", "head": "last_step"},
        "call",
    ),
    "final state": (stacked_model, {"ops": ("GRU", "LSTM"), "head": "final_state"}, "call"),
}  # fmt: skip


def _sqnr(graph: StepGraph, other: StepGraph, x: np.ndarray) -> float:
    wanted, found = (Replay(g).run({"x": x.astype(np.float32)})["y"] for g in (graph, other))
    return measure(wanted, found).sqnr_db


@pytest.mark.parametrize(("kind", "features", "hidden", "least"), LAYERS)
def test_accuracy(kind: str, features: int, hidden: int, least: float) -> None:
    """At least 44 dB at (64,128), 45 at (6,32), 46.5 for a GRU of (9,64)."""
    graph = step_graph(CellWeights.uniform(kind, features, hidden).model())
    calibration = calibrate(graph, [{"x": walk(2000, features, 1)}])
    result = quantize_graph(graph, calibration, Scheme.INT8_FULL)
    assert _sqnr(graph, result.graph, walk(400, features, 2)) >= least


@pytest.mark.parametrize("frames", [250, 500, 2000])
@pytest.mark.parametrize(("kind", "features", "hidden", "least"), LAYERS)
def test_robustness(kind: str, features: int, hidden: int, least: float, frames: int) -> None:
    """At 1, 1.5 and 2 times the amplitude of few recordings: never worse than h by 1/127."""
    del least
    graph = step_graph(CellWeights.uniform(kind, features, hidden).model())
    calibration = calibrate(graph, [{"x": walk(frames, features, 1)}])
    graphs = [
        quantize_graph(graph, calibration, Scheme.INT8_FULL, QuantizeOptions(wide_h=wide)).graph
        for wide in (False, True)
    ]
    for amplitude in (1.0, 1.5, 2.0):
        x = amplitude * walk(400, features, 2)
        before, after = (_sqnr(graph, other, x) for other in graphs)
        assert after >= before - 2.0


@pytest.mark.parametrize("name", MODELS)
def test_no_float_operator_more(name: str) -> None:
    """Whatever reads h, no graph computes more in floating point than with an int8 h."""
    make, fields, mode = MODELS[name]
    graph = step_graph(make(**fields), mode)
    floats = []
    for wide in (False, True):
        result = quantized(graph, Scheme.INT8_FULL, QuantizeOptions(wide_h=wide))
        nodes = [node for node in result.graph.nodes if node.outputs[0].type.dtype.is_float]
        floats.append(sorted(node.op.kind for node in nodes))
    assert floats[1] == floats[0]


def test_who_shows_sixteen_bits() -> None:
    """The last layer does, its state too; one that a recurrent layer alone reads shows int8."""
    model = stacked_model(ops=("LSTM", "LSTM"), steps=None, head="sequence")
    graph = quantized(step_graph(model), Scheme.INT8_FULL).graph
    layers = [node for node in graph.nodes if isinstance(node.op, IntegerRecurrent)]
    types = [{value.type.dtype for value in node.outputs[:2]} for node in layers]
    assert types == [{DType.I8}, {DType.I16}]


def test_too_wide_for_sums_of_sixteen_bits() -> None:
    """A dense layer of more than 516 inputs reads int8."""
    model = stacked_model(ops=("LSTM",), steps=None, hidden=520, head="sequence")
    graph = quantized(step_graph(model), Scheme.INT8_FULL).graph
    (layer,) = [node for node in graph.nodes if isinstance(node.op, IntegerRecurrent)]
    assert layer.outputs[0].type.dtype is DType.I8


@pytest.mark.parametrize("name", ["Tanh", "Sigmoid"])
def test_integer_rnn(name: str) -> None:
    """A bounded RNN comes as close as the other cells."""
    graph = step_graph(rnn_model(steps=None, hidden=16, activations=(name,)))
    result = quantized(graph, Scheme.INT8_FULL)
    assert [layer.scheme for layer in result.layers] == [Scheme.INT8_FULL]
    x = np.sin(np.arange(300)[:, None] * np.array([0.11, 0.23, 0.31])).astype(np.float32)
    wanted, found = (Replay(g).run({"X": x})["Y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= 40.0
