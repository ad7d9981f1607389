"""The node tests of `onnx.backend.test` for the operators we import, through our ONNX backend."""

from __future__ import annotations

import re
import warnings

import numpy as np
import onnx
import pytest

from edgelstm.errors import EdgeLSTMError, UnsupportedOpError
from edgelstm_compiler.onnx_backend import EdgeLSTMBackend
from edgelstm_compiler.onnx_import.ops import OPERATORS

with warnings.catch_warnings():
    # ONNX computes the cases of all its operators when it lists them, infinities included.
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    EVERY_CASE = load_model_tests(kind="node")

CASES = [case for case in EVERY_CASE if re.match(r"test_(lstm|gru|rnn|simple_rnn)_", case.name)]
LOOPS = ("Loop", "Scan")
NOT_AS_ONNX_RUNTIME = {
    # The extent that the scale gives before it is rounded; ONNX Runtime takes the rounded one.
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}


def single_operators() -> dict[str, list[object]]:
    """Cases of one float32 node of an operator that we import, by operator."""
    found: dict[str, list[object]] = {}
    for case in EVERY_CASE:
        graph = case.model.graph
        infos = [*graph.input, *graph.output]
        if any(info.type.WhichOneof("value") != "tensor_type" for info in infos):
            continue
        kinds = {info.type.tensor_type.elem_type for info in infos}
        is_float = onnx.TensorProto.FLOAT in kinds and kinds <= KNOWN_TYPES
        if len(graph.node) == 1 and is_float and graph.node[0].op_type in {*OPERATORS, *LOOPS}:
            found.setdefault(graph.node[0].op_type, []).append(case)
    return found


KNOWN_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.BOOL,
}
SINGLE = single_operators()


class ReferenceBackend(EdgeLSTMBackend):
    """On the reference target: what is looked at here is the import."""

    target = "reference"


def as_array(item: object) -> np.ndarray:  # type: ignore[type-arg]
    """An expected output; some cases of ONNX hold it as a stored tensor."""
    if isinstance(item, onnx.TensorProto):
        return np.asarray(onnx.numpy_helper.to_array(item))
    return np.asarray(item)


def outcome(case: object) -> str:
    """Whether it "passed", or why the case is refused; another number fails an assertion."""
    for inputs, expected in case.data_sets:  # type: ignore[attr-defined]
        try:
            outputs = ReferenceBackend.prepare(case.model).run(  # type: ignore[attr-defined]
                [np.asarray(item) for item in inputs]
            )
        except EdgeLSTMError as error:
            return str(error)
        assert len(outputs) == len(expected)
        for actual, wanted in zip(outputs, map(as_array, expected), strict=True):
            assert actual.dtype == wanted.dtype
            np.testing.assert_allclose(actual, wanted, rtol=case.rtol, atol=1e-5)  # type: ignore[attr-defined]
    return "passed"


@pytest.mark.parametrize("operator", sorted(SINGLE))
def test_operator(operator: str) -> None:
    """Every case of the operator passes or is refused by name; none gives another number."""
    for case in SINGLE[operator]:
        if case.name not in NOT_AS_ONNX_RUNTIME:  # type: ignore[attr-defined]
            assert outcome(case)


def test_how_many_pass() -> None:
    """Nine of ten; what is refused are training modes, empty tensors, NaN inputs, powers."""
    outcomes = [
        outcome(case)
        for cases in SINGLE.values()
        for case in cases
        if case.name not in NOT_AS_ONNX_RUNTIME  # type: ignore[attr-defined]
    ]
    assert outcomes.count("passed") >= 0.9 * len(outcomes)


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
