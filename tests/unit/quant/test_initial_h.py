"""A hidden state that begins beyond [-1, 1]: held in a power of two, by all schemes of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.numerics.cells import Let, Narrow, Store, expect_sound
from edgelstm.numerics.wide_cells import ranged, widened
from edgelstm_compiler.ir.cells.gru import GRU
from edgelstm_compiler.ir.cells.lstm import LSTM
from edgelstm_compiler.ir.fields import make_op, op_fields
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Direction, IntegerRecurrent
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.models import stacked_model
from tests.quantized_models import quantized, step_graph
from tests.unit.quant.generated_models import CellWeights, walk

HIDDEN, FAR = 16, 1.9
CASES = [("GRU", True, 45.0), ("GRU", False, 40.0), ("LSTM", True, 40.0), ("RNN", True, 36.0)]


def _model(kind: str, linear: bool, *, is_input: bool = False) -> onnx.ModelProto:
    """A layer whose h begins between -1.9 and 1.9."""
    model = CellWeights.uniform(kind, 6, HIDDEN).model(linear_before_reset=linear)
    model.graph.node[0].input.extend(["", "h0"])
    if is_input:
        info = helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, 1, HIDDEN])
        model.graph.input.append(info)
    else:
        model.graph.initializer.append(numpy_helper.from_array(_far(), "h0"))
    return model


def _far() -> np.ndarray[Any, Any]:
    return np.linspace(-FAR, FAR, HIDDEN, dtype=np.float32).reshape(1, 1, HIDDEN)


def _layer(graph: StepGraph) -> IntegerRecurrent:
    (op,) = [node.op for node in graph.nodes if isinstance(node.op, IntegerRecurrent)]
    return op


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("scheme", [Scheme.INT8_FULL, Scheme.INT8])
@pytest.mark.parametrize(("kind", "linear", "least"), CASES)
def test_it_is_represented(
    kind: str, linear: bool, least: float, scheme: Scheme, wide: bool
) -> None:
    """From the first frame on as near as what begins at zero; clamped it was 0.1 to 0.9 off."""
    graph = step_graph(_model(kind, linear))
    calibration = calibrate(graph, [{"x": walk(600, 6, 1)}])
    result = quantize_graph(graph, calibration, scheme, QuantizeOptions(wide_h=wide))
    x = walk(200, 6, 2)
    wanted, found = (Replay(g).run({"x": x})["y"] for g in (graph, result.graph))
    assert np.abs(wanted - found)[:3].max() < 0.02
    is_narrow = scheme is Scheme.INT8_FULL and not wide
    assert measure(wanted, found).sqnr_db >= (28.0 if is_narrow else least)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_only_what_begins_far_has_an_exponent(kind: str) -> None:
    """And only then texts and programs say it: those of before are as they were."""
    found = []
    for model in (CellWeights.uniform(kind, 6, HIDDEN).model(), _model(kind, True)):
        graph = step_graph(model)
        calibration = calibrate(graph, [{"x": walk(300, 6, 1)}])
        op = _layer(quantize_graph(graph, calibration, Scheme.INT8_FULL).graph)
        fields = op_fields(op)
        assert make_op("IntegerRecurrent", fields) == op
        found.append((op.h_exponent, "h_exponent" in fields))
    assert found == [(0, False), (1, True)]


def test_an_input_has_the_range_of_its_recordings() -> None:
    """What a call is given is held as far as the recordings reached, and clamped beyond."""
    graph = step_graph(_model("GRU", True, is_input=True), "call", {"x": (20, 1, 6)})
    x = walk(20, 6, 1)[:, None]
    calibration = calibrate(graph, [{"x": x[None], "h0": _far()[None]}])
    result = quantize_graph(graph, calibration, Scheme.INT8_FULL).graph
    assert _layer(result).h_exponent == 1
    runs = {
        size: [
            Replay(g).run({"x": x[None], "h0": size * _far()[None]})["y"] for g in (graph, result)
        ]
        for size in (1.0, 4.0)
    }
    wanted, found = runs[1.0]
    assert np.abs(wanted - found).max() < 0.02
    # Clamped, and nothing wraps around.
    wanted, found = runs[4.0]
    first = found.reshape(20, HIDDEN)[0]
    assert np.abs(found).max() <= 2.0
    assert (np.sign(first) == np.sign(wanted.reshape(20, HIDDEN)[0]))[np.abs(first) > 0.5].all()


def test_inner_layers_show_it() -> None:
    """Of a layer whose int8 another layer reads."""
    model = stacked_model(ops=("GRU", "LSTM"), steps=None, head="sequence")
    first = model.graph.node[0]
    assert first.op_type == "GRU"
    size = next(a.i for a in first.attribute if a.name == "hidden_size")
    far = np.full((1, 1, size), 1.5, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(far, "far"))
    first.input.extend([""] * (5 - len(first.input)) + ["far"])
    graph = step_graph(model)
    result = quantized(graph, Scheme.INT8_FULL).graph
    layers = [node.op for node in result.nodes if isinstance(node.op, IntegerRecurrent)]
    assert [(op.h_exponent, op.is_wide) for op in layers] == [(1, False), (0, True)]
    name = graph.inputs[0].value.name
    x = np.sin(np.arange(60)[:, None] * np.array([0.11, 0.23, 0.31])).astype(np.float32)
    shown = graph.outputs[0].name
    wanted, found = (Replay(g).run({name: x})[shown] for g in (graph, result))
    assert measure(wanted, found).sqnr_db >= 35.0


def test_what_is_narrowed() -> None:
    """What a cell computes in Q0.15, and nothing that is in the state's format already."""
    lstm = ranged(widened(LSTM(HIDDEN, Direction.FORWARD, (), None).build(peepholes=False)))
    linear, twice = (
        ranged(
            GRU(HIDDEN, Direction.FORWARD, (), None, linear_before_reset=each).build(
                peepholes=False
            )
        )
        for each in (True, False)
    )
    for cell, wanted in ((lstm, 1), (linear, 1), (twice, 1)):
        expect_sound(cell)
        lets = [each for each in cell.statements if isinstance(each, Let)]
        narrowed = {each.name for each in lets if isinstance(each.node, Narrow)}
        assert len(narrowed) == wanted
        (stored,) = [s.value for s in cell.statements if isinstance(s, Store) and s.target == "h"]
        assert (stored in narrowed) is (cell is lstm)


def test_a_state_that_is_looked_up_has_none() -> None:
    """A table reads Q3.12 of a state of free size: of no other power of two."""
    cell = LSTM(HIDDEN, Direction.FORWARD, (), None).build(peepholes=False)
    turned = type(cell)(cell.name, cell.gates, cell.states[::-1], cell.phases, cell.peepholes)
    with pytest.raises(ValueError, match="power of two"):
        ranged(turned)
