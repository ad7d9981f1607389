"""Arrays in the model's own shape, or another one that means the same, as frames `(n, *frame)`."""

from __future__ import annotations

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.base import Array
from edgelstm.signature import TensorSpec


def as_frames(array: Array, spec: TensorSpec, origin: str) -> Array:
    """The frames of an input, as a view.

    Args:
        array: `(n, *frame)`; or of the model's own shape, time wherever the model has it; or with
            axes of extent 1 elsewhere, such as `(1, n, features)` for `(n, 1, features)`.
        spec: the input.
        origin: the recording, for messages.

    Raises:
        RecordingError: it is none of these.
    """
    if array.ndim and array.shape[1:] == spec.shape:
        return array
    axis = spec.time_axis
    if axis is not None and array.ndim == len(spec.model_shape):
        extents = list(spec.model_shape)
        extents[axis] = array.shape[axis]
        if array.shape == tuple(extents):
            return np.moveaxis(array, axis, 0).reshape((array.shape[axis], *spec.shape))
    core = _core(spec.shape)
    # Features stay last: frames of one feature are not one frame of several.
    has_features = not core or array.shape[-1:] == spec.shape[-1:]
    if has_features and array.ndim > len(core):
        found = _core(array.shape)
        if found[1:] == core and len(found) == len(core) + 1:
            return array.reshape((found[0], *spec.shape))
        if found == core:
            return array.reshape((1, *spec.shape))
    frame = ", ".join(["n", *map(str, spec.shape)])
    raise RecordingError(
        f"{origin}: input {spec.name!r} needs an array of shape ({frame}), got {array.shape}"
    )


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)
