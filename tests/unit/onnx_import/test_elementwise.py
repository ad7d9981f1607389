"""Arithmetic, functions of single elements, casts: against ONNX Runtime, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from tests.unit.onnx_import.one_node import (
    check_folded,
    check_node,
    graph_model,
    imported,
    ints,
    kinds,
    normal,
    one_node,
)

FUNCTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Relu", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Elu", {}),
    ("Elu", {"alpha": 2.0}),
    ("Selu", {}),
    ("Selu", {"alpha": 2.0, "gamma": 3.0}),
    ("Celu", {}),
    ("Celu", {"alpha": 0.5}),
    ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": 0.2}),
    ("HardSwish", {}),
    ("Neg", {}),
    ("Abs", {}),
    ("Exp", {}),
    ("Reciprocal", {}),
    ("Erf", {}),
]


@pytest.mark.parametrize(("op", "attributes"), FUNCTIONS)
def test_functions(op: str, attributes: dict[str, Any]) -> None:
    """One graph node, with ONNX's defaults."""
    assert kinds(check_node(op, [normal(3, 4)], **attributes)) == ["Unary"]


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_functions_of_positive_numbers(op: str) -> None:
    """Logarithm and root."""
    check_node(op, [np.abs(normal(5)) + np.float32(0.1)])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (4, 1)), ((2,), ())])
def test_arithmetic_broadcasts(op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """NumPy's broadcasting in both directions, with computed and constant operands."""
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    check_node(op, [a, np.asarray(b)], runtime=(0, 1))
    check_node(op, [a, np.asarray(b)])
    check_node(op, [a, np.asarray(b)], runtime=(1,))
    check_folded(op, [a, np.asarray(b)])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_integer_arithmetic(op: str) -> None:
    """Integers divide towards zero."""
    check_node(op, [ints(7, -7, 8), ints(2, 2, -3)], runtime=(0, 1))
    check_folded(op, [ints(7, -7, 8), ints(2, 2, -3)])


@pytest.mark.parametrize("op", ["Min", "Max", "Sum"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_operands(op: str, count: int) -> None:
    """Operands are combined one after another; one alone is itself."""
    operands = [normal(2, 3, seed=k) for k in range(count)]
    graph = check_node(op, operands, runtime=range(count))
    assert kinds(graph) == ["Binary"] * (count - 1)


def test_clip_with_constant_bounds() -> None:
    """Bounds in inputs; either may be absent."""
    x = normal(20)
    low, high = np.float32(-0.5), np.float32(0.25)
    for bounds in ([low, high], [low], [None, np.asarray(high)], []):
        arrays = [None if b is None else np.asarray(b) for b in bounds]
        assert kinds(check_node("Clip", [x, *arrays])) == ["Unary"]


def test_clip_with_attributes() -> None:
    """Bounds in attributes before opset 11."""
    check_node("Clip", [normal(20)], opset=10, min=-0.5, max=0.25)


def test_clip_with_computed_bounds() -> None:
    """Computed bounds become minimum and maximum."""
    bounds = [np.asarray(np.float32(-0.5)), np.asarray(np.float32(0.25))]
    graph = check_node("Clip", [normal(20), *bounds], runtime=(0, 1, 2))
    assert kinds(graph) == ["Binary", "Binary"]


def test_clip_of_integers() -> None:
    """Integers are clipped as integers."""
    check_node("Clip", [ints(-5, 0, 5), np.asarray(np.int64(-1)), np.asarray(np.int64(3))])


@pytest.mark.parametrize("slope", [(1,), (4,), (2, 1, 4)])
def test_prelu(slope: tuple[int, ...]) -> None:
    """Constant slopes, one or many."""
    check_node("PRelu", [normal(2, 3, 4), normal(*slope, seed=1)])


def test_prelu_with_computed_slope_is_refused() -> None:
    """The slope must be known."""
    model, _ = one_node("PRelu", [normal(2, 3), normal(3)], runtime=(0, 1))
    with pytest.raises(UnsupportedOpError, match="PRelu 'it': the slope must be constant"):
        imported(model)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_small_powers(exponent: float) -> None:
    """Small powers are products."""
    check_node("Pow", [normal(6), np.asarray(np.float32(exponent))])


def test_integers_to_other_powers_are_refused() -> None:
    """The exponent is named, and what to do; floats have any power (`test_everyday.py`)."""
    model, _ = one_node("Pow", [np.arange(6), np.asarray(np.float32(2.25))])
    with pytest.raises(UnsupportedOpError, match=r"Pow 'it': integers to the powers \[2\.25\]"):
        imported(model)


CASTS = [
    (np.float32, onnx.TensorProto.INT64),
    (np.float32, onnx.TensorProto.BOOL),
    (np.int64, onnx.TensorProto.FLOAT),
    (np.uint8, onnx.TensorProto.FLOAT),
    (np.int32, onnx.TensorProto.INT8),
    (np.bool_, onnx.TensorProto.FLOAT),
    (np.float64, onnx.TensorProto.FLOAT),
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_casts(source: Any, target: int) -> None:
    """Casts between the types of graphs; a float64 input is fine where it is cast at once."""
    data = np.array([0, 1, 3, 100]).astype(source)
    check_node("Cast", [data], to=target)
    check_folded("Cast", [data], to=target)


def test_cast_like() -> None:
    """The type of the second operand, computed or not."""
    check_node("CastLike", [ints(1, 2), normal(3)], runtime=(0, 1))
    check_node("CastLike", [ints(1, 2), normal(3)])


def test_unknown_cast_is_refused() -> None:
    """Types that graphs do not have are named."""
    model, _ = one_node("Cast", [normal(2)], to=onnx.TensorProto.UINT16)
    with pytest.raises(UnsupportedOpError, match=r"Cast 'it': cast to .*16"):
        imported(model)


def test_float64_weights_that_are_cast() -> None:
    """Weights stored in float64 and cast by the graph are folded."""
    nodes = [
        onnx.helper.make_node("Cast", ["w"], ["w32"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", ["x", "w32"], ["y"]),
    ]
    weights = {"w": np.array([1.0, 2.0])}
    graph = imported(graph_model(nodes, {"x": normal(2)}, ["y"], weights))
    assert kinds(graph) == ["Binary"]


def test_operands_of_different_types() -> None:
    """ONNX has no mixed arithmetic."""
    model, _ = one_node("Add", [normal(2), normal(2)])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ModelError, match="Add 'it': operands of different types, i64 and f32"):
        imported(model)


def test_shapes_that_do_not_broadcast() -> None:
    """Both operands are named with their shapes."""
    model, _ = one_node("Add", [normal(2), normal(2)])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(ShapeError, match=r"Add 'it': the shapes \(3,\) of 'i0' and \(2,\) of 'i1'"):
        imported(model)
