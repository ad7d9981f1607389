"""A quantized step computes what the quantized sequence computes, bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.artifact import Artifact
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from tests.models import gru_model, lstm_model, stacked_model
from tests.quantized_models import quantized, recordings, step_graph

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (lstm_model, {}),
    "lstm_peepholes_clip": (lstm_model, {"peepholes": True, "clip": 0.5}),
    "lstm_input_forget": (lstm_model, {"input_forget": True}),
    "gru": (gru_model, {}),
    "gru_linear": (gru_model, {"linear_before_reset": True}),
}
FRAMES = 60


@pytest.mark.parametrize("name", CELLS)
def test_integer_stream_is_the_integer_call(name: str) -> None:
    """One call over 60 frames and 60 steps of a stream give the same integers."""
    make, fields = CELLS[name]
    sizes = {"hidden": 13, "features": 4, **fields}
    stream = step_graph(make(steps=None, **sizes))
    (recording,) = recordings(stream, 1, FRAMES)
    calibration = calibrate(stream, recordings(stream))
    steps = quantize_graph(stream, calibration, Scheme.INT8_FULL)
    found = Replay(steps.graph).run(recording)
    # The call is quantized by what the stream's calibration says: the layers have the same names.
    call = step_graph(make(steps=FRAMES, **sizes), "call")
    whole = quantize_graph(call, calibration, Scheme.INT8_FULL)
    x = recording["X"].reshape(FRAMES, 1, -1)
    wanted = Replay(whole.graph).run({"X": x})
    assert np.array_equal(found["Y"].reshape(FRAMES, -1), wanted["Y"].reshape(FRAMES, -1))
    assert np.array_equal(found["Y_h"][-1].ravel(), wanted["Y_h"].ravel())


def _artifact(scheme: str) -> Artifact:
    model = stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence", hidden=12)
    graph = step_graph(model)
    return compile_model(
        model, target="reference", quantize=scheme, calibration=recordings(graph, frames=150)
    )


@pytest.fixture(scope="module")
def artifacts() -> dict[str, Artifact]:
    """The stack in every scheme."""
    return {s.value: _artifact(s.value) for s in Scheme if s is not Scheme.FP32}


@pytest.mark.parametrize("scheme", [s.value for s in Scheme if s is not Scheme.FP32])
@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(0, 50), max_size=6))
def test_any_chunking(artifacts: dict[str, Artifact], scheme: str, cuts: list[int]) -> None:
    """Outputs and states after 50 frames do not depend on how the stream was cut."""
    artifact = artifacts[scheme]
    x = np.random.default_rng(3).standard_normal((50, 3)).astype(np.float32)
    whole, pieces = artifact.session(), artifact.session()
    wanted = np.array(whole.run(x))
    places = sorted({0, 50, *cuts})
    found = [np.array(pieces.run(x[a:b])) for a, b in itertools.pairwise(places)]
    assert np.array_equal(np.concatenate(found), wanted)
    assert pieces.snapshot() == whole.snapshot()


def test_integer_io_is_the_same_function() -> None:
    """Without conversions of inputs and outputs the same integers come out."""
    graph = step_graph(stacked_model(steps=None, head="sequence"))
    plain = quantized(graph, Scheme.INT8_FULL)
    options = QuantizeOptions(integer_io=True)
    bare = quantized(graph, Scheme.INT8_FULL, options)
    assert not any(value.type.dtype.is_float for node in bare.graph.nodes for value in node.outputs)
    (recording,) = recordings(graph, 1)
    tensor = next(tensor for tensor in bare.integer_tensors if tensor.name == "X")
    assert tensor.zero_point == 0
    inverse = (1 / np.array(tensor.scale)).astype(np.float32)
    steps = np.rint(recording["X"] * inverse).astype(np.int16)
    found = Replay(bare.graph).run({"X": steps})["Z"]
    wanted = Replay(plain.graph).run(recording)["Z"]
    np.testing.assert_allclose(found * np.float32(2.0**-15), wanted, atol=2e-3)
