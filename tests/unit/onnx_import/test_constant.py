"""Operators known from shapes alone: Constant, Shape, Size, ConstantOfShape, Identity."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from tests.unit.onnx_import.one_node import (
    check_folded,
    check_model,
    check_node,
    graph_model,
    imported,
    ints,
    normal,
    with_output_types,
)


def constant_data(**attributes: Any) -> Any:
    """What a Constant node becomes."""
    node = onnx.helper.make_node("Constant", [], ["y"], name="it", **attributes)
    return imported(graph_model([node], {}, ["y"])).constants[0].data


def test_constant_in_every_attribute() -> None:
    """Tensors, numbers and lists of numbers, with ONNX's element types."""
    tensor = onnx.numpy_helper.from_array(normal(2, 3), "t")
    np.testing.assert_array_equal(constant_data(value=tensor), normal(2, 3))
    for name, given, dtype in (
        ("value_float", 1.5, np.float32),
        ("value_floats", [1.5, 2.5], np.float32),
        ("value_int", 7, np.int64),
        ("value_ints", [7, 8], np.int64),
    ):
        data = constant_data(**{name: given})
        assert data.dtype == dtype
        assert data.tolist() == given


def test_constant_string_is_refused() -> None:
    """Texts are no tensors."""
    with pytest.raises(UnsupportedOpError, match="Constant 'it': its value is given as value_str"):
        constant_data(value_string="no")


@pytest.mark.parametrize(
    "options", [{}, {"start": 1}, {"start": -2, "end": -1}, {"end": 2}, {"start": 0, "end": 9}]
)
def test_shape(options: dict[str, int]) -> None:
    """Shapes are static, so they are constants."""
    graph = check_node("Shape", [normal(2, 3, 4)], **options)
    assert not graph.nodes
    check_folded("Shape", [normal(2, 3, 4)], **options)


def test_size() -> None:
    """The number of elements."""
    assert not check_node("Size", [normal(2, 3)]).nodes


def test_identity_vanishes() -> None:
    """The value itself, under the output's name."""
    graph = check_node("Identity", [normal(2)])
    assert graph.outputs[0].value is graph.inputs[0]
    assert graph.outputs[0].name == "o0"


@pytest.mark.parametrize("value", [None, np.array([2.5], np.float32), np.array([3], np.int64)])
def test_constant_of_shape(value: Any) -> None:
    """Zeros by default."""
    options = {} if value is None else {"value": onnx.numpy_helper.from_array(value, "v")}
    check_folded("ConstantOfShape", [ints(2, 3)], **options)


def test_constant_of_shape_from_a_computed_shape() -> None:
    """Initial states as exporters write them: zeros in the batch of the input."""
    nodes = [
        onnx.helper.make_node("Shape", ["x"], ["s"]),
        onnx.helper.make_node("Gather", ["s", "first"], ["batch"]),
        onnx.helper.make_node("Concat", ["batch", "hidden"], ["both"], axis=0),
        onnx.helper.make_node("ConstantOfShape", ["both"], ["zeros"]),
        onnx.helper.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    x = {"x": normal(5, 3)}
    model = graph_model(nodes, x, ["y"], {"first": ints(0), "hidden": ints(3)})
    check_model(with_output_types(model), x)


def test_negative_extent() -> None:
    """A shape with a negative extent names the node."""
    node = onnx.helper.make_node("ConstantOfShape", ["s"], ["y"], name="it")
    with pytest.raises(ShapeError, match="ConstantOfShape 'it': negative extent"):
        imported(graph_model([node], {}, ["y"], {"s": ints(2, -1)}))


def test_constant_of_shape_with_many_values() -> None:
    """One value is repeated, not several."""
    value = onnx.numpy_helper.from_array(normal(2), "v")
    node = onnx.helper.make_node("ConstantOfShape", ["s"], ["y"], name="it", value=value)
    with pytest.raises(ModelError, match="ConstantOfShape 'it': its value has 2 elements"):
        imported(graph_model([node], {}, ["y"], {"s": ints(2)}))
