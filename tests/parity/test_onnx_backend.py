"""The node tests of `onnx.backend.test` for the operators we import, through our ONNX backend."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.onnx_backend import EdgeLSTMBackend
from tests.support.node_cases import EVERY_CASE, outcomes, single_operators
from tests.support.node_table import committed, rendered, shares_of_networks

CASES = [case for case in EVERY_CASE if re.match(r"test_(lstm|gru|rnn|simple_rnn)_", case.name)]


@pytest.mark.parametrize("operator", sorted(single_operators()))
def test_operator(operator: str) -> None:
    """Every case of the operator passes or is refused by name; none gives another number."""
    assert outcomes(operator)


def test_the_table_of_operators_is_the_one_that_is_committed() -> None:
    """After a change: make support-table. Of what networks hold, 95 of 100 cases pass each."""
    assert not {name: share for name, share in shares_of_networks().items() if share < 0.95}
    assert committed() == rendered()


def test_the_suite_has_the_cases_we_rely_on() -> None:
    """LSTM, GRU and RNN stand in the suite, batch-wise layout among them."""
    names = {case.name for case in CASES}
    assert len(names) >= 15
    assert {"test_lstm_batchwise", "test_gru_batchwise", "test_simple_rnn_batchwise"} <= names


@pytest.mark.tvm
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case: object) -> None:
    """Every output of every data set is what ONNX says."""
    model = case.model  # type: ignore[attr-defined]
    prepared = EdgeLSTMBackend.prepare(model)
    for inputs, expected in case.data_sets:  # type: ignore[attr-defined]
        outputs = prepared.run(inputs)
        assert len(outputs) == len(expected)
        for actual, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.tvm
def test_run_node_and_run_model() -> None:
    """A single operator and a model run without preparation."""
    rng = np.random.default_rng(0)
    x, w, r = (rng.standard_normal(s).astype(np.float32) for s in ((5, 2, 3), (1, 4, 3), (1, 4, 4)))
    node = onnx.helper.make_node("RNN", ["X", "W", "R"], ["", "Y_h"], hidden_size=4)
    (y_h,) = EdgeLSTMBackend.run_node(node, [x, w, r])
    h = np.zeros((2, 4))
    for frame in x:
        h = np.tanh(frame @ w[0].T + h @ r[0].T)
    np.testing.assert_allclose(y_h[0], h, atol=1e-5)


def test_devices() -> None:
    """The CPU is supported, another device is refused by name."""
    assert EdgeLSTMBackend.supports_device("CPU")
    assert not EdgeLSTMBackend.supports_device("CUDA")
    with pytest.raises(UnsupportedOpError, match="CUDA"):
        EdgeLSTMBackend.prepare(CASES[0].model, "CUDA")
