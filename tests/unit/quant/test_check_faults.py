"""What the self-check of quantized artifacts must see, and what it must not accuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper

from edgelstm.errors import MismatchError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant import check
from edgelstm_compiler.quant.between_steps import nudged
from edgelstm_compiler.quant.check import check_quantized
from edgelstm_compiler.quant.model import QuantizedModel, QuantizeRequest, quantize_model
from tests.models import stacked_model
from tests.quantized_models import Array, recordings, step_graph
from tests.unit.selfcheck.checked_models import (
    forgetful,
    one_layer,
    saturated_classifier,
    with_one_weight_off,
)

LOG = [helper.make_node("Log", ["x"], ["fed"])]


@pytest.mark.parametrize("scheme", ["fp16", "w8", "w4"])
def test_no_calibration_and_a_domain(scheme: str) -> None:
    """Without ranges the input is drawn where the model is defined."""
    model = one_layer("LSTM", before=LOG, frames="fed")
    check = compile_model(model, target="reference", quantize=scheme).manifest["check"]
    assert check["done"]
    assert check["domains"] == {"x": "positive"}
    assert all(np.isfinite(x["max_error"]) for x in check["distance"].values())


@pytest.mark.parametrize("scheme", ["int8", "int8-full"])
def test_calibrated_ranges_are_not_left(scheme: str) -> None:
    """A skewed range (most values near its lower end) still gives numbers that Log takes."""
    model = one_layer("LSTM", before=LOG, frames="fed")
    rng = np.random.default_rng(0)
    skewed = (0.01 + rng.exponential(1.0, (400, 6)) ** 3).astype(np.float32)
    artifact = compile_model(model, target="reference", quantize=scheme, calibration=skewed)
    check = artifact.manifest["check"]
    assert check["done"]
    assert check["inputs"] == "a recording"
    quantized = quantize_model(step_graph(model), QuantizeRequest(scheme, skewed))
    check = check_quantized(artifact, quantized)
    assert check["inputs"] == "seeded random input"
    assert all(np.isfinite(x["max_error"]) for x in check["distance"].values())


@pytest.mark.parametrize("scheme", ["w8", "int8", "int8-full"])
def test_a_run_that_forgets_its_state_is_seen(scheme: str) -> None:
    """In every scheme."""
    model = stacked_model(ops=("LSTM",), steps=None, head="sequence")
    given = recordings(step_graph(model))
    quantized = quantize_model(step_graph(model), QuantizeRequest(scheme, given))
    artifact = compile_model(
        model, target="reference", quantize=scheme, calibration=given, check=False
    )
    with pytest.raises(MismatchError, match="differs from the quantized step graph"):
        check_quantized(forgetful(artifact), quantized)


@pytest.mark.parametrize("scheme", ["fp16", "w8", "int8"])
@pytest.mark.parametrize("weight", ["W", "V"])
def test_a_wrong_weight_behind_saturation_is_seen(scheme: str, weight: str) -> None:
    """Saturated probabilities hide nothing."""
    model = saturated_classifier("LSTM", "Softmax", every_frame=True, seed=3)
    wrong = with_one_weight_off(model, weight, 7)
    given = recordings(step_graph(model))
    quantized = quantize_model(step_graph(model), QuantizeRequest(scheme, given))
    artifact = compile_model(
        wrong, target="reference", quantize=scheme, calibration=given, check=False
    )
    with pytest.raises(MismatchError):
        check_quantized(artifact, quantized)


def _between_steps(seed: int) -> tuple[onnx.ModelProto, QuantizedModel, Array]:
    """A model of two layers, quantized, and a recording in which values lie between two steps."""
    model = stacked_model(ops=("GRU", "LSTM"), features=5, hidden=19, steps=None, seed=3)
    rng = np.random.default_rng(seed)
    walk = (0.3 * np.cumsum(rng.standard_normal((300, 5)), axis=0)).astype(np.float32)
    return model, quantize_model(step_graph(model), QuantizeRequest("int8", walk, force=True)), walk


def test_a_value_between_two_steps_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases off by 1e-6, as float32 may be, turn one step over: known from equal states."""
    model, quantized, walk = _between_steps(3)
    artifact = compile_model(
        model, target="reference", quantize="int8", calibration=walk, check=False, force=True
    )
    near = dataclasses.replace(quantized, graph=nudged(quantized.graph, 1e-6))
    # The weights it holds ARE others, which is not what is asked here.
    monkeypatch.setattr(check, "_check_heads", lambda *given: None)
    facts = check_quantized(artifact, near, [{"X": walk}])
    assert facts["between_steps"]
    assert facts["max_error"] > facts["tolerance"]


@pytest.mark.parametrize("name", ["W_1", "B_1", "W_2", "B_2"])
def test_a_weight_off_is_seen_where_values_lie_between_two_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth off in one weight, by the outputs alone."""
    model, quantized, walk = _between_steps(3)
    monkeypatch.setattr(check, "_check_heads", lambda *given: None)
    artifact = compile_model(
        with_one_weight_off(model, name, 14),
        target="reference",
        quantize="int8",
        calibration=quantized.calibration,
        check=False,
        force=True,
    )
    with pytest.raises(MismatchError):
        check_quantized(artifact, quantized, [{"X": walk}])
