"""Quantized graphs and the programs they are lowered to compute the same; packing loses nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_compiler.ir.text import graph_data, parse_graph, print_graph, same_structure
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.convert import Quantized
from edgelstm_compiler.quant.replay import Replay, chunks
from edgelstm_compiler.quant.scheme import Scheme
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import quantized, recordings, step_graph

ALL = ("Y", "Y_h", "Y_c")
CALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (lstm_model, {"hidden": 21, "features": 5, "batch": 3}),
    "lstm_peepholes": (lstm_model, {"hidden": 16, "peepholes": True, "batch": 2}),
    "lstm_bidirectional": (
        lstm_model,
        {"hidden": 5, "direction": "bidirectional", "peepholes": True, "initial_c": "constant"},
    ),
    "lstm_reverse_clip": (lstm_model, {"hidden": 8, "direction": "reverse", "clip": 0.3}),
    "lstm_lengths": (
        lstm_model,
        {"hidden": 8, "batch": 4, "sequence_lens": (5, 3, 1, 0), "initial_h": "input"},
    ),
    "lstm_input_forget": (lstm_model, {"hidden": 8, "input_forget": True, "bias": False}),
    "gru": (gru_model, {"hidden": 21, "features": 37, "batch": 2}),
    "gru_linear": (gru_model, {"hidden": 21, "linear_before_reset": True, "batch": 2}),
    "gru_bidirectional": (
        gru_model,
        {"hidden": 5, "direction": "bidirectional", "linear_before_reset": True, "clip": 1.0},
    ),
    "gru_hard": (gru_model, {"hidden": 9, "activations": ("HardSigmoid", "ScaledTanh"),
                             "alpha": (0.3, 0.9), "beta": (0.4, 1.1), "initial_h": "input"}),
    "rnn": (rnn_model, {"hidden": 7, "batch": 2}),
    "stacked": (stacked_model, {"ops": ("LSTM", "GRU"), "head": "sequence"}),
}  # fmt: skip
PACKINGS = (
    BytePacking(1, (128,), line=4, vector_bytes=4),
    BytePacking(1, (128, 0), line=4, vector_bytes=2),
    BytePacking(1, (0,), group=16, line=4, vector_bytes=2),
    BytePacking(8, (0, 128, 128, 0), group=8),
)
STORED = (Scheme.FP16, Scheme.W8, Scheme.W4)


def _quantized(name: str, scheme: Scheme) -> tuple[Quantized, list[Any]]:
    make, fields = CALL[name]
    graph = step_graph(make(**fields), "call")
    return quantized(graph, scheme), recordings(graph, seed=1)


@pytest.mark.parametrize("weight_offset", [0, 128])
@pytest.mark.parametrize("name", CALL)
def test_integer_program_is_the_graph(name: str, weight_offset: int) -> None:
    """In int8-full the packed program gives the graph's bits, every attribute, both layouts."""
    result, inputs = _quantized(name, Scheme.INT8_FULL)
    runner = ProgramRunner(lower(result.graph, 16, None, weight_offset))
    for recording in inputs:
        wanted = Replay(result.graph).run(recording)
        found = runner.step(recording)
        for output, value in wanted.items():
            assert np.array_equal(found[output], value[0]), output


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("name", ["lstm", "lstm_bidirectional", "gru", "gru_linear"])
def test_integer_program_in_other_packings(name: str, packing: BytePacking) -> None:
    """The same however a target wants the weights: groups, offsets byte by byte, short lines."""
    result, inputs = _quantized(name, Scheme.INT8_FULL)
    program = lower(result.graph, 16, None, 0, packing)
    runner = ProgramRunner(program)
    for recording in inputs:
        wanted = Replay(result.graph).run(recording)
        found = runner.step(recording)
        for output, value in wanted.items():
            assert np.array_equal(found[output], value[0]), output


def test_weights_of_one_unit_at_a_time_stand_as_documented() -> None:
    """Head of biases and multipliers, words of 4 inputs; every second byte has an offset."""
    graph = step_graph(lstm_model(hidden=5, features=6, outputs=("Y",)), "call")
    result = quantized(graph, Scheme.INT8_FULL)
    program = lower(result.graph, 16, None, 0, BytePacking(1, (128, 0), line=4))
    (call,) = [call for call in program.calls if call.kernel.kind == "RecurrentKernel"]
    place = call.inputs[1]
    assert place is not None
    blob = np.frombuffer(program.weights, np.uint8)[place.offset_bytes :][: place.type.nbytes]
    constants = {c.value.name: c.data for c in result.graph.constants}
    units = blob.reshape(5, 32 + 4 * 8 + 4 * 8)
    assert np.array_equal(
        units[:, :16].copy().view("<i4").T, constants["lstm_1.B.steps"].reshape(4, 5)
    )
    words = units[:, 32:64].reshape(5, 2, 4, 4).astype(np.uint8)
    words[..., 0::2] ^= 128
    rows = words.view(np.int8).transpose(2, 0, 1, 3).reshape(4, 5, 8)[..., :6]
    assert np.array_equal(rows.reshape(20, 6), constants["lstm_1.W.steps"][0])


