"""Calibration data as users have it, as recordings for a `Replay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.replay import Recording, chunks, timed_inputs

Recordings: TypeAlias = Array | Mapping[str, Array] | Sequence[Array | Mapping[str, Array]]
"""One recording or several: an array where the model has one input, else arrays by input."""


def as_recordings(graph: StepGraph, data: Recordings) -> list[Recording]:
    """Recordings by input name, checked against the graph's inputs.

    Frames come as (n, *frame shape) or as the model takes a sequence of them (the batch of 1, if
    it has one, in any place); whole calls as the model takes them.

    Raises:
        CapabilityError: they do not fit the model.
    """
    items = [data] if isinstance(data, (np.ndarray, Mapping)) else list(data)
    names = [item.value.name for item in graph.inputs]
    recordings: list[Recording] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, Mapping):
            named = {str(name): np.asarray(array) for name, array in item.items()}
        elif len(names) == 1:
            named = {names[0]: np.asarray(item)}
        else:
            raise CapabilityError(
                f"the model has {len(names)} inputs ({', '.join(names)}): give each calibration "
                "recording as arrays by name"
            )
        recording = {name: _frames(graph, name, array) for name, array in named.items()}
        try:
            chunks(graph, recording)
        except ValueError as error:
            raise CapabilityError(f"calibration recording {number}: {error}") from error
        recordings.append(recording)
    return recordings


def limited(recordings: Sequence[Recording], graph: StepGraph, frames: int) -> list[Recording]:
    """So many frames (calls), spread over all recordings; the beginning of those it takes."""
    timed = timed_inputs(graph)
    if not timed:
        return [recordings[index] for index in _spread(len(recordings), frames)]
    counts = [min(len(recording[name]) for name in timed) for recording in recordings]
    wanted = -(-frames * len(recordings) // max(sum(counts), 1))
    kept: list[Recording] = []
    left = frames
    for index in _spread(len(recordings), max(wanted, 1)):
        cut = min(left, counts[index])
        items = recordings[index].items()
        kept.append({name: x[:cut] if name in timed else x for name, x in items})
        left -= cut
        if left <= 0:
            break
    return kept


def _spread(total: int, count: int) -> list[int]:
    """At most `count` indices, evenly over 0 .. total - 1."""
    if count >= total:
        return list(range(total))
    return [index * total // count for index in range(count)]


def _frames(graph: StepGraph, name: str, data: Array) -> Any:
    """Time first, where the array is a sequence as the model takes it."""
    item = next((item for item in graph.inputs if item.value.name == name), None)
    if item is None or item.time_axis is None:
        return data
    shape = item.value.type.shape
    one_frame = item.value.type.size
    is_sequence = data.ndim == len(shape) and all(
        axis == item.time_axis or extent == shape[axis] for axis, extent in enumerate(data.shape)
    )
    if is_sequence and data[:1].size != one_frame:
        return np.moveaxis(data, item.time_axis, 0)
    return data
