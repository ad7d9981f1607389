"""The input and output blocks of one step as bytes: how values stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]


def pack_inputs(signature: Signature, values: Mapping[str, Array]) -> bytes:
    """The input block that holds these values, zeros between them.

    Args:
        signature: says where each stands.
        values: by name, of the input's shape and type.
    """
    return _pack(signature.inputs, values, signature.input_bytes)


def pack_outputs(signature: Signature, values: Mapping[str, Array | None]) -> bytes:
    """The output block that holds these values, zeros between them and where nothing is new."""
    return _pack(signature.outputs, values, signature.output_bytes)


def unpack_inputs(signature: Signature, block: bytes) -> dict[str, Array]:
    """The values of an input block, by name; views of it."""
    return {spec.name: _view(spec, block) for spec in signature.inputs}


def unpack_outputs(signature: Signature, block: bytes) -> dict[str, Array]:
    """The values of an output block, by name; views of it."""
    return {spec.name: _view(spec, block) for spec in signature.outputs}


def outputs_by_name(signature: Signature, result: Any) -> dict[str, Array | None]:
    """What `step` or `call` of a session gave, by name also where there is one output only."""
    return dict(result) if isinstance(result, dict) else {signature.outputs[0].name: result}


def is_dense(specs: Sequence[TensorSpec], size_bytes: int) -> bool:
    """Whether frames of the only tensor follow each other without gaps."""
    return len(specs) == 1 and specs[0].offset_bytes == 0 and specs[0].nbytes == size_bytes


def _pack(specs: Sequence[TensorSpec], values: Mapping[str, Array | None], size: int) -> bytes:
    block = bytearray(size)
    for spec in specs:
        value = values[spec.name]
        if value is None:
            continue
        raw = np.ascontiguousarray(value, spec.dtype.numpy).tobytes()
        block[spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw
    return bytes(block)


def _view(spec: TensorSpec, block: bytes) -> Array:
    return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)
