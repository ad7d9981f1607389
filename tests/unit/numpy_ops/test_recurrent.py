"""LSTM, GRU and RNN against ONNX Runtime and against the formulas of the specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from numpy.typing import NDArray
from onnx import numpy_helper

from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import StreamError
from tests.models import FUNCTIONS, OUTPUTS, CellCase, cell_cases, cell_model, cell_weights
from tests.oracle import FP32, FP64, assert_close, expected_outputs, is_tame, random_inputs
from tests.unit.numpy_ops.specification import operator_fields, run_case

Array = NDArray[Any]
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
ALL_CELLS = pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])


def apply_case(
    case: CellCase, arrays: Mapping[str, Array], dtype: type[np.floating[Any]] = np.float32
) -> dict[str, Array]:
    """All outputs of the case through `apply`, all floating point data in `dtype`."""
    data = [arrays.get(name) for name in INPUTS]
    data = [
        None if d is None else d.astype(dtype) if np.issubdtype(d.dtype, np.floating) else d
        for d in data
    ]
    results = apply(case.op, operator_fields(case), data)
    assert all(result.dtype == dtype for result in results)
    return dict(zip(OUTPUTS[case.op], results, strict=True))


def connected(case: CellCase, results: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs that the model of the case has."""
    return {name: results[name] for name in case.connected}


