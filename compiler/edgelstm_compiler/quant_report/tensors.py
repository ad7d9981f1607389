"""Every value of two step graphs over the same recordings, brought to the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.convert import Quantized
from edgelstm_compiler.quant.replay import Recording, Replay, chunks
from edgelstm_compiler.quant_report.gates import (
    GateTrace,
    cell_values,
    is_cell,
    merge_traces,
    trace_gates,
)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a graph computed.

    Args:
        rows: values by their name in that graph, (n, *shape), recordings one after the other.
        gates: of each recurrent layer, by name of the value Y.
    """

    rows: Mapping[str, Array]
    gates: Mapping[str, GateTrace]


def observe(graph: StepGraph, names: Sequence[str], recordings: Sequence[Recording]) -> Observed:
    """Replay recordings and keep values and gates."""
    cells = [node for node in graph.nodes if is_cell(node)]
    watched = list(dict.fromkeys([*names, *(n for node in cells for n in cell_values(node))]))
    replay = Replay(graph, watched)
    runs = [replay.run(recording) for recording in recordings]
    replay.reset()
    once = replay.step(chunks(graph, recordings[0])[0])
    gates: dict[str, list[GateTrace]] = {}
    for node in cells:
        gates[node.outputs[0].name] = [trace_gates(node, run, once) for run in runs]
    rows = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    return Observed(rows, {name: merge_traces(traces) for name, traces in gates.items()})


def shown_values(graph: StepGraph) -> list[tuple[Node, Value]]:
    """The float values worth comparing, in program order: those that somebody reads."""
    read = {value for node in graph.nodes for value in node.inputs if value is not None}
    read.update(out.value for out in graph.outputs)
    read.update(state.write for state in graph.states)
    return [
        (node, value)
        for node in graph.nodes
        for value in node.outputs
        if value in read and value.type.dtype.is_float and value.type.rank > 0
    ]


def counterpart(name: str, graph: StepGraph, converted: Quantized) -> str | None:
    """The name in the quantized graph of what a float value became; None where it is gone."""
    held = converted.shown.get(name)
    if held is not None:
        return held.value.name
    present = {value.name for node in graph.nodes for value in node.outputs}
    return name if name in present else None


def as_float(name: str, data: Array, converted: Quantized) -> Array:
    """Rows of a counterpart as numbers of the float graph."""
    held = converted.shown.get(name)
    if held is None:
        return data
    return np.asarray((data.astype(np.float64) - held.zero_point) * held.scale)
