"""Comparisons, logic and selection of single elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.ops import Compare, Comparison, Connective, Logic
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu.expressions import Element
from edgelstm_targets.tvm_cpu.layout import broadcast_index
from edgelstm_targets.tvm_cpu.tensorir import Expr

_COMPARISONS: dict[Comparison, Callable[[Expr, Expr], Expr]] = {
    Comparison.EQUAL: lambda a, b: a == b,
    Comparison.NOT_EQUAL: lambda a, b: a != b,
    Comparison.LESS: lambda a, b: a < b,
    Comparison.LESS_OR_EQUAL: lambda a, b: a <= b,
    Comparison.GREATER: lambda a, b: a > b,
    Comparison.GREATER_OR_EQUAL: lambda a, b: a >= b,
}
_CONNECTIVES: dict[Connective, Callable[[Expr, Expr], Expr]] = {
    Connective.AND: tirx.all,
    Connective.OR: tirx.any,
    Connective.XOR: lambda a, b: _number(a) != _number(b),
}


def compare(op: Compare, inputs: Sequence[TensorType], output: TensorType) -> Element:
    """A relation between a and b with broadcasting."""
    function = _COMPARISONS[op.comparison]
    if inputs[0].dtype is DType.BOOL:
        return _pairwise(lambda a, b: function(_number(a), _number(b)), inputs, output)
    return _pairwise(function, inputs, output)


def logic(op: Logic, inputs: Sequence[TensorType], output: TensorType) -> Element:
    """And, or, exclusive or."""
    return _pairwise(_CONNECTIVES[op.connective], inputs, output)


def logical_not() -> Element:
    """The opposite truth value."""
    return lambda tensors, indices: tirx.Not(tensors[0][tuple(indices)])


def where(inputs: Sequence[TensorType], output: TensorType) -> Element:
    """One of two elements."""

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        condition, a, b = (
            tensor[broadcast_index(kind, output, indices)]
            for tensor, kind in zip(tensors, inputs, strict=True)
        )
        return tirx.Select(condition, a, b)

    return element


def _pairwise(
    function: Callable[[Expr, Expr], Expr], inputs: Sequence[TensorType], output: TensorType
) -> Element:
    first, second = inputs

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        a = tensors[0][broadcast_index(first, output, indices)]
        return function(a, tensors[1][broadcast_index(second, output, indices)])

    return element


def _number(truth: Expr) -> Expr:
    return tirx.Cast("uint8", truth)
