"""Comparisons, logic and selection: Equal, Less, And, Not, Where, IsNaN, Trilu, OneHot, ..."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import (
    Cast,
    Compare,
    Comparison,
    Connective,
    Logic,
    Not,
    Remainder,
    Where,
)
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import ImportFunction, check_float
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


def import_comparison(comparison: Comparison) -> ImportFunction:
    """Equal, Less, LessOrEqual, Greater, GreaterOrEqual."""

    def import_pair(node: OnnxNode) -> Results:
        a, b = node.operand(0), node.operand(1)
        _check_same(node, a, b)
        return [node.emit(Compare(comparison), a, b)]

    return import_pair


def import_connective(connective: Connective) -> ImportFunction:
    """And, Or, Xor."""

    def import_pair(node: OnnxNode) -> Results:
        a, b = node.operand(0), node.operand(1)
        _check_same(node, a, b)
        return [node.emit(Logic(connective), a, b)]

    return import_pair


def import_not(node: OnnxNode) -> Results:
    """Not-1."""
    return [node.emit(Not(), node.operand(0))]


def import_where(node: OnnxNode) -> Results:
    """Where-9, -16."""
    condition, a, b = node.operand(0), node.operand(1), node.operand(2)
    _check_same(node, a, b)
    try:
        np.broadcast_shapes(shape_of(condition), shape_of(a), shape_of(b))
    except ValueError as error:
        raise ShapeError(f"{node.origin}: {error}") from error
    return [node.emit(Where(), condition, a, b)]


def import_is_nan(node: OnnxNode) -> Results:
    """IsNaN-9, -13, -20: NaN alone differs from itself."""
    x = node.operand(0)
    check_float(x)
    return [node.emit(Compare(Comparison.NOT_EQUAL), x, x)]


def import_is_inf(node: OnnxNode) -> Results:
    """IsInf-10, -20, of either sign or of one."""
    x = node.operand(0)
    check_float(x)
    kind = type_of(x)
    assert kind is not None
    largest = float(np.finfo(kind.dtype.numpy).max)  # type: ignore[type-var]
    found: list[Operand] = []
    for name, comparison, sign in (
        ("detect_positive", Comparison.GREATER, 1),
        ("detect_negative", Comparison.LESS, -1),
    ):
        if node.integer(name, 1):
            # Constants of a graph are finite: only infinity lies beyond the largest number.
            bound = composing.number(node, name, sign * largest, x)
            found.append(node.emit(Compare(comparison), x, bound))
    if not found:
        return [composing.array(node, "never", np.zeros(shape_of(x), np.bool_))]
    first, *rest = found
    return [node.emit(Logic(Connective.OR), first, rest[0]) if rest else first]


def import_trilu(node: OnnxNode) -> Results:
    """Trilu-14: the upper or lower triangle, zeros elsewhere."""
    x, k = node.operand(0), node.optional(1)
    shape = shape_of(x)
    if len(shape) < 2:
        raise ShapeError(f"{node.origin}: {shape} has no rows and columns")
    shift = 0 if k is None else int(node.constant(1, "the diagonal").reshape(()))
    ones = np.ones(shape[-2:], np.bool_)
    mask = np.triu(ones, shift) if node.integer("upper", 1) else np.tril(ones, shift)
    zero = composing.number(node, "zero", 0, x)
    return [node.emit(Where(), composing.array(node, "triangle", mask), x, zero)]


def import_one_hot(node: OnnxNode) -> Results:
    """OneHot-9, -11: the on value at each index (negative: from the end), else the off value."""
    indices, depth = node.operand(0), node.constant(1, "the depth")
    off, on = _two_values(node)
    kind = type_of(indices)
    if kind is not None and kind.dtype.is_float:
        indices = node.emit(Cast(DType.I64), indices)
        kind = type_of(indices)
    if depth.size != 1 or int(depth.reshape(())) < 1:
        raise ShapeError(f"{node.origin}: the depth is {depth.tolist()}")
    if kind is None or kind.dtype not in (DType.I32, DType.I64):
        raise RefusedError(f"its indices are {kind}; int32 and int64 are supported")
    count, rank = int(depth.reshape(())), len(shape_of(indices))
    check_folded(count * kind.dtype.itemsize, node.origin)
    axis = node.axis(node.integer("axis", -1), rank + 1)
    spread = (*shape_of(indices)[:axis], 1, *shape_of(indices)[axis:])
    places = node.reshape(indices, spread)
    if isinstance(places, Known):
        counted: Operand = node.derived(
            places, "counted", np.where(places.data < 0, places.data + count, places.data)
        )
    else:
        zero = composing.number(node, "zero", 0, places)
        below = node.emit(Compare(Comparison.LESS), places, zero)
        turned = composing.add(node, places, composing.number(node, "depth", count, places))
        counted = node.emit(Where(), below, turned, places)
    classes = np.arange(count, dtype=kind.dtype.numpy).reshape((-1, *[1] * (rank - axis)))
    hit = node.emit(Compare(Comparison.EQUAL), counted, composing.array(node, "classes", classes))
    return [node.emit(Where(), hit, on, off)]


def import_mod(node: OnnxNode) -> Results:
    """Mod-10, -13, -28: the sign of the divisor (fmod=0), or of the dividend (fmod=1)."""
    a, b = node.operand(0), node.operand(1)
    _check_same(node, a, b)
    kind = type_of(a)
    if kind is None or kind.dtype is DType.BOOL:
        raise RefusedError(f"remainders of {kind} are not supported")
    if kind.dtype.is_float:
        if node.opset < 28 and not node.integer("fmod", 0):
            raise ModelError(
                f"{node.origin}: before opset 28 fmod must be 1 for floating-point numbers, found 0"
            )
        rest: Operand = node.emit(Remainder(), a, b)
    else:
        quotient = composing.divide(node, a, b)
        rest = composing.subtract(node, a, composing.multiply(node, quotient, b))
    if node.integer("fmod", 0) or kind.dtype is DType.U8:
        return [rest]
    zero = composing.number(node, "zero", 0, a)
    is_other_sign = node.emit(
        Logic(Connective.XOR),
        node.emit(Compare(Comparison.LESS), rest, zero),
        node.emit(Compare(Comparison.LESS), b, zero),
    )
    is_rest = node.emit(Compare(Comparison.NOT_EQUAL), rest, zero)
    is_wrong = node.emit(Logic(Connective.AND), is_other_sign, is_rest)
    return [node.emit(Where(), is_wrong, composing.add(node, rest, b), rest)]


def import_whole(fn: Fn) -> ImportFunction:
    """Floor, Ceil, Round, Sign."""

    def import_function(node: OnnxNode) -> Results:
        x = node.operand(0)
        check_float(x)
        return [composing.function(node, fn, x)]

    return import_function


def _two_values(node: OnnxNode) -> tuple[Operand, Operand]:
    values = node.operand(2)
    if shape_of(values) != (2,):
        raise ShapeError(f"{node.origin}: the values have shape {shape_of(values)}, expected (2,)")
    data = node.constant(2, "the values (off, on)")
    return composing.array(node, "off", data[0]), composing.array(node, "on", data[1])


def _check_same(node: OnnxNode, a: Operand, b: Operand) -> None:
    first, second = type_of(a), type_of(b)
    if first is None or second is None or first.dtype is not second.dtype:
        names = [str(kind.dtype.value) if kind else "unknown" for kind in (first, second)]
        raise ModelError(f"{node.origin}: operands of different types, {names[0]} and {names[1]}")
    try:
        np.broadcast_shapes(shape_of(a), shape_of(b))
    except ValueError as error:
        raise ShapeError(
            f"{node.origin}: the shapes {shape_of(a)} of '{a.name}' and {shape_of(b)} of "
            f"'{b.name}' do not go together"
        ) from error
