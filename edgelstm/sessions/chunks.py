"""Models that take several frames a step: recordings cut into chunks, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import SampleShapeError
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]


def chunk_frames(signature: Signature) -> int:
    """How many frames the code takes at once."""
    lengths = [
        spec.shape[axis] for spec in signature.inputs if (axis := spec.chunk_axis) is not None
    ]
    return min(lengths, default=1)


def frames_of_step(signature: Signature) -> int:
    """How many frames of the input one step of a session takes."""
    return signature.chunk * chunk_frames(signature)


def frame_signature(signature: Signature) -> Signature:
    """The same for single frames, as recordings hold them."""
    return replace(signature, inputs=tuple(single_frame(spec) for spec in signature.inputs))


def cut_frames(frames: Any, specs: Sequence[TensorSpec]) -> tuple[Any, bool]:
    """Blocks of steps out of single frames.

    Args:
        frames: an array, or arrays by name: `(n, *shape)`, or single frames `(n * chunk, *frame)`.
        specs: of the inputs.

    Returns:
        Blocks of steps, and whether they were single frames.

    Raises:
        SampleShapeError: the frames fill no whole number of steps.
    """
    if all(spec.chunk_axis is None for spec in specs):
        return frames, False
    given = frames if isinstance(frames, Mapping) else {specs[0].name: frames}
    cut: dict[str, Any] = dict(given)
    is_single = False
    for spec in specs:
        if spec.chunk_axis is None or spec.name not in given:
            continue
        array = np.asarray(given[spec.name])
        if array.shape[1:] != single_frame(spec).shape or array.ndim != len(spec.shape):
            continue
        chunk = spec.shape[spec.chunk_axis]
        if len(array) % chunk:
            raise SampleShapeError(
                f"input {spec.name!r}: a step takes {chunk} frames, and {len(array)} frames leave "
                f"{len(array) % chunk} over; give a multiple of {chunk}, and keep the rest for the "
                "next block"
            )
        cut[spec.name], is_single = to_steps(array, spec), True
    return cut if isinstance(frames, Mapping) else cut[specs[0].name], is_single


def to_steps(array: Array, spec: TensorSpec) -> Array:
    """Single frames `(n * chunk, *frame)` as steps `(n, *shape)`."""
    axis = spec.chunk_axis
    assert axis is not None
    chunk = spec.shape[axis]
    steps = array.reshape(len(array) // chunk, chunk, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(steps, 1, 1 + axis))


def join_steps(result: Any, specs: Sequence[TensorSpec]) -> Any:
    """Outputs `(n, *shape)` of all frames one after another, where a step has several."""
    if isinstance(result, dict):
        return {spec.name: _joined(result[spec.name], spec) for spec in specs}
    return _joined(result, specs[0])


def _joined(rows: Array, spec: TensorSpec) -> Array:
    if spec.chunk_axis is None:
        return rows
    moved = np.moveaxis(rows, 1 + spec.chunk_axis, 1)
    return np.ascontiguousarray(moved).reshape(-1, *single_frame(spec).shape)


def single_frame(spec: TensorSpec) -> TensorSpec:
    """An input or output for one frame of those that a step holds."""
    axis = spec.chunk_axis
    if axis is None:
        return spec
    shape = (*spec.shape[:axis], *spec.shape[axis + 1 :])
    return replace(spec, shape=shape, model_shape=shape, time_axis=None, chunk_axis=None, ranges=())
