"""Softmax, LogSoftmax and LayerNorm against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.oracle import FP32, Tolerance, assert_close
from tests.unit.numpy_ops.single_op import onnx_op, our_op

Array = NDArray[Any]
X = (np.random.default_rng(1).standard_normal((2, 3, 4)) * 3).astype(np.float32)
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_axes(op: str, axis: int) -> None:
    ours = our_op(op, [X], axis=axis)
    assert ours.dtype == np.float32
    assert_close(ours, onnx_op(op, [X], axis=axis))
    assert_close(our_op(op, [X.astype(np.float64)], axis=axis), ours)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_at_the_edges(op: str) -> None:
    rows = [[1e30, -1e30, 0], [1000, 999, -1000], [-1e4, -1e4, -1e4], [-INF, 0, 1], [1e-40, 0, 0]]
    broken = [[INF, 1, 2], [-INF, -INF, -INF], [NAN, 1, 2]]
    for row in rows + broken:
        x = np.array([row], np.float32)
        assert_close(our_op(op, [x], axis=1), onnx_op(op, [x], axis=1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_layer_norm(axis: int, bias: bool) -> None:
    rng = np.random.default_rng(2)
    shape = X.shape[axis:]
    given = [rng.standard_normal(shape).astype(np.float32) for _ in range(2 if bias else 1)]
    expected = onnx_op("LayerNormalization", [X, *given], axis=axis, epsilon=1e-3)
    fields = {"axis": axis, "epsilon": float(np.float32(1e-3))}
    padded: list[Array | None] = [X, *given, *([] if bias else [None])]
    assert_close(our_op("LayerNorm", padded, **fields), expected)
    assert_close(our_op("LayerNorm", [X, *given], **fields), expected)
    exact = our_op("LayerNorm", [d.astype(np.float64) for d in (X, *given)], **fields)
    assert exact.dtype == np.float64
    assert_close(exact, expected)


def test_layer_norm_of_a_constant_row_and_of_a_large_offset() -> None:
    scale = np.ones(8, np.float32)
    epsilon = float(np.float32(1e-5))
    offset = 1000 + np.random.default_rng(4).standard_normal((2, 8))
    # At an offset of 1000 the samples themselves are known to 6e-5 only.
    for x, tolerance in ((np.full((1, 8), 3.0), FP32), (offset, Tolerance("offset", 2e-4))):
        data = x.astype(np.float32)
        ours = our_op("LayerNorm", [data, scale], axis=1, epsilon=epsilon)
        exact = our_op("LayerNorm", [data.astype(np.float64), scale], axis=1, epsilon=epsilon)
        assert_close(ours, exact, tolerance)
        expected = onnx_op("LayerNormalization", [data, scale], axis=1, epsilon=1e-5)
        assert_close(ours, expected, tolerance)
