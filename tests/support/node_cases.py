"""What becomes of ONNX's own node tests on the reference target."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.onnx_backend import EdgeLSTMBackend
from edgelstm_compiler.onnx_import.ops import OPERATORS
from edgelstm_compiler.onnx_import.refusals import operator_name

with warnings.catch_warnings():
    # ONNX computes the cases of all its operators when it lists them, infinities included.
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    EVERY_CASE = load_model_tests(kind="node")

LOOPS = ("Loop", "Scan")
KNOWN_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.BOOL,
}
NOT_AS_ONNX_RUNTIME = {
    # The extent that the scale gives before it is rounded; ONNX Runtime takes the rounded one.
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}


class ReferenceBackend(EdgeLSTMBackend):
    """On the reference target: what is looked at here is the import."""

    target = "reference"


@cache
def single_operators() -> dict[str, list[Any]]:
    """Cases of one float32 node of an operator that we import, by operator."""
    found: dict[str, list[Any]] = {}
    for case in EVERY_CASE:
        graph = case.model.graph
        infos = [*graph.input, *graph.output]
        if any(info.type.WhichOneof("value") != "tensor_type" for info in infos):
            continue
        kinds = {info.type.tensor_type.elem_type for info in infos}
        is_float = onnx.TensorProto.FLOAT in kinds and kinds <= KNOWN_TYPES
        if len(graph.node) != 1 or not is_float or case.name in NOT_AS_ONNX_RUNTIME:
            continue
        name = operator_name(graph.node[0])
        if name in {*OPERATORS, *LOOPS}:
            found.setdefault(name, []).append(case)
    return found


@cache
def outcomes(operator: str) -> dict[str, str]:
    """By case whether it "passed", or why it is refused; another number fails an assertion."""
    return {case.name: _outcome(case) for case in single_operators()[operator]}


def _outcome(case: Any) -> str:
    for inputs, expected in case.data_sets:
        try:
            outputs = ReferenceBackend.prepare(case.model).run(
                [np.asarray(item) for item in inputs]
            )
        except EdgeLSTMError as error:
            return str(error)
        assert len(outputs) == len(expected), case.name
        for actual, wanted in zip(outputs, map(as_array, expected), strict=True):
            assert actual.dtype == wanted.dtype, case.name
            np.testing.assert_allclose(actual, wanted, rtol=case.rtol, atol=1e-5, err_msg=case.name)
    return "passed"


def as_array(item: object) -> np.ndarray:  # type: ignore[type-arg]
    """An expected output; some cases of ONNX hold it as a stored tensor."""
    if isinstance(item, onnx.TensorProto):
        return np.asarray(onnx.numpy_helper.to_array(item))
    return np.asarray(item)
