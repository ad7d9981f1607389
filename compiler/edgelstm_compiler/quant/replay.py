"""Runs a step graph over recordings in NumPy, as fast as NumPy can, and keeps what is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgelstm.engines.numpy_ops import bound
from edgelstm.sessions.due import due_rows
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.graph import StepGraph, StepInput
from edgelstm_compiler.ir.types import Array

Recording = Mapping[str, Array]
"""A stream's input by name: (n, *frame shape), or for a call the whole input."""


class Replay:
    """A step graph made ready to run.

    Args:
        graph: float or quantized.
        watched: values to keep beside the outputs, by name.
    """

    def __init__(self, graph: StepGraph, watched: Sequence[str] = ()) -> None:
        self.graph = graph
        self._constants = {c.value.name: c.data for c in graph.constants}
        self._nodes = [
            (
                bound(*executed(node.op, node.inputs), [None] * len(node.inputs)),
                [None if value is None else value.name for value in node.inputs],
                [value.name for value in node.outputs],
            )
            for node in graph.nodes
        ]
        self._watched = list(watched)
        self.reset()

    def reset(self) -> None:
        """Back to the initial states."""
        self.states = {state.name: state.init for state in self.graph.states}

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One chunk; every value by name. Inputs have the model's chunk shapes."""
        values: dict[str, Array] = dict(self._constants)
        values.update(inputs)
        for state in self.graph.states:
            values[state.read.name] = self.states[state.name]
        with np.errstate(all="ignore"):
            for function, sources, targets in self._nodes:
                arguments = [None if name is None else values[name] for name in sources]
                values.update(zip(targets, function(arguments), strict=True))
        for state in self.graph.states:
            self.states[state.name] = values[state.write.name]
        return values

    def run(self, recording: Recording) -> dict[str, Array]:
        """From the initial states through a recording.

        Returns:
            For each output and watched value all chunks (n, *shape in the graph); n is 1 in calls.
        """
        self.reset()
        names = {out.name: out.value.name for out in self.graph.outputs}
        names.update((name, name) for name in self._watched)
        rows: dict[str, list[Array]] = {name: [] for name in names}
        for chunk in chunks(self.graph, recording):
            values = self.step(chunk)
            for name, value in names.items():
                rows[name].append(values[value])
        stacked = {name: np.stack(row) for name, row in rows.items()}
        for out in self.graph.outputs:
            data = stacked[out.name]
            stacked[out.name] = data[due_rows(out, 0, len(data), None)]
        return stacked


def chunks(graph: StepGraph, recording: Recording) -> list[dict[str, Array]]:
    """A recording cut into the graph's chunks, in the shapes of its inputs.

    Raises:
        ValueError: an input is missing, or does not have the frame's size.
    """
    missing = [item.value.name for item in graph.inputs if item.value.name not in recording]
    if missing:
        raise ValueError(f"the recording has no input {', '.join(map(repr, missing))}")
    count = min((len(recording[name]) for name in timed_inputs(graph)), default=1)
    return [
        {item.value.name: _shaped(item, recording, index) for item in graph.inputs}
        for index in range(count)
    ]


def timed_inputs(graph: StepGraph) -> list[str]:
    """Names of the inputs that bring a new frame each step; none in calls."""
    return [item.value.name for item in graph.inputs if item.time_axis is not None]


def _shaped(item: StepInput, recording: Recording, index: int) -> Array:
    data = np.asarray(recording[item.value.name])
    if item.time_axis is not None:
        data = data[index]
    shape, dtype = item.value.type.shape, item.value.type.dtype.numpy
    if data.size != item.value.type.size:
        raise ValueError(
            f"input {item.value.name!r}: {data.shape} does not fill a chunk of {item.value.type}"
        )
    return np.ascontiguousarray(data, dtype).reshape(shape)
