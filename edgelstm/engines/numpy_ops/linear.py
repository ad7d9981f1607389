"""Matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.numerics.activations import activate

Array = NDArray[Any]


def matmul(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """A @ B with NumPy's rules for vectors and broadcast batch axes."""
    a, b = inputs
    assert a is not None
    assert b is not None
    return [np.asarray(np.matmul(a, b))]


def dense(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """activation(x @ w + b) on the last axis.

    Shapes:
        x (..., K), w (K, N), b (N,) or None -> (..., N).
    """
    x, w, *rest = inputs
    assert x is not None
    assert w is not None
    y = np.asarray(np.matmul(x, w))
    if rest and rest[0] is not None:
        y = y + rest[0]
    activation = fields["activation"]
    return [y if activation is None else activate(activation, y)]
