"""Small expressions over operands: what composite ONNX operators are written in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Reduce, Reduction, Unary
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of, type_of


def number(node: OnnxNode, suffix: str, value: float, like: Operand) -> Known:
    """A scalar of the element type of another operand."""
    kind = type_of(like)
    dtype = np.float32 if kind is None else kind.dtype.numpy
    return Known(f"{node.name}.{suffix}", np.asarray(value, dtype))


def array(node: OnnxNode, suffix: str, data: Array) -> Known:
    """A constant tensor."""
    return Known(f"{node.name}.{suffix}", data)


def add(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """A + b."""
    return node.emit(Binary(Arithmetic.ADD), a, b)


def subtract(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """A - b."""
    return node.emit(Binary(Arithmetic.SUB), a, b)


def multiply(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """A * b."""
    return node.emit(Binary(Arithmetic.MUL), a, b)


def divide(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """A / b."""
    return node.emit(Binary(Arithmetic.DIV), a, b)


def function(node: OnnxNode, fn: Fn, x: Operand, alpha: float = 0.0, beta: float = 0.0) -> Operand:
    """A function of single elements."""
    return node.emit(Unary(Activation(fn, alpha, beta)), x)


def reduce(node: OnnxNode, reduction: Reduction, x: Operand, axes: Sequence[int]) -> Operand:
    """The elements along some axes, which stay with extent 1; no axis: x itself."""
    axes = tuple(sorted(axes))
    return node.emit(Reduce(reduction, axes), x) if axes else x


def mean(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The mean along some axes, which stay with extent 1."""
    count = math.prod(shape_of(x)[axis] for axis in axes)
    total = reduce(node, Reduction.SUM, x, axes)
    return divide(node, total, number(node, "count", count, x))


def without_axes(node: OnnxNode, x: Operand, axes: Sequence[int]) -> Operand:
    """The same elements without some axes of extent 1."""
    return node.reshape(x, [e for axis, e in enumerate(shape_of(x)) if axis not in axes])
