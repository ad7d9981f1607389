"""Operations that move elements, and matrix products, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops import KINDS, apply
from edgelstm.errors import InternalError, StreamError
from edgelstm_compiler.ir.ops import OPERATORS, Recurrent
from tests.oracle import EXACT, assert_close
from tests.unit.numpy_ops.single_op import activation, onnx_op, our_op

Array = NDArray[Any]
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def test_every_operator_of_the_graph_is_known() -> None:
    assert {operator.__name__ for operator in (*OPERATORS, Recurrent)} == KINDS


def test_an_unknown_operator_is_our_fault() -> None:
    with pytest.raises(InternalError, match="'Conv' has no NumPy implementation"):
        apply("Conv", {}, [])


@pytest.mark.parametrize("perm", [(2, 0, 1), (0, 2, 1), (0, 1, 2), (2, 1, 0)])
def test_transpose(perm: tuple[int, ...]) -> None:
    ours = our_op("Transpose", [X], perm=list(perm))
    assert_close(ours, onnx_op("Transpose", [X], perm=perm), EXACT)


def test_reshape_reads_in_row_major_order() -> None:
    turned = our_op("Transpose", [X], perm=[2, 0, 1])
    assert_close(
        our_op("Reshape", [turned], shape=[6, 4]),
        onnx_op("Reshape", [np.ascontiguousarray(turned), ints(6, 4)]),
        EXACT,
    )
    assert our_op("Reshape", [np.array([7.0])], shape=[]).shape == ()


def test_broadcast() -> None:
    x = X[:, :1, :1]
    assert_close(
        our_op("Broadcast", [x], shape=[5, 2, 3, 4]),
        onnx_op("Expand", [x, ints(5, 2, 3, 4)]),
        EXACT,
    )


@given(data=st.data(), axis=st.integers(0, 2), step=st.sampled_from((-3, -2, -1, 1, 2, 5)))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_slice(data: st.DataObject, axis: int, step: int) -> None:
    extent = X.shape[axis]
    start = data.draw(st.integers(0, extent - 1))
    room = (extent - 1 - start) // step if step > 0 else start // -step
    count = 1 + data.draw(st.integers(0, room))
    stop = start + step * count
    limits = [ints(start), ints(stop if stop >= 0 else -(2**62)), ints(axis), ints(step)]
    ours = our_op("Slice", [X], axis=axis, start=start, step=step, count=count)
    assert ours.shape[axis] == count
    assert_close(ours, onnx_op("Slice", [X, *limits]), EXACT)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis: int, dtype: type[np.integer[Any]]) -> None:
    for indices in (np.array([[-1, 0], [1, -2]], dtype), np.array(-1, dtype), np.array([1], dtype)):
        assert_close(
            our_op("Gather", [X, indices], axis=axis),
            onnx_op("Gather", [X, indices], axis=axis),
            EXACT,
        )


@pytest.mark.parametrize("index", [3, -4])
def test_gather_out_of_bounds_is_refused(index: int) -> None:
    with pytest.raises(StreamError, match=r"within -3\.\.2"):
        our_op("Gather", [X, ints(0, index)], axis=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis: int) -> None:
    ours = our_op("Concat", [X, X + 100, X], axis=axis)
    assert_close(ours, onnx_op("Concat", [X, X + 100, X], axis=axis), EXACT)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (2, 4, 3)),
    ],
)
def test_matmul(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (a_shape, b_shape))
    ours = our_op("MatMul", [a, b])
    assert ours.dtype == np.float32
    assert_close(ours, onnx_op("MatMul", [a, b]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fn", [None, "relu", "sigmoid"])
def test_dense(fn: str | None, bias: bool) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((5, 4), (4, 3), (3,)))
    given: list[Array] = [x, w, b] if bias else [x, w]
    expected = onnx_op("Gemm", given)
    if fn is not None:
        expected = onnx_op(fn.capitalize(), [expected])
    chosen = None if fn is None else activation(fn)
    assert_close(our_op("Dense", given, activation=chosen), expected)
    assert_close(our_op("Dense", [x, w, b if bias else None], activation=chosen), expected)
    stacked = our_op("Dense", [x.reshape(5, 1, 4), *given[1:]], activation=chosen)
    assert_close(stacked[:, 0], expected)
