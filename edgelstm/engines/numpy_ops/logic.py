"""Comparisons, logic and selection of single elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def compare(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """A relation between a and b with NumPy's broadcasting."""
    a, b = inputs
    assert a is not None
    assert b is not None
    return [np.asarray(_COMPARISONS[fields["comparison"]](a, b))]


def logic(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """And, or, exclusive or."""
    a, b = inputs
    assert a is not None
    assert b is not None
    return [np.asarray(_CONNECTIVES[fields["connective"]](a, b))]


def logical_not(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The opposite truth value."""
    (x,) = inputs
    assert x is not None
    return [np.asarray(np.logical_not(x))]


def where(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """One of two elements."""
    condition, a, b = inputs
    assert condition is not None
    assert a is not None
    assert b is not None
    return [np.asarray(np.where(condition, a, b), dtype=a.dtype)]


_COMPARISONS: dict[str, Callable[[Array, Array], Any]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_or_equal": np.less_equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
}
_CONNECTIVES: dict[str, Callable[[Array, Array], Any]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}
