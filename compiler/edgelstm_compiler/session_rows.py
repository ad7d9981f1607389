"""A session's outputs over sequences: by `run` in pieces, by `step`, in the model's shapes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.sessions import Session
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.ir.types import Array


def run_pieces(
    session: Session,
    frames: Mapping[str, Array],
    count: int,
    cuts: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The rows over pieces of unequal length; where none are given, two cuts are near the end."""
    signature = session.signature
    if cuts is None:
        cuts = (count // 3, max(count - 2, 0), max(count - 1, 0))
    pieces = [
        by_name(session.advance_all({n: x[a:b] for n, x in frames.items()}), signature)
        for a, b in itertools.pairwise(sorted({0, *cuts, count}))
    ]
    return joined(pieces, signature)


def joined(pieces: Sequence[Mapping[str, Array]], signature: Signature) -> dict[str, Array]:
    """The rows of several results, one after another."""
    return {
        spec.name: np.concatenate([piece[spec.name] for piece in pieces])
        for spec in signature.outputs
    }


def rows_behind(session: Session) -> dict[str, Array]:
    """What still comes when the recording is over."""
    return by_name(session.finish(), session.signature)


def step_through(session: Session, frames: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Every new output of every step or call, (n, *frame shape), one at a time."""
    outputs = session.signature.outputs
    rows: dict[str, list[Array]] = {spec.name: [] for spec in outputs}
    names = [spec.name for spec in session.signature.inputs]
    for index in range(count):
        result = session.advance({name: frames[name][index] for name in names})
        for spec in outputs:
            found = result[spec.name] if isinstance(result, dict) else result
            if found is not None:
                rows[spec.name].append(np.array(found))
    return {
        spec.name: np.stack(rows[spec.name])
        if rows[spec.name]
        else np.empty((0, *spec.shape), spec.dtype.numpy)
        for spec in outputs
    }


def read_states(session: Session) -> dict[str, Array]:
    """The states of a session by name."""
    block = np.frombuffer(session.snapshot().state, np.uint8)
    return {
        spec.name: block[spec.offset_bytes : spec.offset_bytes + spec.nbytes]
        .view(spec.dtype.numpy)
        .reshape(spec.shape)
        for spec in session.signature.states
    }


def frames_of(signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The frames by input, (n, *frame shape), or the one call; inputs without time are held."""
    frames = {
        spec.name: to_frames(inputs[spec.name], spec.time_axis, spec.shape)
        for spec in signature.inputs
    }
    count = frame_count(frames)
    return {name: _held(x, count) for name, x in frames.items()}


def frame_count(frames: Mapping[str, Array]) -> int:
    """The frames of the longest input; those without time have one."""
    return max((x.shape[0] for x in frames.values()), default=1)


def to_frames(x: Array, time_axis: int | None, frame_shape: Sequence[int]) -> Array:
    """A model's input as (frames, *frame shape); one frame where it has no time axis."""
    if time_axis is None:
        return x.reshape(1, *frame_shape)
    moved = np.moveaxis(x, time_axis, 0)
    frames: Array = np.ascontiguousarray(moved).reshape(moved.shape[0], *frame_shape)
    return frames


def to_sequence(rows: Array, spec: TensorSpec) -> Array:
    """Frames (n, *frame shape) in the model's own shape; the last one where it is any-time."""
    if spec.time_axis is None:
        last: Array = rows[-1]
        return last.reshape(spec.model_shape)
    chunks: list[Array] = list(rows.reshape(rows.shape[0], *spec.model_shape))
    none = np.take(np.zeros(spec.model_shape, rows.dtype), [], spec.time_axis)
    return np.concatenate([none, *chunks], axis=spec.time_axis)


def _held(x: Array, count: int) -> Array:
    return x if x.shape[0] == count else np.repeat(x, count, axis=0)


def by_name(result: Any, signature: Signature) -> dict[str, Array]:
    """Copies of what a session returned, by name of the output."""
    if isinstance(result, dict):
        return {name: np.array(value) for name, value in result.items()}
    return {signature.outputs[0].name: np.array(result)}
