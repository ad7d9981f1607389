"""Nodes on constants: computed at import as ONNX Runtime computes them, within bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.onnx_import import read_model
from edgelstm_compiler.onnx_import.importer import import_graph
from tests.unit.onnx_import.one_node import (
    check_folded,
    graph_model,
    imported,
    ints,
    normal,
)

BOOLS = np.array([True, False, True, False])
OTHER = np.array([True, True, False, False])
INTS = ints(7, -7, 5, 0)
COUNTS = ints(2, 3, -2, 4)

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("And", [BOOLS, OTHER], {}),
    ("Or", [BOOLS, OTHER], {}),
    ("Xor", [BOOLS, OTHER], {}),
    ("Not", [BOOLS], {}),
    ("Equal", [INTS, COUNTS], {}),
    ("Less", [INTS, COUNTS], {}),
    ("LessOrEqual", [INTS, COUNTS], {}),
    ("Greater", [INTS, COUNTS], {}),
    ("GreaterOrEqual", [INTS, COUNTS], {}),
    ("Where", [BOOLS, INTS, COUNTS], {}),
    ("Mod", [INTS, COUNTS], {}),
    ("Mod", [normal(4), np.abs(normal(4, seed=1))], {"fmod": 1}),
    ("Min", [INTS, COUNTS], {}),
    ("Max", [INTS, COUNTS, ints(1)], {}),
    ("Mean", [normal(4), normal(4, seed=1)], {}),
    ("Pow", [ints(2, 3), ints(3, 2)], {}),
    ("Pow", [np.abs(normal(4)), normal(4, seed=1)], {}),
    ("Neg", [INTS], {}),
    ("Abs", [INTS], {}),
    ("Sign", [normal(4)], {}),
    ("Floor", [normal(4)], {}),
    ("Ceil", [normal(4)], {}),
    ("Round", [np.array([0.5, 1.5, -2.5, 2.4], np.float32)], {}),
    ("Sin", [normal(4)], {}),
    ("Cos", [normal(4)], {}),
    ("Tan", [normal(4)], {}),
    ("IsNaN", [np.array([1.0, np.nan], np.float32)], {}),
    ("Sqrt", [np.array([4.0, 2.0])], {}),
    ("CumSum", [INTS, np.asarray(0)], {}),
    ("CumSum", [INTS, np.asarray(0)], {"exclusive": 1, "reverse": 1}),
    ("ArgMax", [normal(3, 4)], {"axis": 1}),
    ("ArgMin", [normal(3, 4)], {"axis": 0, "keepdims": 0}),
    ("Trilu", [normal(3, 4)], {"upper": 0}),
    ("Trilu", [normal(3, 4), np.asarray(1)], {}),
    ("EyeLike", [normal(3, 4)], {"k": 1}),
    ("Tile", [normal(2, 3), ints(2, 2)], {}),
    ("Range", [np.asarray(2), np.asarray(11), np.asarray(3)], {}),
    ("Range", [np.asarray(5), np.asarray(0), np.asarray(-2)], {}),
    ("Pad", [normal(2, 3), ints(1, 0, 0, 2)], {}),
    ("Pad", [normal(2, 3), ints(1, 0, 0, 2), np.asarray(np.float32(5))], {}),
    ("Pad", [normal(3, 3), ints(1, 0, 0, 2)], {"mode": "reflect"}),
    ("Pad", [normal(2, 3)], {"opset": 10, "pads": [1, 0, 0, 2], "value": 3.0}),
    ("OneHot", [ints(0, 2), np.asarray(3), np.array([0.0, 1.0], np.float32)], {}),
    ("NonZero", [INTS], {}),
    ("GatherElements", [normal(2, 3), np.array([[0, 1, 0]])], {"axis": 0}),
    ("ScatterND", [normal(4), np.array([[1], [3]]), normal(2, seed=1)], {}),
    ("ScatterElements", [normal(4), ints(1, 3), normal(2, seed=1)], {}),
    *[
        (op, [normal(3, 4)], {"axes": [1], "keepdims": keep, "opset": opset})
        for op in ("ReduceProd", "ReduceMin", "ReduceMax", "ReduceMean", "ReduceL2")
        for keep in (0, 1)
        for opset in (9, 13)
    ],
    ("ReduceSumSquare", [normal(3, 4)], {"opset": 13}),
    ("ReduceSum", [normal(3, 4)], {"axes": [0], "opset": 11}),
    ("ReduceSum", [normal(3, 4), ints(-1)], {"opset": 13}),
    ("ReduceProd", [INTS, ints(0)], {"opset": 18, "keepdims": 0}),
    ("ReduceMean", [normal(3, 4), ints(1)], {"opset": 18}),
    ("Sigmoid", [normal(4)], {}),
    ("LeakyRelu", [normal(4)], {"alpha": 0.3}),
    ("Gemm", [normal(2, 3), normal(4, 3), normal(4)], {"transB": 1, "alpha": 0.5}),
    ("MatMul", [normal(2, 3), normal(3, 4)], {}),
    ("MatMul", [np.arange(6).reshape(2, 3), np.arange(3)], {}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_folded_as_onnxruntime_computes(case: tuple[str, list[Any], dict[str, Any]]) -> None:
    """One operator on constants becomes one constant."""
    op, inputs, options = case
    check_folded(op, inputs, **options)


def test_reduction_over_no_axes() -> None:
    """With noop_with_empty_axes nothing is summed (older ONNX Runtimes refuse it)."""
    node = onnx.helper.make_node("ReduceSum", ["w"], ["y"], noop_with_empty_axes=1)
    graph = imported(graph_model([node], {}, ["y"], {"w": normal(3, 4)}))
    np.testing.assert_array_equal(graph.constants[0].data, normal(3, 4))


def test_weights_assembled_by_the_graph() -> None:
    """Slice, Transpose and Concat of initializers, as PyTorch writes them, leave no node."""
    w = normal(6, 8)
    nodes = [
        onnx.helper.make_node("Slice", ["w", "zero", "three"], ["top"]),
        onnx.helper.make_node("Slice", ["w", "three", "six"], ["bottom"]),
        onnx.helper.make_node("Concat", ["bottom", "top"], ["swapped"], axis=0),
        onnx.helper.make_node("Transpose", ["swapped"], ["turned"]),
        onnx.helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    constants = {"w": w, "zero": ints(0), "three": ints(3), "six": ints(6)}
    graph = imported(graph_model(nodes, {"x": normal(2, 8)}, ["y"], constants))
    (node,) = graph.nodes
    (weights,) = graph.constants
    assert node.inputs[1] is weights.value
    np.testing.assert_array_equal(weights.data, np.concatenate([w[3:], w[:3]]).T)


HUGE: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Expand", [normal(1), ints(1 << 40)], {}),
    ("Tile", [normal(8), ints(1 << 40)], {}),
    ("ConstantOfShape", [ints(1 << 20, 1 << 20)], {}),
    ("Range", [np.asarray(0), np.asarray(1 << 40), np.asarray(1)], {}),
    ("Pad", [normal(2), ints(0, 1 << 40)], {}),
    ("OneHot", [ints(0, 2), np.asarray(1 << 40), np.array([0.0, 1.0], np.float32)], {}),
    ("Add", [normal(1 << 16, 1), normal(1, 1 << 16)], {}),
    ("MatMul", [normal(1 << 16, 1), normal(1, 1 << 16)], {}),
    ("Gather", [normal(1, 1 << 16), np.zeros(1 << 16, np.int64)], {}),
]


@pytest.mark.parametrize("case", HUGE, ids=lambda case: case[0])
def test_absurd_sizes_are_refused_before_they_are_allocated(case: Any) -> None:
    """A constant of terabytes is a damaged extent."""
    op, inputs, options = case
    model = _without_inference(op, inputs, **options)
    with pytest.raises(ModelError, match=f"{op} 'it'.*bytes"):
        imported(model)


def test_doubling_without_end_is_refused() -> None:
    """Forty doublings of a constant are stopped by the size of one of them."""
    names = ["w", *(f"c{k}" for k in range(40))]
    nodes = [
        onnx.helper.make_node("Concat", [names[k], names[k]], [names[k + 1]], axis=0)
        for k in range(40)
    ]
    nodes.append(onnx.helper.make_node("Shape", [names[-1]], ["y"]))
    with pytest.raises(ModelError, match=r"Concat #.*bytes"):
        imported(graph_model(nodes, {}, ["y"], {"w": normal(1 << 16)}))


CONTRADICTIONS: list[tuple[str, list[Any]]] = [
    ("Add", [normal(2), normal(3)]),
    ("Div", [ints(1), ints(0)]),
    ("Range", [np.asarray(0), np.asarray(3), np.asarray(0)]),
    ("MatMul", [normal(2), normal(3)]),
    ("Where", [BOOLS, normal(3), normal(3)]),
    ("Tile", [normal(2), ints(1, 2, 3)]),
    ("ScatterND", [normal(4), np.array([[9]]), normal(1)]),
]


@pytest.mark.parametrize("case", CONTRADICTIONS, ids=lambda case: case[0])
def test_contradictory_constants(case: tuple[str, list[Any]]) -> None:
    """One clear error with the node's name, whoever finds the contradiction."""
    model = _without_inference(*case)
    with pytest.raises((ShapeError, ModelError), match=f"{case[0]} 'it'"):
        imported(model)


def test_random_numbers_are_not_folded() -> None:
    """A random generator is no constant."""
    node = onnx.helper.make_node("RandomNormal", [], ["y"], shape=[2], name="dice")
    with pytest.raises(ModelError, match="RandomNormal 'dice'"):
        import_graph(read_model(graph_model([node], {}, ["y"])))


def _without_inference(op: str, inputs: list[Any], **options: Any) -> onnx.ModelProto:
    """A node on constants that shape inference would stumble over."""
    names = [f"i{k}" for k in range(len(inputs))]
    node = onnx.helper.make_node(op, names, ["o0"], name="it", **options)
    return graph_model([node], {}, ["o0"], dict(zip(names, inputs, strict=True)))
