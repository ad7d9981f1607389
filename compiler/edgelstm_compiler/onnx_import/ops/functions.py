"""Functions of ONNX that are expressions of others: Gelu, Mish, Mean, Hard and soft shrinkage."""

from __future__ import annotations

import math

from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import Compare, Comparison, Where
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.source import OnnxNode, Operand, Results


def import_gelu(node: OnnxNode) -> Results:
    """Gelu-20: x / 2 (1 + erf(x / sqrt(2))), or its approximation by tanh."""
    x = node.operand(0)
    check_float(x)
    if node.text("approximate", "none") == "tanh":
        cube = composing.multiply(node, composing.multiply(node, x, x), x)
        small = composing.multiply(node, cube, composing.number(node, "cubic", 0.044715, x))
        factor = composing.number(node, "factor", math.sqrt(2 / math.pi), x)
        inner = composing.multiply(node, composing.add(node, x, small), factor)
        curve = composing.function(node, Fn.TANH, inner)
    else:
        factor = composing.number(node, "factor", math.sqrt(0.5), x)
        curve = composing.function(node, Fn.ERF, composing.multiply(node, x, factor))
    half = composing.multiply(node, x, composing.number(node, "half", 0.5, x))
    one = composing.number(node, "one", 1, x)
    return [composing.multiply(node, half, composing.add(node, curve, one))]


def import_mish(node: OnnxNode) -> Results:
    """Mish-18, -22: x tanh(softplus(x))."""
    x = node.operand(0)
    check_float(x)
    soft = composing.function(node, Fn.SOFTPLUS, x)
    return [composing.multiply(node, x, composing.function(node, Fn.TANH, soft))]


def import_swish(node: OnnxNode) -> Results:
    """Swish-24: x sigmoid(alpha x)."""
    x = node.operand(0)
    check_float(x)
    alpha = composing.number(node, "alpha", node.number("alpha", 1.0), x)
    scaled = composing.multiply(node, x, alpha)
    return [composing.multiply(node, x, composing.function(node, Fn.SIGMOID, scaled))]


def import_mean(node: OnnxNode) -> Results:
    """Mean-8, -13: of one operand or more."""
    total: Operand = node.operand(0)
    check_float(total)
    for index in range(1, len(node.inputs)):
        total = composing.add(node, total, node.operand(index))
    return [composing.divide(node, total, composing.number(node, "count", len(node.inputs), total))]


def import_shrink(node: OnnxNode) -> Results:
    """Shrink-9: x + bias below -lambd, x - bias above lambd, else 0."""
    x = node.operand(0)
    check_float(x)
    bias, bound = node.number("bias", 0.0), node.number("lambd", 0.5)
    zero = composing.number(node, "zero", 0, x)
    low, high, shift = (
        composing.number(node, name, value, x)
        for name, value in (("low", -bound), ("high", bound), ("bias", bias))
    )
    below = node.emit(Compare(Comparison.LESS), x, low)
    above = node.emit(Compare(Comparison.GREATER), x, high)
    upper = node.emit(Where(), above, composing.subtract(node, x, shift), zero)
    return [node.emit(Where(), below, composing.add(node, x, shift), upper)]
