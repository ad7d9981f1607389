"""Arithmetic on two tensors with broadcasting, functions of one tensor, and casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.numerics.activations import activate

Array = NDArray[Any]


def binary(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Arithmetic on a and b with NumPy's broadcasting."""
    a, b = inputs
    assert a is not None
    assert b is not None
    return [np.asarray(_ARITHMETIC[fields["arithmetic"]](a, b), dtype=a.dtype)]


def remainder(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """A - b trunc(a / b), exact, with the sign of a; NumPy's broadcasting."""
    del fields
    a, b = inputs
    assert a is not None
    assert b is not None
    return [np.asarray(np.fmod(a, b), dtype=a.dtype)]


def unary(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """An element-wise function."""
    (x,) = inputs
    assert x is not None
    return [activate(fields["activation"], x)]


def cast(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Conversion of the element type: float to integer truncates, to bool is x != 0."""
    (x,) = inputs
    assert x is not None
    return [x.astype(DType(fields["dtype"]).numpy)]


def _divide(a: Array, b: Array) -> Any:
    if not np.issubdtype(a.dtype, np.integer):
        return np.divide(a, b)
    # NumPy's integer division rounds down; ONNX, like C, rounds towards zero.
    quotient = np.floor_divide(a, b)
    is_rounded_down = (quotient < 0) & (quotient * b != a)
    return quotient + is_rounded_down.astype(a.dtype)


_ARITHMETIC: dict[str, Callable[[Array, Array], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "min": np.minimum,
    "max": np.maximum,
}