def check(case: CellCase, given: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Everything against everything; returns what ONNX Runtime gave."""
    model = cell_model(case)
    inputs = {**random_inputs(model, seed=case.seed), **(given or {})}
    arrays = {**cell_weights(case), **inputs}
    expected = expected_outputs(model, inputs)
    exact = apply_case(case, arrays, np.float64)
    formulas = run_case(case, arrays)
    assert_close(exact, formulas, FP64, "float64 and specification")
    assert is_tame(exact)
    assert_close(connected(case, exact), expected, FP32, "float64")
    assert_close(connected(case, formulas), expected, FP32, "specification")
    assert_close(connected(case, apply_case(case, arrays)), expected, FP32, "float32")
    return expected


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(case=cell_cases(layouts=(0,)))
def test_attribute_matrix(case: CellCase) -> None:
    arrays = {**cell_weights(case), **random_inputs(cell_model(case), seed=case.seed)}
    assume(is_tame(run_case(case, arrays)))
    check(case)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@ALL_CELLS
def test_length_zero_gives_zeros_whatever_the_initial_state(op: str, direction: str) -> None:
    case = CellCase(
        op=op,
        batch=3,
        direction=direction,
        sequence_lens="input",
        initial_h="constant",
        initial_c="constant",
    )
    expected = check(case, {"sequence_lens": np.array([0, 5, 2], np.int32)})
    assert not expected["Y_h"][:, 0].any()
    assert expected["Y_h"][:, 1:].all()
    check(case, {"sequence_lens": np.array([0, 0, 0], np.int32)})


@ALL_CELLS
def test_frames_beyond_the_length_are_not_read(op: str) -> None:
    case = CellCase(op=op, direction="bidirectional", sequence_lens=(2,), outputs=("Y", "Y_h"))
    model, arrays = cell_model(case), cell_weights(case)
    x = random_inputs(model)["X"]
    beyond = x.copy()
    beyond[2:] = np.nan
    assert_close(
        apply_case(case, {**arrays, "X": beyond}), apply_case(case, {**arrays, "X": x}), FP64
    )


@ALL_CELLS
def test_lengths_out_of_range_are_refused(op: str) -> None:
    case = CellCase(op=op, batch=2, sequence_lens="input")
    arrays = {**cell_weights(case), **random_inputs(cell_model(case))}
    for lens in ([6, 1], [1, -1]):
        arrays["sequence_lens"] = np.array(lens, np.int32)
        with pytest.raises(StreamError, match=r"sequence_lens \[.*5 frames"):
            apply_case(case, arrays)


def test_clip_bounds_the_gates_but_not_the_cell_state() -> None:
    case = CellCase(
        activations=("Sigmoid", "Relu", "Relu"), clip=0.2, initial_c="input", peepholes=True
    )
    far = np.full((1, 1, case.hidden), 3.0, np.float32)
    expected = check(case, {"initial_c": far})
    assert float(expected["Y"][0].max()) > 0.2


def test_input_forget_ignores_the_forget_gate_altogether() -> None:
    case = CellCase(input_forget=True, peepholes=True, clip=0.5, initial_c="constant")
    check(case)
    model, arrays = cell_model(case), cell_weights(case)
    arrays.update(random_inputs(model))
    forgotten = {name: data.copy() for name, data in arrays.items()}
    rows = slice(2 * case.hidden, 3 * case.hidden)
    forgotten["W"][:, rows] = forgotten["R"][:, rows] = 7.0
    forgotten["P"][:, rows] = 7.0
    assert_close(apply_case(case, forgotten), apply_case(case, arrays), FP64)


@ALL_CELLS
def test_thresholded_relu_blocks_its_threshold(op: str) -> None:
    """As ONNX Runtime does, against the `x >= alpha` of the specification."""
    functions = ("ThresholdedRelu", "ThresholdedRelu", "Relu")[: FUNCTIONS[op]]
    case = CellCase(
        op=op,
        hidden=1,
        features=1,
        steps=1,
        bias=False,
        activations=functions,
        alpha=(0.5,) * functions.count("ThresholdedRelu"),
    )
    weights = {name: np.full_like(data, name == "W") for name, data in cell_weights(case).items()}
    model = cell_model(case)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    for x, passes in ((0.5, False), (0.75, True)):
        inputs = {"X": np.full((1, 1, 1), x, np.float32)}
        expected = expected_outputs(model, inputs)
        assert bool(expected["Y"].item()) is passes
        assert_close(apply_case(case, {**weights, **inputs}), expected)


@pytest.mark.parametrize("linear_before_reset", [False, True])
def test_gru_reset_gate(linear_before_reset: bool) -> None:
    check(
        CellCase(op="GRU", linear_before_reset=linear_before_reset, initial_h="constant", hidden=37)
    )


@ALL_CELLS
def test_activations_without_parameters_have_the_defaults_of_onnx_runtime(op: str) -> None:
    count = FUNCTIONS[op]
    for name in ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"):
        activations = ("Sigmoid", name, "Tanh")[:count] if count > 1 else (name,)
        check(CellCase(op=op, activations=activations, batch=2))


@ALL_CELLS
def test_parameters_go_to_the_functions_that_take_them(op: str) -> None:
    count = FUNCTIONS[op]
    one = ("Sigmoid", "LeakyRelu", "Tanh")[:count] if count > 1 else ("Tanh",)
    other = ("HardSigmoid", "Tanh", "Elu")[:count] if count > 1 else ("HardSigmoid",)
    case = CellCase(
        op=op,
        direction="bidirectional",
        activations=(*one, *other),
        alpha=(0.3, 0.25, 0.7)[:count],
        beta=(0.4,),
    )
    check(case)


@ALL_CELLS
def test_a_stream_equals_the_sequence(op: str) -> None:
    """The states of a chunk start the next one."""
    case = CellCase(op=op, steps=6, batch=2, hidden=5)
    arrays = {**cell_weights(case), **random_inputs(cell_model(case))}
    whole = apply_case(case, arrays, np.float64)
    frames: list[Array] = []
    states: dict[str, Array] = {}
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        chunk = {**arrays, **states, "X": arrays["X"][start:stop]}
        result = apply_case(case, chunk, np.float64)
        frames.append(result.pop("Y"))
        states = {name.replace("Y_", "initial_"): data for name, data in result.items()}
    assert_close(np.concatenate(frames), whole["Y"], FP64)
    assert_close(states["initial_h"], whole["Y_h"], FP64)


@ALL_CELLS
def test_saturated_gates_do_not_warn(op: str) -> None:
    case = CellCase(op=op, batch=2)
    arrays = {**cell_weights(case), **random_inputs(cell_model(case))}
    arrays["X"] = arrays["X"] * np.float32(1e30)
    assert all(np.isfinite(data).all() for data in apply_case(case, arrays).values())


@ALL_CELLS
def test_a_non_finite_sample_is_never_swallowed(op: str) -> None:
    """ONNX Runtime turns NaN gates into plausible numbers; NaN stays NaN here."""
    case = CellCase(op=op)
    arrays = {**cell_weights(case), **random_inputs(cell_model(case))}
    arrays["X"][2, 0, 1] = np.nan
    y = apply_case(case, arrays)["Y"]
    assert np.isfinite(y[:2]).all()
    assert np.isnan(y[2:]).all()
