"""Comparisons, logic and selection of single elements, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.ops.elementwise import broadcast_ties
from edgelstm_compiler.ir.types import Op, TensorType, Tie


class Comparison(StrEnum):
    """A relation between two elements of one type."""

    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    LESS = "less"
    LESS_OR_EQUAL = "less_or_equal"
    GREATER = "greater"
    GREATER_OR_EQUAL = "greater_or_equal"


class Connective(StrEnum):
    """An operation on two truth values."""

    AND = "and"
    OR = "or"
    XOR = "xor"


@dataclass(frozen=True, slots=True)
class Compare(Op):
    """a RELATION b -> bool with NumPy's broadcasting; NaN compares as in IEEE 754."""

    comparison: Comparison

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape, of truth values."""
        a, b = inputs
        if a is None or b is None or a.dtype is not b.dtype:
            raise ValueError(f"{self.comparison.value} of {a} and {b}")
        return (TensorType(DType.BOOL, np.broadcast_shapes(a.shape, b.shape)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis, aligned at the right, that is not broadcast."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Logic(Op):
    """a CONNECTIVE b of truth values with NumPy's broadcasting."""

    connective: Connective

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape."""
        a, b = inputs
        if a is None or b is None or {a.dtype, b.dtype} != {DType.BOOL}:
            raise ValueError(f"{self.connective.value} of {a} and {b}")
        return (a.with_shape(np.broadcast_shapes(a.shape, b.shape)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis, aligned at the right, that is not broadcast."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Not(Op):
    """The opposite truth value."""

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        (x,) = inputs
        if x is None or x.dtype is not DType.BOOL:
            raise ValueError(f"not of {x}")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Where(Op):
    """a where the condition holds, else b, with NumPy's broadcasting of all three.

    Shapes:
        condition (bool), a, b -> the broadcast shape.
    """

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape."""
        condition, a, b = inputs
        if condition is None or a is None or b is None or a.dtype is not b.dtype:
            raise ValueError(f"where {condition}: {a}, else {b}")
        if condition.dtype is not DType.BOOL:
            raise ValueError(f"the condition is {condition}, expected truth values")
        return (a.with_shape(np.broadcast_shapes(condition.shape, a.shape, b.shape)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis, aligned at the right, that is not broadcast."""
        return broadcast_ties(inputs, outputs[0])
