"""Functions, arithmetic and casts against ONNX Runtime, at the edges of the number line too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from edgelstm.dtypes import DType
from edgelstm.numerics.activations import sigmoid
from tests.oracle import EXACT, FP32, assert_close
from tests.unit.numpy_ops.single_op import activation, onnx_op, our_op

Array = NDArray[Any]
INF, NAN = np.inf, np.nan
EDGES = np.array(
    [
        "nan",
        "inf",
        "-inf",
        "0",
        "-0",
        "1e-40",
        "-1e-40",
        "1e-30",
        "5",
        "-5",
        "0.5",
        "-0.5",
        "2.9",
        "-3",
        "3",
        "87",
        "-87",
        "100",
        "-100",
        "200",
        "-200",
        "1e30",
        "-1e30",
        "0.1",
        "-1e-6",
        "1e-6",
        "1",
        "-1",
        "88.8",
        "-103.5",
    ],
    np.float32,
)
FUNCTIONS: list[tuple[str, dict[str, Any], str, float, float]] = [
    ("Sigmoid", {}, "sigmoid", 0, 0),
    ("Tanh", {}, "tanh", 0, 0),
    ("Relu", {}, "relu", 0, 0),
    ("LeakyRelu", {}, "leaky_relu", 0.01, 0),
    ("LeakyRelu", {"alpha": 1.5}, "leaky_relu", 1.5, 0),
    ("ThresholdedRelu", {"alpha": 0.5}, "thresholded_relu", 0.5, 0),
    ("ThresholdedRelu", {}, "thresholded_relu", 1.0, 0),
    ("HardSigmoid", {}, "hard_sigmoid", 0.2, 0.5),
    ("HardSigmoid", {"alpha": -0.4, "beta": 0.1}, "hard_sigmoid", -0.4, 0.1),
    ("Elu", {}, "elu", 1.0, 0),
    ("Elu", {"alpha": 0.3}, "elu", 0.3, 0),
    ("Softsign", {}, "softsign", 0, 0),
    ("Softplus", {}, "softplus", 0, 0),
    ("Selu", {}, "selu", 1.67326319217681884765625, 1.05070102214813232421875),
    ("Celu", {}, "celu", 1.0, 0),
    ("Celu", {"alpha": 2.5}, "celu", 2.5, 0),
    ("HardSwish", {}, "hard_swish", 0, 0),
    ("Neg", {}, "neg", 0, 0),
    ("Abs", {}, "abs", 0, 0),
    ("Exp", {}, "exp", 0, 0),
    ("Log", {}, "log", 0, 0),
    ("Sqrt", {}, "sqrt", 0, 0),
    ("Reciprocal", {}, "reciprocal", 0, 0),
    ("Erf", {}, "erf", 0, 0),
]


def assert_each_close(actual: Array, expected: Array) -> None:
    """1e-5 of every element on its own, so that one huge element excuses no other."""
    for a, e in zip(actual.ravel(), expected.ravel(), strict=True):
        assert_close(np.asarray(a), np.asarray(e), FP32)


@pytest.mark.parametrize(
    ("op", "attributes", "fn", "alpha", "beta"), FUNCTIONS, ids=lambda item: str(item)
)
def test_function(op: str, attributes: dict[str, Any], fn: str, alpha: float, beta: float) -> None:
    rng = np.random.default_rng(3)
    for x in (EDGES, (rng.standard_normal((3, 1, 17)) * 4).astype(np.float32)):
        ours = our_op("Unary", [x], activation=activation(fn, alpha, beta))
        assert ours.dtype == np.float32
        assert_each_close(ours, onnx_op(op, [x], **attributes))
        exact = our_op("Unary", [x.astype(np.float64)], activation=activation(fn, alpha, beta))
        assert exact.dtype == np.float64
        moderate = (np.abs(x) < 80) & (np.abs(x) > 1e-30)
        assert_each_close(exact[moderate], ours[moderate])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (2.0, 1.0), (-INF, 0.5), (0.0, INF)])
def test_clip(low: float, high: float) -> None:
    limits = [np.array(low, np.float32), np.array(high, np.float32)]
    ours = our_op("Unary", [EDGES], activation=activation("clip", low, high))
    assert_close(ours, onnx_op("Clip", [EDGES, *limits]), EXACT)


@pytest.mark.parametrize("fn", ["affine", "scaled_tanh"])
def test_functions_that_are_no_operators(fn: str) -> None:
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    ours = our_op("Unary", [x], activation=activation(fn, 0.6, 0.3))
    formula = {"affine": 0.6 * x + 0.3, "scaled_tanh": 0.6 * np.tanh(0.3 * x)}[fn]
    assert_close(ours, formula)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_functions_of_integers(dtype: type[np.integer[Any]]) -> None:
    x = np.array([-7, -1, 0, 3, 100], dtype)
    for op, fn in (("Neg", "neg"), ("Abs", "abs")):
        ours = our_op("Unary", [x], activation=activation(fn))
        assert ours.dtype == dtype
        assert_close(ours, onnx_op(op, [x]), EXACT)
    limits = [np.array(-2, dtype), np.array(50, dtype)]
    ours = our_op("Unary", [x], activation=activation("clip", -2, 50))
    assert_close(ours, onnx_op("Clip", [x, *limits]), EXACT)
    unbounded = our_op("Unary", [x], activation=activation("clip", -INF, INF))
    assert_close(unbounded, x, EXACT)


def test_scalars_keep_their_type() -> None:
    x = np.array(0.3, np.float32)
    for _, _, fn, alpha, beta in FUNCTIONS:
        result = our_op("Unary", [x], activation=activation(fn, alpha, beta))
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
        assert result.shape == ()
    for name in ("add", "sub", "mul", "div", "min", "max"):
        result = our_op("Binary", [x, x], arithmetic=name)
        assert result.dtype == np.float32
        assert result.shape == ()


@given(st.floats(width=64, allow_nan=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sigmoid_is_accurate_everywhere(x: float) -> None:
    with np.errstate(all="ignore"):
        y = float(sigmoid(np.array(x)))
    expected = 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
    assert y == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((), (2, 3)), ((1, 5), (5,))]
)
def test_arithmetic_broadcasts(op: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    a = np.asarray(rng.standard_normal(a_shape), np.float32)
    b = np.asarray(rng.standard_normal(b_shape), np.float32)
    ours = our_op("Binary", [a, b], arithmetic=op.lower())
    assert ours.dtype == np.float32
    assert_close(ours, onnx_op(op, [a, b]))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
def test_arithmetic_at_the_edges(op: str) -> None:
    a, b = (grid.ravel() for grid in np.meshgrid(EDGES, EDGES))
    assert_each_close(our_op("Binary", [a, b], arithmetic=op.lower()), onnx_op(op, [a, b]))


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**31) + 1, 2**31 - 1),
            st.integers(-50, 50).filter(lambda item: item != 0),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_integer_division_rounds_towards_zero(pairs: list[tuple[int, int]]) -> None:
    for dtype in (np.int32, np.int64):
        a, b = (np.array(side, dtype) for side in zip(*pairs, strict=True))
        ours = our_op("Binary", [a, b], arithmetic="div")
        assert ours.dtype == dtype
        assert_close(ours, onnx_op("Div", [a, b]), EXACT)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Min", "Max"])
def test_integer_arithmetic(op: str) -> None:
    a, b = np.array([-7, 7, 2**31 - 1], np.int32), np.array([2, -2, 5], np.int32)
    assert_close(our_op("Binary", [a, b], arithmetic=op.lower()), onnx_op(op, [a, b]), EXACT)


def test_integer_division_by_zero_does_not_warn() -> None:
    one, zero = np.array([1], np.int32), np.array([0], np.int32)
    assert our_op("Binary", [one, zero], arithmetic="div").dtype == np.int32


@pytest.mark.parametrize("target", ["f64", "f32", "f16", "i64", "i32", "i8", "u8", "bool"])
@pytest.mark.parametrize("source", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_cast(source: type[np.generic], target: str) -> None:
    dtype = DType(target).numpy
    low = 0 if target == "u8" else -100
    x = np.array([low, 0, 0.2, 0.99, 1, 2.5, 3.99, 100.7, low / 2 - 0.7 * (low < 0)]).astype(source)
    number = helper.np_dtype_to_tensor_dtype(dtype)
    ours = our_op("Cast", [x], dtype=target)
    assert ours.dtype == dtype
    assert_close(ours, onnx_op("Cast", [x], to=number), EXACT)


def test_cast_out_of_range_does_not_warn() -> None:
    x = np.array([NAN, INF, -INF, 1e30], np.float32)
    assert our_op("Cast", [x], dtype="i32").dtype == np.int32
    assert our_op("Cast", [x], dtype="bool").all()
    assert np.isinf(our_op("Cast", [x[3:]], dtype="f16")).all()
