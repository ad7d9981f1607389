"""Powers and roots: products and square roots where these make them, else exp(y log x)."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import Cast, Compare, Comparison, Connective, Logic, Where
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import Count, RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.layout import broadcast
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)

MAX_POWER = 16
"""Largest exponent that is multiplied out."""

MAX_POWERS = 8
"""Different exponents of one node that are multiplied out: each is computed for all elements."""


def import_pow(node: OnnxNode) -> Results:
    """Pow-7, -12, -13, -15: floats to any power, integers to constant whole ones.

    Constant exponents n and n + 1/2 up to 16, and their negatives, are products and square roots.
    """
    x, exponent = node.operand(0), node.operand(1)
    kind = type_of(x)
    if kind is None or kind.dtype is DType.BOOL:
        raise RefusedError(f"powers of {kind}")
    try:
        target = np.broadcast_shapes(shape_of(x), shape_of(exponent))
    except ValueError as error:
        raise ShapeError(f"{node.origin}: {error}") from error
    if not kind.dtype.is_float:
        return [_whole_powers(node, x, node.constant(1, "the exponent of integers"), target)]
    if not isinstance(exponent, Known):
        return [_power(node, x, exponent)]
    data = exponent.data.astype(np.float64)
    found = np.unique(data)
    if found.size <= MAX_POWERS and all(_is_multiplied_out(p) for p in found):
        return [_selected(node, x, data, target)]
    return [_power(node, x, composing.array(node, "exponent", data.astype(np.float32)))]


def of_magnitude(node: OnnxNode, x: Operand, power: int) -> Operand:
    """|x|^power of floats, a whole power from 1 up."""
    if power == 2:
        return composing.multiply(node, x, x)
    return _product(node, composing.function(node, Fn.ABS, x), power)


def root(node: OnnxNode, x: Operand, degree: int) -> Operand:
    """The root of x >= 0; of degree 1, 2, 4, 8 and 16 by square roots.

    The others are exp(log(x) / degree), and one step of Newton's method takes off its error.
    """
    while degree % 2 == 0:
        x, degree = composing.function(node, Fn.SQRT, x), degree // 2
    if degree == 1:
        return x
    count = composing.number(node, "degree", degree, x)
    zero = composing.number(node, "zero", 0, x)
    is_zero = node.emit(Compare(Comparison.EQUAL), x, zero)
    x = node.emit(Where(), is_zero, composing.number(node, "one", 1, x), x)
    near = composing.function(
        node, Fn.EXP, composing.divide(node, composing.function(node, Fn.LOG, x), count)
    )
    # y - (y - x / y^(n-1)) / n: the correction is small, and so is its rounding.
    quotient = composing.divide(node, x, _product(node, near, degree - 1))
    excess = composing.divide(node, composing.subtract(node, near, quotient), count)
    return node.emit(Where(), is_zero, zero, composing.subtract(node, near, excess))


def _whole_powers(node: OnnxNode, x: Operand, powers: Array, target: tuple[int, ...]) -> Operand:
    found = np.unique(powers.astype(np.float64))
    wrong = [float(p) for p in found if not (0 <= p <= MAX_POWER and p == int(p))]
    if wrong or found.size > MAX_POWERS:
        raise RefusedError(
            f"integers to the powers {wrong or found.tolist()}; {MAX_POWERS} different whole "
            f"exponents from 0 to {MAX_POWER} are supported: cast to float32 before"
        )
    return _selected(node, x, powers.astype(np.float64), target)


def _selected(node: OnnxNode, x: Operand, powers: Array, target: tuple[int, ...]) -> Operand:
    """Each of a few powers of all elements, and the one that is meant."""
    if target != shape_of(x):
        x = broadcast(node, x, tuple(map(Count, target)))
    found: Operand | None = None
    for power in np.unique(powers):
        each = _multiplied_out(node, x, float(power))
        if found is None:
            found = each
        else:
            is_it = Known(f"{node.name}.is_{power}", np.asarray(powers == power))
            found = node.emit(Where(), is_it, each, found)
    assert found is not None
    return found


def _is_multiplied_out(power: float) -> bool:
    return abs(power) <= MAX_POWER and 2 * power == int(2 * power)


def _multiplied_out(node: OnnxNode, x: Operand, power: float) -> Operand:
    whole = int(abs(power))
    result = _product(node, x, whole) if whole else None
    if abs(power) != whole:
        half = composing.function(node, Fn.SQRT, x)
        result = half if result is None else composing.multiply(node, result, half)
    if result is None:
        dtype = x.data.dtype if isinstance(x, Known) else x.type.dtype.numpy
        one = Known(f"{node.name}.one", np.ones((), dtype))
        # Of any x at all it is 1; comparing x with itself keeps the shape.
        same = node.emit(Compare(Comparison.EQUAL), x, x)
        return node.emit(Where(), same, one, one)
    return composing.function(node, Fn.RECIPROCAL, result) if power < 0 else result


def _product(node: OnnxNode, x: Operand, power: int) -> Operand:
    """A whole power from 1 up."""
    result = x
    for _ in range(power - 1):
        result = composing.multiply(node, result, x)
    return result


def _power(node: OnnxNode, x: Operand, y: Operand) -> Operand:
    """Float powers of floats: exp(y log |x|), negative where x is and y is odd.

    As in C: of negative numbers NaN where y is not whole; x^0 is 1, even of 0.
    """
    kind = type_of(y)
    if kind is None or kind.dtype is DType.BOOL:
        raise RefusedError(f"powers of exponent {kind}")
    if not isinstance(y, Known) and kind.dtype is not DType.F32:
        y = node.emit(Cast(DType.F32), y)
    zero, one = composing.number(node, "zero", 0, x), composing.number(node, "one", 1, x)
    is_whole = node.emit(Compare(Comparison.EQUAL), y, composing.function(node, Fn.FLOOR, y))
    half = composing.multiply(node, y, composing.number(node, "half", 0.5, x))
    is_odd = node.emit(
        Logic(Connective.AND),
        is_whole,
        node.emit(Compare(Comparison.NOT_EQUAL), half, composing.function(node, Fn.FLOOR, half)),
    )
    base = node.emit(Where(), is_whole, composing.function(node, Fn.ABS, x), x)
    size = composing.function(
        node, Fn.EXP, composing.multiply(node, y, composing.function(node, Fn.LOG, base))
    )
    is_negative = node.emit(
        Logic(Connective.AND), node.emit(Compare(Comparison.LESS), x, zero), is_odd
    )
    signed = node.emit(Where(), is_negative, composing.function(node, Fn.NEG, size), size)
    return node.emit(Where(), node.emit(Compare(Comparison.EQUAL), y, zero), one, signed)
