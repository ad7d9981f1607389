"""Frames of many streams on their way in and out, and what is said where some are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import is_restricted, refused
from edgelstm.blocks import is_dense
from edgelstm.errors import (
    InternalError,
    NonFiniteSampleError,
    NonFiniteStateError,
    RefusedSamplesError,
    RefusedStreamsError,
    SampleShapeError,
    StreamError,
)
from edgelstm.memory import Block
from edgelstm.samples import Result, by_name, convert_array, refusal_reason
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


def packed_inputs(blocks: Sequence[Array], signature: Signature) -> Block:
    """Blocks of all inputs side by side, as compiled code wants them.

    Shapes:
        the result (n, streams, input_bytes)
    """
    specs, (count, streams) = signature.inputs, blocks[0].shape[:2]
    if is_dense(specs, signature.input_bytes):
        dense = np.ascontiguousarray(blocks[0])
        return dense.reshape(count, streams, -1).view(np.uint8)
    packed = np.zeros((count, streams, signature.input_bytes), np.uint8)
    for block, spec in zip(blocks, specs, strict=True):
        tensor_of(packed, spec)[...] = block
    return packed


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
        if code > len(signature.inputs):
            raise InternalError(f"the step of {signature.name!r} returned {code}")
        if code < 0:
            found[stream] = _overflow(signature, stream, -1 - code, is_block=is_block)
        else:
            own, spec = blocks[code - 1][:, stream], signature.inputs[code - 1]
            found[stream] = _refusal(own, spec, stream, is_block=is_block)
    message = str(next(iter(found.values())))
    if len(found) > 1:
        message += f"; and {len(found) - 1} more streams"
    kinds = {type(error) for error in found.values()}
    kind = RefusedSamplesError if kinds == {NonFiniteSampleError} else RefusedStreamsError
    return kind(
        f"{message} (all others were fed; this error's `refused` has the reasons, its `outputs` "
        "what the model said to the others)",
        found,
        result,
    )


def _refusal(frames: Array, spec: TensorSpec, stream: int, *, is_block: bool) -> StreamError:
    places = np.argwhere(refused(frames, spec))
    if len(places) == 0:
        raise InternalError(f"the code refused input {spec.name!r}, in which nothing is wrong")
    place = tuple(int(index) for index in places[0])
    kind, reason = refusal_reason(frames[place], spec, place[1:])
    element = f", element [{','.join(map(str, place[1:]))}]" if len(place) > 1 else ""
    where = f" in frame {place[0]} of the block," if is_block else ""
    return kind(f"input {spec.name!r} of stream {stream}{element}{where} {reason}")


def _overflow(
    signature: Signature, stream: int, done: int, *, is_block: bool
) -> NonFiniteStateError:
    limit = signature.state_limit
    bound = f"beyond {limit:.4g}, infinite" if limit < float("inf") else "infinite"
    where = f" {done} of the block" if is_block else ""
    return NonFiniteStateError(
        f"after frame{where} a state of stream {stream} would be {bound} or NaN: it stands as "
        "before that frame; reset it, or bound the model (clip of the cell, tanh instead of relu)",
        done,
    )
