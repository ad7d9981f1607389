"""Operations that move elements without computing.

Results may share memory with the operand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StreamError

Array = NDArray[Any]


def transpose(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Output axis i is input axis perm[i]."""
    return [_only(inputs).transpose(fields["perm"])]


def reshape(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The same elements in row-major order under another shape."""
    return [_only(inputs).reshape(fields["shape"])]


def broadcast(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Repeat axes of extent 1, and prepend axes."""
    return [np.broadcast_to(_only(inputs), tuple(fields["shape"]))]


def slice_axis(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Every step-th element along one axis, `count` of them from `start`."""
    x = _only(inputs)
    start, step = fields["start"], fields["step"]
    stop = start + step * fields["count"]
    # A walk down to element 0 has no stop that is not read as "from the end".
    chosen = slice(start, stop if stop >= 0 else None, step)
    return [x[(slice(None),) * fields["axis"] + (chosen,)]]


def gather(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Elements along one axis at the given indices; negative ones count from the end.

    Raises:
        StreamError: an index is out of bounds.
    """
    x, indices = inputs
    assert x is not None
    assert indices is not None
    extent = x.shape[fields["axis"]]
    if np.any((indices < -extent) | (indices >= extent)):
        raise StreamError(
            f"gather indices {indices.tolist()} must lie within {-extent}..{extent - 1}"
        )
    return [np.asarray(np.take(x, indices, axis=fields["axis"]))]


def concat(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The inputs one after another along an axis."""
    return [np.concatenate([x for x in inputs if x is not None], axis=fields["axis"])]


def _only(inputs: Sequence[Array | None]) -> Array:
    (x,) = inputs
    assert x is not None
    return x
