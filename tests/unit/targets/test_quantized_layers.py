"""Quantized layers in native code, every attribute: int8-full bit for bit, the others closely."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm_compiler import elf
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_targets.processors.x86 import HOST
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import quantized, recordings, step_graph
from tests.unit.targets.native import emit, natives

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

SCHEMES = tuple(scheme for scheme in Scheme if scheme is not Scheme.FP32)
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (lstm_model, {"hidden": 21, "features": 5, "batch": 3}),
    "lstm_one_unit": (lstm_model, {"hidden": 1, "features": 1}),
    "lstm_17_units": (lstm_model, {"hidden": 17, "features": 34, "peepholes": True}),
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
    "lstm_input_forget": (lstm_model, {"hidden": 40, "input_forget": True, "bias": False}),
    "gru": (gru_model, {"hidden": 21, "features": 37, "batch": 2}),
    "gru_17_units": (gru_model, {"hidden": 17, "features": 65, "direction": "reverse"}),
    "gru_linear": (gru_model, {"hidden": 33, "linear_before_reset": True, "batch": 2}),
    "gru_lengths": (gru_model, {"hidden": 33, "batch": 3, "sequence_lens": (0, 5, 2)}),
    "gru_bidirectional": (
        gru_model,
        {"hidden": 5, "direction": "bidirectional", "linear_before_reset": True, "clip": 1.0},
    ),
    "gru_hard": (gru_model, {"hidden": 9, "activations": ("HardSigmoid", "ScaledTanh"),
                             "alpha": (0.3, 0.9), "beta": (0.4, 1.1), "initial_h": "input"}),
    "rnn": (rnn_model, {"hidden": 7, "batch": 2}),
    "stacked": (stacked_model, {"ops": ("LSTM", "GRU"), "head": "sequence", "hidden": 20}),
}  # fmt: skip


def _tolerance(scheme: Scheme) -> float:
    # int8: an h between two steps may be rounded either way.
    return {Scheme.INT8_FULL: 0.0, Scheme.INT8: 2e-3}.get(scheme, 3e-6)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_the_graph(name: str, scheme: Scheme) -> None:
    """Outputs and states of every instruction set against the program run in NumPy."""
    make, fields = LAYERS[name]
    graph = step_graph(make(**fields), "call")
    program = lower(quantized(graph, scheme).graph, HOST.unit_block, None, HOST.weight_offset)
    runner = ProgramRunner(program)
    compiled = natives(program)
    for recording in recordings(graph, seed=1):
        wanted = runner.step(recording)
        for isa, native in compiled.items():
            native.reset()
            specs = program.signature
            found = native.step(*(recording[spec.name] for spec in specs.inputs))
            for spec, value in zip(specs.outputs, found, strict=True):
                expected = wanted[spec.name].reshape(value.shape)
                limit = _tolerance(scheme)
                np.testing.assert_allclose(value, expected, 0, limit, err_msg=f"{isa} {spec.name}")


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.value)
def test_code_is_complete_and_small(scheme: Scheme) -> None:
    """No symbol is wanted, no function of libm; at most 64 KB for an instruction set."""
    graph = step_graph(stacked_model(ops=("LSTM", "GRU"), steps=None, hidden=40, head="sequence"))
    program = lower(quantized(graph, scheme).graph, HOST.unit_block, None, HOST.weight_offset)
    sections = emit(program).sections
    codes = {name: code for name, code in sections.items() if name.startswith("code/")}
    assert ("code/x86-64-v4-vnni" in codes) == (scheme in (Scheme.INT8, Scheme.INT8_FULL))
    for name, code in codes.items():
        assert elf.undefined(code, dynamic=True) == (), name
        assert len(code) <= 64 << 10, (name, len(code))
