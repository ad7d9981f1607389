"""Operations that mix the elements of some axes: softmax, its logarithm, layer normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def softmax(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """exp(x - max) / sum over one axis."""
    x = _shifted(fields, inputs)
    powers = np.exp(x)
    return [np.asarray(powers / powers.sum(axis=fields["axis"], keepdims=True))]


def log_softmax(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """The logarithm of the softmax: x - max - log(sum(exp(x - max))) over one axis."""
    x = _shifted(fields, inputs)
    return [np.asarray(x - np.log(np.exp(x).sum(axis=fields["axis"], keepdims=True)))]


def layer_norm(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on."""
    x, scale, *rest = inputs
    assert x is not None
    assert scale is not None
    axes = tuple(range(fields["axis"], x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    y = centred / np.sqrt(variance + x.dtype.type(fields["epsilon"])) * scale
    if rest and rest[0] is not None:
        y = y + rest[0]
    return [np.asarray(y, dtype=x.dtype)]


def _shifted(fields: Mapping[str, Any], inputs: Sequence[Array | None]) -> Array:
    (x,) = inputs
    assert x is not None
    return np.asarray(x - x.max(axis=fields["axis"], keepdims=True))
