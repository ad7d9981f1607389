"""Operations on single elements: arithmetic with broadcasting, functions, casts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.types import Op, TensorType, Tie


class Arithmetic(StrEnum):
    """An operation on two elements."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Binary(Op):
    """a OP b with NumPy's broadcasting; integer division rounds towards zero, as in ONNX."""

    arithmetic: Arithmetic

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape."""
        a, b = inputs
        if a is None or b is None or a.dtype is not b.dtype:
            raise ValueError(f"{self.arithmetic.value} of {a} and {b}")
        return (a.with_shape(np.broadcast_shapes(a.shape, b.shape)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis, aligned at the right, that is not broadcast."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Remainder(Op):
    """a - b trunc(a / b) of floats with NumPy's broadcasting: exact, with the sign of a.

    NaN where b is 0 or a is infinite, as `fmod` of C.
    """

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The broadcast shape."""
        a, b = inputs
        if a is None or b is None or a.dtype is not b.dtype or not a.dtype.is_float:
            raise ValueError(f"the remainder of {a} by {b}")
        return (a.with_shape(np.broadcast_shapes(a.shape, b.shape)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis, aligned at the right, that is not broadcast."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Unary(Op):
    """An element-wise function."""

    activation: Activation

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's type."""
        (x,) = inputs
        if x is None:
            raise ValueError("input is missing")
        return (x,)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis."""
        return broadcast_ties(inputs, outputs[0])


@dataclass(frozen=True, slots=True)
class Cast(Op):
    """Conversion of the element type (float to integer truncates; to bool: x != 0)."""

    dtype: DType

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape in the new type."""
        (x,) = inputs
        if x is None:
            raise ValueError("input is missing")
        return (TensorType(self.dtype, x.shape),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Every axis."""
        return broadcast_ties(inputs, outputs[0])


def broadcast_ties(inputs: Sequence[TensorType | None], output: TensorType) -> tuple[Tie, ...]:
    """Ties of operands that are broadcast against each other, aligned at the last axis.

    An operand of extent 1 along an axis of a larger extent is repeated there: no tie.
    """
    ties = []
    for index, operand in enumerate(inputs):
        if operand is None:
            continue
        shift = output.rank - operand.rank
        ties += [
            Tie(index, axis, 0, axis + shift)
            for axis in range(operand.rank)
            if operand.shape[axis] == output.shape[axis + shift]
        ]
    return tuple(ties)
