"""Operations that read or replace elements at computed indices (negative: from the end)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StreamError

Array = NDArray[Any]


def gather_elements(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """One element for each index, from the same row of the data."""
    x, indices = inputs
    assert x is not None
    assert indices is not None
    return [x[_elements(x, indices, fields["axis"])]]


def scatter_elements(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """One element at each index, into the same row of the data."""
    x, indices, updates = inputs
    assert x is not None
    assert indices is not None
    assert updates is not None
    return [_merged(fields["merge"], x, _elements(x, indices, fields["axis"]), updates)]


def gather_nd(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Slices of the data at index vectors."""
    x, indices = inputs
    assert x is not None
    assert indices is not None
    batch = fields["batch_axes"]
    depth = indices.shape[-1]
    places = [_counted(indices[..., k], x.shape[batch + k], "GatherND") for k in range(depth)]
    grid = [
        np.arange(extent).reshape((-1, *[1] * (indices.ndim - 2 - axis)))
        for axis, extent in enumerate(x.shape[:batch])
    ]
    return [x[(*grid, *places)]]


def scatter_nd(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Slices into the data at index vectors."""
    x, indices, updates = inputs
    assert x is not None
    assert indices is not None
    assert updates is not None
    depth = indices.shape[-1]
    places = tuple(_counted(indices[..., k], x.shape[k], "ScatterND") for k in range(depth))
    return [_merged(fields["merge"], x, places, updates)]


def _elements(x: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    grid = list(np.ogrid[tuple(slice(extent) for extent in indices.shape)])
    grid[axis] = _counted(indices, x.shape[axis], "index")
    return tuple(grid)


def _counted(indices: Array, extent: int, what: str) -> Array:
    """Indices counted from the front.

    Raises:
        StreamError: one is out of range.
    """
    wrong = (indices < -extent) | (indices >= extent)
    if wrong.any():
        raise StreamError(
            f"{what} {int(indices[wrong].flat[0])} is out of range: expected -{extent} to "
            f"{extent - 1}"
        )
    return np.asarray(np.where(indices < 0, indices + extent, indices))


def _merged(merge: str, x: Array, places: tuple[Any, ...], updates: Array) -> Array:
    result = x.copy()
    if merge == "none":
        # One after another, as native code does: of equal indices the last one counts.
        shape = np.broadcast_shapes(*(np.shape(place) for place in places))
        spread = [np.broadcast_to(place, shape) for place in places]
        for at in np.ndindex(shape):
            result[tuple(place[at] for place in spread)] = updates[at]
    else:
        _MERGES[merge].at(result, places, updates)
    return result


_MERGES: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}
