"""The decoder of a model's outputs, by what its signature and description say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.io.decoding.decoder import Decoder
from edgelstm.io.decoding.recipe import Recipe
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]


def make_decoder(
    recipe: Recipe, signature: Signature, description: Description, rate_hz: float | None = None
) -> Decoder:
    """A decoder whose columns are the elements of all outputs, in the order of `output_table`.

    Args:
        recipe: what is asked for.
        signature: of the model.
        description: labels of its outputs.
        rate_hz: of the samples; what the model knows if None. Outputs may be slower.

    Raises:
        RecordingError: the recipe does not fit the model, or no rate is known.
    """
    outputs = {
        spec.name: _columns(spec, description.outputs.get(spec.name, ()))
        for spec in signature.outputs
    }
    rate = rate_hz or description.rate_hz or signature.rate_hz
    if rate is None:
        raise RecordingError(
            "decoding counts in seconds, and the model's rate is not known: give --rate HZ"
        )
    rows = rate / min((spec.stride for spec in signature.outputs), default=1)
    return Decoder(recipe, outputs, rows, tuple(description.outputs))


def output_table(outputs: Mapping[str, Array], signature: Signature) -> Array:
    """What a model said to `n` samples, as rows `(n, columns)`.

    Args:
        outputs: `(n, *shape)` by the names of the signature.
        signature: of the model.
    """
    tables = [np.asarray(outputs[spec.name]) for spec in signature.outputs]
    return np.concatenate([table.reshape(len(table), -1) for table in tables], axis=1)


def _columns(spec: TensorSpec, labels: tuple[str, ...]) -> tuple[str, ...]:
    size = math.prod(spec.shape)
    if labels:
        return labels
    return (spec.name,) if size == 1 else tuple(f"{spec.name}[{k}]" for k in range(size))
