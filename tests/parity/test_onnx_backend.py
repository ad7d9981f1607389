"""The recurrent node tests of `onnx.backend.test`, through our ONNX backend."""

from __future__ import annotations

import re
import warnings

import numpy as np
import onnx
import pytest

from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.onnx_backend import EdgeLSTMBackend

with warnings.catch_warnings():
    # ONNX computes the cases of all its operators when it lists them, infinities included.
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    CASES = [
        case
        for case in load_model_tests(kind="node")
        if re.match(r"test_(lstm|gru|rnn|simple_rnn)_", case.name)
    ]


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
