"""Operations that reduce, rank or accumulate the elements along some axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def reduce_axes(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The elements along some axes become one each; the axes stay."""
    (x,) = inputs
    assert x is not None
    function = _REDUCTIONS[fields["reduction"]]
    return [np.asarray(function(x, axis=tuple(fields["axes"]), keepdims=True), dtype=x.dtype)]


def arg_reduce(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The index of the largest or smallest element; the first NaN is both, as in ONNX Runtime."""
    (x,) = inputs
    assert x is not None
    axis = fields["axis"]
    function: Callable[..., Any] = np.argmax if fields["is_max"] else np.argmin
    if not fields["takes_last"]:
        return [np.asarray(function(x, axis=axis, keepdims=True), np.int64)]
    from_end = function(np.flip(x, axis), axis=axis, keepdims=True)
    return [np.asarray(x.shape[axis] - 1 - from_end, np.int64)]


def top_k_indices(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Indices of the k largest or smallest elements, best first, of equals the first first."""
    (x,) = inputs
    assert x is not None
    axis, count = fields["axis"], x.shape[fields["axis"]]
    if fields["is_largest"]:
        # A stable sort of the flipped axis puts the last of equals first: flipped back, the first.
        order = count - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = np.flip(order, axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return [np.asarray(np.take(order, range(fields["k"]), axis=axis), np.int64)]


def cum_sum(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Running sums along an axis."""
    (x,) = inputs
    assert x is not None
    axis = fields["axis"]
    x = np.flip(x, axis) if fields["is_reverse"] else x
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if fields["is_exclusive"]:
        total = np.roll(total, 1, axis)
        total[tuple(slice(None) if a != axis else 0 for a in range(x.ndim))] = 0
    return [np.asarray(np.flip(total, axis) if fields["is_reverse"] else total)]


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
}
