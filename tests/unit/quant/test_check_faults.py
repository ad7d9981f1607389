"""What the self-check of quantized artifacts must see, and what it must not accuse."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgelstm.errors import MismatchError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.quant.check import check_quantized
from edgelstm_compiler.quant.model import QuantizeRequest, quantize_model
from tests.models import stacked_model
from tests.quantized_models import recordings, step_graph
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
