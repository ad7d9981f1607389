"""What values the inputs took in recordings, element by element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from edgelstm.sessions import mode_of
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.recordings import Recordings, as_recordings

Seen: TypeAlias = Mapping[str, tuple[Array, Array]]
"""Smallest and largest value of the elements of each input, row by row (in a call: of the last
axis)."""


def seen_ranges(graph: StepGraph, data: Calibration | Recordings | None) -> Seen:
    """The ranges of the inputs; only of those that the data tell.

    Args:
        graph: in floating point.
        data: recordings, or the calibration that was made from them.

    Raises:
        CapabilityError: the recordings do not fit the model.
    """
    if data is None:
        return {}
    if isinstance(data, Calibration):
        return {
            item.value.name: (found.low, found.high)
            for item in graph.inputs
            if (found := data.values.get(item.value.name)) is not None
        }
    recordings = as_recordings(graph, data)
    seen: dict[str, tuple[Array, Array]] = {}
    for item in graph.inputs:
        size = mode_of(graph.mode).described_size(item.value.type.shape)
        parts = [np.asarray(recording[item.value.name]) for recording in recordings]
        rows = np.concatenate([part.astype(np.float64).reshape(-1, size) for part in parts])
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows):
            seen[item.value.name] = (rows.min(axis=0), rows.max(axis=0))
    return seen
