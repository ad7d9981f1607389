"""Element-wise operators of ONNX: arithmetic, functions, casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Cast, Unary
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)
from edgelstm_compiler.onnx_import.tensors import ELEMENT_TYPES, element_name

ImportFunction: TypeAlias = "Callable[[OnnxNode], Results]"

FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_float(*operands: Operand | None) -> None:
    """Refuse integers and bools."""
    for operand in operands:
        if operand is None:
            continue
        kind = type_of(operand)
        if kind is None or not kind.dtype.is_float:
            name = operand.trial.dtype if isinstance(operand, Known) else operand.type.dtype.value
            raise RefusedError(f"'{operand.name}' has elements of type {name}, expected float32")


def import_arithmetic(arithmetic: Arithmetic) -> ImportFunction:
    """Add, Sub, Mul, Div (two operands), Min, Max, Sum (one or more)."""

    def import_chain(node: OnnxNode) -> Results:
        result = node.operand(0)
        for index in range(1, len(node.inputs)):
            operand = node.operand(index)
            _check_pair(node, result, operand)
            result = node.emit(Binary(arithmetic), result, operand)
        return [result]

    return import_chain


def import_function(
    fn: Fn, alpha: float | None = None, beta: float | None = None, beta_name: str = "beta"
) -> ImportFunction:
    """A function of single elements, with the defaults of its attributes (None: no attribute)."""

    def import_unary(node: OnnxNode) -> Results:
        x = node.operand(0)
        check_float(x)
        a = 0.0 if alpha is None else node.number("alpha", alpha)
        b = 0.0 if beta is None else node.number(beta_name, beta)
        if not np.isfinite([a, b]).all():
            raise ModelError(f"{node.origin}: its attributes are {a} and {b}, expected numbers")
        if fn is Fn.CELU and a == 0.0:
            raise ModelError(f"{node.origin}: alpha is 0, and Celu divides by it")
        return [node.emit(Unary(Activation(fn, a, b)), x)]

    return import_unary


def import_abs(node: OnnxNode) -> Results:
    """Abs-6, -13."""
    return _float_only(node, Fn.ABS)


def import_neg(node: OnnxNode) -> Results:
    """Neg-6, -13: of floats; integers are subtracted from zero."""
    x = node.operand(0)
    kind = type_of(x)
    if kind is not None and not kind.dtype.is_float and kind.dtype is not DType.BOOL:
        zero = Known(f"{node.name}.zero", np.zeros((), kind.dtype.numpy))
        return [node.emit(Binary(Arithmetic.SUB), zero, x)]
    return _float_only(node, Fn.NEG)


def import_clip(node: OnnxNode) -> Results:
    """Clip-6 (attributes), Clip-11, -12, -13 (inputs)."""
    x = node.operand(0)
    if node.opset < 11:
        low: Operand | None = _scalar(node, "min", node.number("min", -FLOAT32_MAX))
        high: Operand | None = _scalar(node, "max", node.number("max", FLOAT32_MAX))
    else:
        low, high = node.optional(1), node.optional(2)
    for name, bound in (("min", low), ("max", high)):
        if bound is not None and int(np.prod(shape_of(bound))) != 1:
            raise ShapeError(f"{node.origin}: {name} has shape {shape_of(bound)}, not a scalar")
    kind = type_of(x)
    is_float = kind is not None and kind.dtype is DType.F32
    if is_float and all(item is None or isinstance(item, Known) for item in (low, high)):
        a = float(low.data.reshape(())) if isinstance(low, Known) else -FLOAT32_MAX
        b = float(high.data.reshape(())) if isinstance(high, Known) else FLOAT32_MAX
        if np.isnan([a, b]).any():
            raise ModelError(f"{node.origin}: min or max is not a number")
        a, b = max(a, -FLOAT32_MAX), min(b, FLOAT32_MAX)
        return [node.emit(Unary(Activation(Fn.CLIP, a, b)), x)]
    result: Operand = x
    for bound, arithmetic in ((low, Arithmetic.MAX), (high, Arithmetic.MIN)):
        if bound is not None:
            _check_pair(node, result, bound)
            result = node.emit(Binary(arithmetic), result, node.reshape(bound, ()))
    return [result]


def import_prelu(node: OnnxNode) -> Results:
    """PRelu-7, -9, -16: x where x >= 0, else slope x."""
    x, slope = node.operand(0), node.operand(1)
    check_float(x, slope)
    data = node.constant(1, "the slope")
    try:
        fits = np.broadcast_shapes(shape_of(x), data.shape) == shape_of(x)
    except ValueError:
        fits = False
    if not fits or not data.size:
        raise ShapeError(
            f"{node.origin}: the slope {data.shape} does not spread over {shape_of(x)}"
        )
    first = data.reshape(-1)[0]
    if (data == first).all():
        return [node.emit(Unary(Activation(Fn.LEAKY_RELU, float(first))), x)]
    zero = Known(f"{node.name}.zero", np.zeros((), np.float32))
    below = node.emit(Binary(Arithmetic.MIN), x, zero)
    above = node.emit(Unary(Activation(Fn.RELU)), x)
    return [
        node.emit(Binary(Arithmetic.ADD), above, node.emit(Binary(Arithmetic.MUL), below, slope))
    ]


def import_cast(node: OnnxNode) -> Results:
    """Cast-6 to -28, between the element types of graphs."""
    code = node.integer("to", 0)
    if code not in ELEMENT_TYPES:
        raise RefusedError(f"cast to {element_name(code)}")
    return [_cast(node, node.operand(0), ELEMENT_TYPES[code])]


def import_cast_like(node: OnnxNode) -> Results:
    """CastLike-15 to -28: to the element type of the second operand."""
    like = node.operand(1)
    target = like.trial.dtype if isinstance(like, Known) else like.type.dtype.numpy
    return [_cast(node, node.operand(0), target)]


def _cast(node: OnnxNode, x: Operand, target: np.dtype[np.generic]) -> Operand:
    if isinstance(x, Known):
        if x.data.dtype == target:
            return x
        if target.kind in "iu" and x.data.dtype.kind == "f" and not np.isfinite(x.data).all():
            raise ModelError(f"{node.origin}: '{x.name}' holds NaN or infinity, cast to {target}")
        with np.errstate(all="ignore"):
            return node.derived(x, "cast", _converted(x.data, target))
    try:
        dtype = DType.from_numpy(target)
    except KeyError as error:
        raise RefusedError(f"cast to {target}, which edgelstm does not compute with") from error
    if dtype.is_float and dtype is not DType.F32:
        # Arithmetic is float32: half precisions round on the way, float64 changes nothing.
        x = x if x.type.dtype is DType.F32 else node.emit(Cast(DType.F32), x)
        rounds = dtype in (DType.F16, DType.BF16)
        return node.emit(Cast(DType.F32), node.emit(Cast(dtype), x)) if rounds else x
    return x if dtype is x.type.dtype else node.emit(Cast(dtype), x)


def _converted(data: Array, target: np.dtype[np.generic]) -> Array:
    return np.asarray(data.astype(target))


def _check_pair(node: OnnxNode, a: Operand, b: Operand) -> None:
    first, second = type_of(a), type_of(b)
    if first is None or second is None or first.dtype is not second.dtype:
        names = [str(kind.dtype.value) if kind else "unknown" for kind in (first, second)]
        raise ModelError(f"{node.origin}: operands of different types, {names[0]} and {names[1]}")
    if first.dtype is DType.BOOL:
        raise RefusedError("arithmetic on bool")
    try:
        np.broadcast_shapes(shape_of(a), shape_of(b))
    except ValueError as error:
        raise ShapeError(
            f"{node.origin}: the shapes {shape_of(a)} of '{a.name}' and {shape_of(b)} of "
            f"'{b.name}' do not go together"
        ) from error


def _float_only(node: OnnxNode, fn: Fn) -> Results:
    x = node.operand(0)
    check_float(x)
    return [node.emit(Unary(Activation(fn)), x)]


def _scalar(node: OnnxNode, name: str, number: float) -> Known:
    return Known(f"{node.name}.{name}", np.asarray(np.float32(number)))


FUNCTIONS: Mapping[str, ImportFunction] = {
    "Sigmoid": import_function(Fn.SIGMOID),
    "Tanh": import_function(Fn.TANH),
    "Relu": import_function(Fn.RELU),
    "LeakyRelu": import_function(Fn.LEAKY_RELU, alpha=0.01),
    "ThresholdedRelu": import_function(Fn.THRESHOLDED_RELU, alpha=1.0),
    "HardSigmoid": import_function(Fn.HARD_SIGMOID, alpha=0.2, beta=0.5),
    "Elu": import_function(Fn.ELU, alpha=1.0),
    "Selu": import_function(
        Fn.SELU, alpha=1.6732631921768188, beta=1.0507010221481323, beta_name="gamma"
    ),
    "Celu": import_function(Fn.CELU, alpha=1.0),
    "Softplus": import_function(Fn.SOFTPLUS),
    "Softsign": import_function(Fn.SOFTSIGN),
    "HardSwish": import_function(Fn.HARD_SWISH),
    "Exp": import_function(Fn.EXP),
    "Log": import_function(Fn.LOG),
    "Sqrt": import_function(Fn.SQRT),
    "Reciprocal": import_function(Fn.RECIPROCAL),
    "Erf": import_function(Fn.ERF),
}
"""Operators that are one function, with the ONNX defaults of their attributes."""
