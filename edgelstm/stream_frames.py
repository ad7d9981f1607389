"""Frames of many streams on their way in and out, and what is said where some are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import is_restricted, refused
from edgelstm.errors import (
    InternalError,
    NonFiniteStateError,
    RefusedStreamsError,
    SampleShapeError,
    StreamError,
)
from edgelstm.memory import Block
from edgelstm.samples import Result, by_name, convert_array, refusal_error
from edgelstm.signature import Signature, TensorSpec

Array = NDArray[Any]
Codes = NDArray[np.int32]


def stream_blocks(frames: Any, signature: Signature, streams: int) -> list[Array]:
    """Blocks of all inputs, `(n, streams, *frame)`, in the inputs' types.

    Raises:
        StreamError: they are not that.
    """
    specs = signature.inputs
    blocks = [
        convert_array(data, spec) for data, spec in zip(by_name(frames, specs), specs, strict=True)
    ]
    count = len(blocks[0]) if blocks[0].ndim else 0
    for spec, block in zip(specs, blocks, strict=True):
        wanted = (count, streams, *spec.shape)
        if block.shape != wanted:
            raise SampleShapeError(
                f"input {spec.name!r} has shape {block.shape}, expected {wanted}: frames, "
                "streams, and the frame"
            )
    return blocks


def one_frame(frames: Any, signature: Signature, streams: int) -> list[Array]:
    """One frame of all streams as blocks of one frame.

    Raises:
        StreamError: it is not that.
    """
    specs = signature.inputs
    found = []
    for data, spec in zip(by_name(frames, specs), specs, strict=True):
        array, wanted = convert_array(data, spec), (streams, *spec.shape)
        if array.shape != wanted:
            raise SampleShapeError(
                f"input {spec.name!r} has shape {array.shape}, expected {wanted}: streams, and "
                "the frame"
            )
        found.append(array[None])
    return found


def fill(packed: Block, blocks: Sequence[Array], specs: Sequence[TensorSpec]) -> None:
    """Write blocks of all inputs side by side.

    Shapes:
        packed (n, streams, input_bytes)
    """
    for block, spec in zip(blocks, specs, strict=True):
        tensor_of(packed, spec)[...] = block


def tensor_of(packed: Block, spec: TensorSpec) -> Array:
    """One tensor of all frames and streams, in the blocks of all tensors."""
    strides = [spec.dtype.itemsize]
    for extent in reversed(spec.shape):
        strides.insert(0, strides[0] * extent)
    strides = [*packed.strides[:2], *strides[1:]]
    shape = (*packed.shape[:2], *spec.shape)
    return np.ndarray(shape, spec.dtype.numpy, packed, spec.offset_bytes, strides)


def named(arrays: Sequence[Array], specs: Sequence[TensorSpec]) -> Result:
    """One array, or a dict by name."""
    if len(arrays) == 1:
        return arrays[0]
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}


def refused_codes(
    blocks: Sequence[Array], specs: Sequence[TensorSpec], active: NDArray[np.bool_]
) -> Codes | None:
    """For each stream 1 + the first of its inputs that is not taken, or 0; None where all are."""
    codes = np.zeros(len(active), np.int32)
    for index, (block, spec) in enumerate(zip(blocks, specs, strict=True)):
        if is_restricted(spec):
            bad = refused(block, spec).reshape(*block.shape[:2], -1).any(axis=(0, 2))
            codes[bad & active & (codes == 0)] = 1 + index
    return codes if codes.any() else None


def refusal_of_streams(
    codes: Codes, blocks: Sequence[Array], signature: Signature, result: Result, *, is_block: bool
) -> RefusedStreamsError:
    """The error that tells of all streams that were refused.

    Args:
        codes: of all places, as a step returns them.
        blocks: what they were fed, `(n, streams, *frame)`.
        signature: of the model.
        result: what the model said to the others.
        is_block: they came as a block.
    """
    found: dict[int, StreamError] = {}
    for stream in map(int, np.flatnonzero(codes)):
        code = int(codes[stream])
        if code < 0:
            found[stream] = _overflow(signature, -1 - code, is_block=is_block)
            continue
        if code > len(signature.inputs):
            raise InternalError(f"the step of {signature.name!r} returned {code}")
        own = blocks[code - 1][:, stream]
        found[stream] = refusal_error(
            own if is_block else own[0], signature.inputs[code - 1], is_block
        )
    first, error = next(iter(found.items()))
    others = f"; and {len(found) - 1} more streams" if len(found) > 1 else ""
    return RefusedStreamsError(
        f"stream {first}: {error}{others} (all other streams were fed; the error's `refused` has "
        "the reason of each, its `outputs` what the model said to the others)",
        found,
        result,
    )


def _overflow(signature: Signature, done: int, *, is_block: bool) -> NonFiniteStateError:
    limit = signature.state_limit
    bound = f"beyond {limit:.4g}, infinite" if limit < float("inf") else "infinite"
    where = f" {done} of the block" if is_block else ""
    return NonFiniteStateError(
        f"after frame{where} a state would be {bound} or NaN: the stream stands as before that "
        "frame; reset it, or bound the model (clip of the cell, tanh instead of relu)",
        done,
    )
