"""Arithmetic, functions and casts of single elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Cast, Unary
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.expressions import Element, with_names
from edgelstm_targets.tvm_cpu.layout import broadcast_index
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Expr


def binary(op: Binary, inputs: Sequence[TensorType], output: TensorType) -> Element:
    """A OP b with broadcasting."""
    first, second = inputs
    dtype = first.dtype

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        a = tensors[0][broadcast_index(first, output, indices)]
        b = tensors[1][broadcast_index(second, output, indices)]
        match op.arithmetic:
            case Arithmetic.ADD:
                return a + b
            case Arithmetic.SUB:
                return a - b
            case Arithmetic.MUL:
                return a * b
            case Arithmetic.DIV:
                return a / b if dtype.is_float else _integer_quotient(a, b, dtype)
            case Arithmetic.MIN:
                return _propagating(tirx.min(a, b), a, dtype)
            case Arithmetic.MAX:
                return _propagating(tirx.max(a, b), a, dtype)

    return element


def unary(op: Unary, kind: TensorType, isa: InstructionSet) -> Element:
    """An element-wise function.

    Raises:
        CapabilityError: a function that does not exist for the element type.
    """
    if kind.dtype is DType.F32:

        def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
            x = tensors[0](*indices)
            return with_names(lambda name: Functions(1, name, isa.has_fma).apply(op.activation, x))

        return element
    if op.activation.fn not in _PLAIN or (
        op.activation.fn is Fn.SQRT and kind.dtype is not DType.F64
    ):
        raise CapabilityError(
            f"CPU targets compute {op.activation.fn.value} in f32 only, found {kind.dtype.value}"
        )
    return lambda tensors, indices: _plain(op, kind.dtype, tensors[0][tuple(indices)])


def cast(op: Cast, kind: TensorType) -> Element:
    """Conversion of the element type; to bool: x != 0.

    Raises:
        CapabilityError: bfloat16, which is converted from and to float32 only.
    """
    if DType.BF16 in (op.dtype, kind.dtype) and {op.dtype, kind.dtype} - {DType.BF16, DType.F32}:
        raise CapabilityError(
            f"CPU targets convert bfloat16 from and to f32, found {kind.dtype.value} to "
            f"{op.dtype.value}"
        )

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        x = tensors[0][tuple(indices)]
        if op.dtype is kind.dtype:
            return x
        if op.dtype is DType.BOOL:
            return x != _number(0, kind.dtype)
        if op.dtype is DType.BF16:
            return with_names(lambda name: _rounded_to_bfloat16(x, name))
        if kind.dtype is DType.BF16:
            return tirx.reinterpret("float32", tirx.Cast("uint32", x) << _word(16))
        return tirx.Cast(NAMES[op.dtype], x)

    return element


def _rounded_to_bfloat16(x: Expr, name: Callable[[Expr], Expr]) -> Expr:
    """The upper half of the bits, rounded to the nearest, of two to the even one; NaN stays NaN."""
    bits = name(tirx.reinterpret("uint32", x))
    odd = (bits >> _word(16)) & _word(1)
    rounded = (bits + _word(0x7FFF) + odd) >> _word(16)
    is_nan = (bits & _word(0x7FFFFFFF)) > _word(0x7F800000)
    quiet = (bits >> _word(16)) | _word(0x40)
    return tirx.Cast("uint16", tirx.Select(is_nan, quiet, rounded))


def _word(value: int) -> Expr:
    return tirx.const(value, "uint32")


_PLAIN = frozenset({Fn.NEG, Fn.ABS, Fn.RELU, Fn.CLIP, Fn.SQRT})


def _plain(op: Unary, dtype: DType, x: Expr) -> Expr:
    zero = _number(0, dtype)
    match op.activation.fn:
        case Fn.NEG:
            return x * _number(-1, dtype) if dtype.is_float else zero - x
        case Fn.ABS:
            return x if dtype is DType.U8 else tirx.Select(x < zero, zero - x, x)
        case Fn.RELU:
            return tirx.max(zero, x)
        case Fn.CLIP:
            low, high = (_bounded(v, dtype) for v in (op.activation.alpha, op.activation.beta))
            return tirx.min(_number(high, dtype), tirx.max(_number(low, dtype), x))
        case _:
            return tirx.call_llvm_pure_intrin("float64", "llvm.sqrt", x)


def _integer_quotient(a: Expr, b: Expr, dtype: DType) -> Expr:
    """Rounds towards zero. The processor stops the program at x / 0 and at the smallest / -1."""
    zero, one = _number(0, dtype), _number(1, dtype)
    is_zero = b == zero
    if dtype is DType.U8:
        return tirx.Select(is_zero, zero, tirx.truncdiv(a, tirx.Select(is_zero, one, b)))
    minus_one = b == _number(-1, dtype)
    divisor = tirx.Select(tirx.any(is_zero, minus_one), one, b)
    quotient = tirx.Select(minus_one, zero - a, tirx.truncdiv(a, divisor))
    return tirx.Select(is_zero, zero, quotient)


def _propagating(result: Expr, a: Expr, dtype: DType) -> Expr:
    """NaN where the first operand is NaN; min and max give the second one if it is."""
    return tirx.Select(a != a, a, result) if dtype.is_float else result


def _bounded(value: float, dtype: DType) -> float | int:
    if dtype.is_float:
        return value
    bits = 8 * dtype.itemsize
    low, high = (0, 255) if dtype is DType.U8 else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return low if value <= low else high if value >= high else int(value)


def _number(value: float, dtype: DType) -> Any:
    return tirx.const(value, NAMES[dtype])
