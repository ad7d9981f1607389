"""Matrix products of ONNX: MatMul and Gemm, as Dense where the weights are known."""

from __future__ import annotations

import numpy as np

from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, MatMul
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, Results, shape_of


def import_matmul(node: OnnxNode) -> Results:
    """MatMul-1, -9, -13."""
    a, b = node.operand(0), node.operand(1)
    check_float(a, b)
    for operand in (a, b):
        if not shape_of(operand):
            raise ShapeError(f"{node.origin}: '{operand.name}' is a scalar, which has no rows")
    if isinstance(b, Known) and len(b.shape) == 2:
        return [node.emit(Dense(), a, b, None)]
    return [node.emit(MatMul(), a, b)]


def import_gemm(node: OnnxNode) -> Results:
    """Gemm-7, -9, -11, -13: alpha * A' B' + beta * C."""
    a, b, c = node.operand(0), node.operand(1), node.optional(2)
    check_float(a, b, c)
    for name, operand in (("A", a), ("B", b)):
        if len(shape_of(operand)) != 2:
            raise ShapeError(f"{node.origin}: {name} has shape {shape_of(operand)}, not 2 axes")
    if node.integer("transA", 0):
        a = node.transpose(a, (1, 0))
    if node.integer("transB", 0):
        b = node.transpose(b, (1, 0))
    (rows, depth), (depth_b, columns) = shape_of(a), shape_of(b)
    if depth != depth_b:
        raise ShapeError(
            f"{node.origin}: A has {depth} columns and B {depth_b} rows (after transA and transB)"
        )
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if c is not None:
        _check_bias(node, c, (rows, columns))
        c = _scale(node, c, beta)
    if not isinstance(b, Known):
        product: Operand = _scale(node, node.emit(MatMul(), a, b), alpha)
        return [product if c is None else node.emit(Binary(Arithmetic.ADD), product, c)]
    weights = _scale(node, b, alpha)
    bias = _row_bias(c, columns)
    if bias is not None:
        assert isinstance(c, Known)
        return [node.emit(Dense(), a, weights, node.derived(c, "bias", bias))]
    product = node.emit(Dense(), a, weights, None)
    return [product if c is None else node.emit(Binary(Arithmetic.ADD), product, c)]


def _check_bias(node: OnnxNode, c: Operand, target: tuple[int, int]) -> None:
    shape = shape_of(c)
    try:
        fits = np.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{node.origin}: C has shape {shape}, which does not spread over {target}")


def _scale(node: OnnxNode, operand: Operand, factor: float) -> Operand:
    if factor == 1.0:
        return operand
    number = np.float32(factor)
    if isinstance(operand, Known):
        return node.derived(operand, "scaled", np.asarray(operand.data * number))
    return node.emit(
        Binary(Arithmetic.MUL), operand, Known(f"{node.name}.factor", np.asarray(number))
    )


def _row_bias(c: Operand | None, columns: int) -> Array | None:
    """The bias as one row, where it is known and the same for every row."""
    if not isinstance(c, Known) or (len(c.shape) == 2 and c.shape[0] != 1):
        return None
    return np.broadcast_to(c.data.reshape(c.shape[-1:]), (columns,))