@pytest.mark.parametrize("scheme", [*STORED, Scheme.INT8], ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("name", CALL)
def test_packed_program_is_the_graph(name: str, scheme: Scheme) -> None:
    """Packed weights are the graph's; sums of biases are rounded otherwise."""
    result, inputs = _quantized(name, scheme)
    runner = ProgramRunner(lower(result.graph, 16, None, 128))
    for recording in inputs:
        wanted = Replay(result.graph).run(recording)
        found = runner.step(recording)
        for output, value in wanted.items():
            tolerance = 2e-3 if scheme is Scheme.INT8 else 2e-6
            np.testing.assert_allclose(found[output], value[0], atol=tolerance)


@pytest.mark.parametrize("scheme", [*STORED, Scheme.INT8, Scheme.INT8_FULL], ids=str)
def test_streamed_program_carries_its_states(scheme: Scheme) -> None:
    """A stream through the program equals the replay of the graph, frame by frame."""
    graph = step_graph(stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence"))
    result = quantized(graph, scheme)
    (recording,) = recordings(graph, 1, 40, seed=5)
    wanted = Replay(result.graph).run(recording)["Z"]
    runner = ProgramRunner(lower(result.graph, 16))
    found = np.stack([runner.step(chunk)["Z"] for chunk in chunks(result.graph, recording)])
    if scheme is Scheme.INT8_FULL:
        assert np.array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.parametrize("scheme", [*STORED, Scheme.INT8, Scheme.INT8_FULL], ids=str)
def test_text_form(scheme: Scheme) -> None:
    """A quantized graph prints and parses back."""
    result, _ = _quantized("stacked", scheme)
    text = print_graph(result.graph)
    parsed = parse_graph(text, graph_data(result.graph))
    assert same_structure(parsed, result.graph)


def test_integer_weights_stand_as_documented() -> None:
    """The first block of an integer LSTM: biases, multipliers, then four k of a unit together."""
    graph = step_graph(lstm_model(hidden=5, features=6, outputs=("Y",)), "call")
    result = quantized(graph, Scheme.INT8_FULL)
    program = lower(result.graph, 16, None, 128)
    (call,) = [call for call in program.calls if call.kernel.kind == "RecurrentKernel"]
    place = call.inputs[1]
    assert place is not None
    blob = np.frombuffer(program.weights, np.uint8)[place.offset_bytes :][: place.type.nbytes]
    constants = {c.value.name: c.data for c in result.graph.constants}
    bias = blob[: 4 * 16 * 4].view("<i4").reshape(4, 16)[:, :5]
    assert np.array_equal(bias.ravel(), constants["lstm_1.B.steps"][0])
    lines = blob[256 : 256 + 8 * 32].view("<i2").reshape(2, 4, 16)[:, :, :5]
    assert np.array_equal(lines[0].ravel(), constants["lstm_1.W.multiplier"][0])
    assert np.array_equal(lines[1].ravel(), constants["lstm_1.R.multiplier"][0])
    w = blob[512 : 512 + 2 * 4 * 16 * 4].reshape(2, 4, 16, 4).astype(int) - 128
    rows = w.transpose(1, 2, 0, 3).reshape(4, 16, 8)[:, :5, :6].reshape(20, 6)
    assert np.array_equal(rows, constants["lstm_1.W.steps"][0])


@pytest.mark.parametrize(
    ("scheme", "share"),
    [(Scheme.FP16, 0.51), (Scheme.W8, 0.27), (Scheme.INT8, 0.27), (Scheme.INT8_FULL, 0.27),
     (Scheme.W4, 0.16)],
    ids=str,
)  # fmt: skip
def test_size_of_packed_weights(scheme: Scheme, share: float) -> None:
    """Packed weights of a large layer against those of float32."""
    graph = step_graph(lstm_model(hidden=128, features=64, steps=None, outputs=("Y",)))
    small = len(lower(quantized(graph, scheme).graph, 16).weights)
    assert small <= share * len(lower(graph, 16).weights)
