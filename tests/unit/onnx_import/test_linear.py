"""MatMul and Gemm: Dense where the weights are known, products otherwise."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgelstm.errors import ShapeError, UnsupportedOpError
from tests.unit.onnx_import.one_node import check_node, imported, ints, kinds, normal, one_node


@pytest.mark.parametrize("left", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4)])
def test_matmul_with_weights_is_dense(left: tuple[int, ...]) -> None:
    """A constant matrix on the right: one Dense on the last axis."""
    assert kinds(check_node("MatMul", [normal(*left), normal(4, 5, seed=1)])) == ["Dense"]


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((4,), (4,))],
)
def test_matmul_of_computed_operands(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """NumPy's rules for vectors and batch axes."""
    operands = [normal(*left), normal(*right, seed=1)]
    assert kinds(check_node("MatMul", operands, runtime=(0, 1))) == ["MatMul"]
    assert kinds(check_node("MatMul", operands, runtime=(1,))) == ["MatMul"]


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (1,), (), (3, 5), (3, 1), (1, 1)])
@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(bias: tuple[int, ...] | None, trans: tuple[int, int]) -> None:
    """Every transposition, bias shape and factor."""
    a = normal(4, 3) if trans[0] else normal(3, 4)
    b = normal(5, 4, seed=1) if trans[1] else normal(4, 5, seed=1)
    c = [] if bias is None else [np.asarray(normal(*bias, seed=2), np.float32)]
    options = {"transA": trans[0], "transB": trans[1], "alpha": 0.5, "beta": 2.0}
    graph = check_node("Gemm", [a, b, *c], **options)
    assert "Dense" in kinds(graph)
    check_node("Gemm", [a, b, *c], runtime=(0, 1), **options)
    check_node("Gemm", [a, b, *c], runtime=range(2 + len(c)), **options)
    check_node("Gemm", [a, b, *c], runtime=(1,), **options)


def test_plain_gemm_is_one_dense() -> None:
    """As PyTorch writes it."""
    graph = check_node("Gemm", [normal(1, 4), normal(3, 4), normal(3)], transB=1)
    assert kinds(graph) == ["Dense"]
    assert graph.nodes[0].inputs[2] is not None


def test_gemm_contradiction() -> None:
    """Columns of A and rows of B are named."""
    model, _ = one_node("Gemm", [normal(3, 4), normal(4, 5)])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    with pytest.raises(ShapeError, match="Gemm 'it': A has 6 columns and B 4 rows"):
        imported(model)


def test_gemm_bias_that_does_not_spread() -> None:
    """The bias spreads over the product, never the other way."""
    model, _ = one_node("Gemm", [normal(1, 4), normal(4, 5), normal(1, 5)], runtime=(0, 2))
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(ShapeError, match=r"Gemm 'it': C has shape \(3, 5\)"):
        imported(model)


def test_integer_products_are_refused() -> None:
    """Products are computed in float32."""
    model, _ = one_node("MatMul", [ints(1, 2), ints(3, 4)], runtime=(0, 1))
    with pytest.raises(UnsupportedOpError, match="MatMul 'it': 'i0' has elements of type i64"):
        imported(model)


def test_matmul_contradiction() -> None:
    """The node is named."""
    model, _ = one_node("MatMul", [normal(3, 4), normal(2, 4, 5)], runtime=(0, 1))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert isinstance(dims[1], onnx.TensorShapeProto.Dimension)
    dims[1].dim_value = 7
    with pytest.raises(ShapeError, match="MatMul 'it'"):
        imported(model)
