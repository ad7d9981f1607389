"""The oracle itself: rewriting for ONNX Runtime, comparison, random inputs, tiny models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from tests.models import (
    BATCH_FIRST,
    CellCase,
    cell_cases,
    cell_model,
    cell_weights,
    gru_model,
    lstm_model,
    rnn_model,
    stacked_model,
)
from tests.oracle import (
    EXACT,
    FP32,
    assert_close,
    expected_outputs,
    float64_outputs,
    is_tame,
    random_inputs,
    run_onnxruntime,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cell_cases(layouts=(1,)))
def test_layout_1_is_layout_0_with_axes_swapped(case: CellCase) -> None:
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    plain = replace(case, layout=0)
    swapped = {
        name: data if name == "sequence_lens" else data.transpose(BATCH_FIRST)
        for name, data in inputs.items()
    }
    expected = run_onnxruntime(cell_model(plain), swapped)
    for name, data in expected_outputs(model, inputs).items():
        axes = (2, 0, 1, 3) if name == "Y" else BATCH_FIRST
        assert_close(data, expected[name].transpose(axes), EXACT)


def test_rnn_activations_in_any_case_of_letters() -> None:
    model, odd = (rnn_model(activations=(name,)) for name in ("Softsign", "softSIGN"))
    inputs = random_inputs(model)
    assert_close(expected_outputs(odd, inputs), run_onnxruntime(model, inputs), EXACT)
    with pytest.raises(Exception, match="RNN"):
        run_onnxruntime(odd, inputs)


def test_random_inputs_are_seeded_and_lengths_lie_within_the_sequence() -> None:
    model = lstm_model(steps=None, batch=None, sequence_lens="input", layout=1)
    dims = {"T": 4, "B": 50}
    first, again = (random_inputs(model, dims=dims, seed=1) for _ in range(2))
    assert first["X"].shape == (50, 4, 3)
    assert set(first["sequence_lens"].tolist()) == {0, 1, 2, 3, 4}
    assert_close(first, again, EXACT)
    assert not np.array_equal(first["X"], random_inputs(model, dims=dims, seed=2)["X"])


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0001], r"at \(1,\).*fp32 bound 2e-05"),
        ([1.0], [np.nan], "difference inf"),
        ([np.nan], [1.0], "difference inf"),
        ([np.inf], [-np.inf], "difference inf"),
        ([0.0, 1e30], [0.0, np.inf], "difference inf"),
        ([1.0], [1.0, 2.0], r"shape \(1,\), not \(2,\)"),
    ],
)
def test_differences_are_reported(actual: list[float], expected: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(np.array(actual), np.array(expected))


def test_equal_values_pass() -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1e30])
    assert_close(special, special.copy(), EXACT)
    assert_close({"a": np.array([1.0])}, {"a": np.array([1.000005])}, FP32)
    with pytest.raises(AssertionError, match="'b'"):
        assert_close({"a": special}, {"b": special})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cell_cases())
def test_the_two_oracles_agree(case: CellCase) -> None:
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    expected = expected_outputs(model, inputs)
    assume(is_tame(expected))
    assert_close(float64_outputs(model, inputs), expected)


@pytest.mark.parametrize("head", [None, "sequence", "last_step", "final_state"])
@pytest.mark.parametrize("steps", [5, None])
def test_stacked_models_run(head: str | None, steps: int | None) -> None:
    model = stacked_model(ops=("LSTM", "GRU", "RNN"), head=head, steps=steps, batch=2)  # type: ignore[arg-type]
    inputs = random_inputs(model, dims={"T": 5})
    (z,) = expected_outputs(model, inputs).values()
    assert_close(float64_outputs(model, inputs)["Z"], z)
    shape = {None: (5, 2, 8), "sequence": (5, 2, 5)}.get(head, (2, 5))
    assert z.shape == shape
    if head is not None:
        assert_close(z.sum(axis=-1), np.ones(shape[:-1], np.float32))


def test_bidirectional_stacks_run() -> None:
    model = stacked_model(direction="bidirectional", head="last_step", hidden=4)
    assert expected_outputs(model, random_inputs(model))["Z"].shape == (1, 5)


def test_models_of_a_seed_are_the_same_bytes() -> None:
    for build in (lstm_model, gru_model, rnn_model):
        assert build(seed=3).SerializeToString() == build(seed=3).SerializeToString()
        assert build(seed=3).SerializeToString() != build(seed=4).SerializeToString()


def test_a_constant_state_needs_a_batch() -> None:
    with pytest.raises(ValueError, match="static batch"):
        cell_weights(CellCase(batch=None, initial_h="constant"))
