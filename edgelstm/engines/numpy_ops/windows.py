"""Sliding windows over some axes: what convolutions and pooling are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.activations import activate

Array = NDArray[Any]


def windows(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """X (N, C, *extents) -> (N, *positions, C, *kernel), see the compiler's operator `Windows`."""
    (x,) = inputs
    assert x is not None
    rank = len(fields["kernel"])
    shape = [
        (extent - 1) * spread + 1 + begin + end
        for extent, spread, begin, end in zip(
            x.shape[2:], fields["spread"], fields["begin"], fields["end"], strict=True
        )
    ]
    padded = np.full((*x.shape[:2], *shape), fields["fill"], x.dtype)
    inner = tuple(
        slice(begin, begin + (extent - 1) * spread + 1)
        for extent, spread, begin in zip(
            x.shape[2:], fields["spread"], fields["begin"], strict=True
        )
    )
    whole = (slice(None), slice(None))
    padded[(*whole, *inner)] = 0
    places = tuple(
        slice(place.start, place.stop, spread)
        for place, spread in zip(inner, fields["spread"], strict=True)
    )
    padded[(*whole, *places)] = x
    reach = [
        dilation * (kernel - 1) + 1
        for dilation, kernel in zip(fields["dilation"], fields["kernel"], strict=True)
    ]
    axes = tuple(range(2, 2 + rank))
    covered = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    starts = tuple(slice(None, None, stride) for stride in fields["stride"])
    offsets = tuple(slice(None, None, dilation) for dilation in fields["dilation"])
    covered = covered[(*whole, *starts, *offsets)]
    return [np.ascontiguousarray(np.moveaxis(covered, 1, rank + 1))]


def window_reduce(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """X (N, C, *extents) -> (N, C * M, *positions), see the compiler's operator `WindowReduce`."""
    x, weights, bias = (*inputs, None, None)[:3]
    assert x is not None
    is_last = fields["channels_last"]
    if is_last:
        x = np.moveaxis(x, -1, 1)
        weights = None if weights is None else np.moveaxis(weights, -1, 0)
    rank, channels = len(fields["kernel"]), x.shape[1]
    merge, neutral = _REDUCTIONS[fields["reduction"]]
    (covered,) = windows({**fields, "spread": [1] * rank, "fill": neutral}, [x])
    rows = covered.reshape(*covered.shape[: rank + 2], 1, -1)
    if weights is not None:
        rows = rows * weights.reshape(channels, -1, rows.shape[-1])
    found = merge(rows, axis=-1).reshape(*covered.shape[: rank + 1], -1)
    if bias is not None:
        found = found + bias
    if fields["activation"] is not None:
        found = activate(fields["activation"], found)
    return [found if is_last else np.ascontiguousarray(np.moveaxis(found, -1, 1))]


def pad(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Elements of one value around a tensor."""
    (x,) = inputs
    assert x is not None
    around = list(zip(fields["begin"], fields["end"], strict=True))
    return [np.pad(x, around, constant_values=x.dtype.type(fields["fill"]))]


def convolve(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """X (N, C, *extents) or (N, *extents, C) -> (N, *positions, M); weights are packed.

    See the compiler's operator `Convolve`.
    """
    x, packed = inputs
    assert x is not None
    assert packed is not None
    rank, groups = len(fields["kernel"]), packed.shape[0]
    none = {"begin": [0] * rank, "end": [0] * rank, "spread": [1] * rank, "fill": 0.0}
    first = np.moveaxis(x, -1, 1) if fields["channels_last"] else x
    (covered,) = windows({**fields, **none}, [first])
    lead = covered.shape[: rank + 1]
    rows = covered.reshape(*lead, groups, -1, *fields["kernel"])
    if fields["channels_last"]:
        rows = np.moveaxis(rows, rank + 2, -1)
    # (groups, blocks, 1 + K, units) as (groups, 1 + K, units of all blocks).
    each = fields["outputs"] // groups
    stored = packed.swapaxes(1, 2).reshape(groups, packed.shape[2], -1)[..., :each]
    products = np.matmul(rows.reshape(*lead, groups, 1, -1), stored[:, 1:])
    y = (products[..., 0, :] + stored[:, 0]).reshape(*lead, -1)
    activation = fields["activation"]
    if activation is not None:
        y = activate(activation, y)
    if fields["begin"]:
        y = np.pad(y, [(0, 0), *zip(fields["begin"], fields["end"], strict=True), (0, 0)])
    return [y]


_LARGEST = float(np.finfo(np.float32).max)
_REDUCTIONS: Mapping[str, tuple[Any, float]] = {
    "sum": (np.sum, 0.0),
    "prod": (np.prod, 1.0),
    "max": (np.max, -_LARGEST),
    "min": (np.min, _LARGEST),
}
