"""Which matrix of which gate costs what: each rounded alone, everything else in float32.

Kernels have one scheme for all of a layer's weights, so `auto` decides by layer; this shows where
in a layer its error comes from. It is the error of weights: what rounding x and h adds is the
layer's, whichever gate reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.ops.recurrent import B, X
from edgelstm_compiler.ir.types import Array, Constant, Node
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.build import LayerRecord
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import Quantized
from edgelstm_compiler.quant.layer import mean_change
from edgelstm_compiler.quant.recordings import limited
from edgelstm_compiler.quant.replay import Recording, Replay

FRAMES = 300
MATRICES = ("W", "R")

Split = dict[str, dict[str, float | None]]
"""Decibels of the worst output by matrix and gate; None: no error."""


def measure_split(
    converted: Quantized, recordings: Sequence[Recording], *, does_correct: bool
) -> dict[str, Split]:
    """Of every quantized recurrent layer by name.

    Args:
        converted: the quantized graph and what it was made from.
        recordings: in floats.
        does_correct: whether biases take back what rounding changes on average.
    """
    fitted = converted.fitted
    means = fitted.calibration if does_correct else None
    some = [
        {name: x - fitted.offsets[name] if name in fitted.offsets else x for name, x in one.items()}
        for one in limited(recordings, fitted.graph, FRAMES)
    ]
    wanted = _outputs(fitted.graph, some)
    nodes = {node.name: node for node in fitted.graph.nodes}
    found: dict[str, Split] = {}
    for layer in converted.layers:
        node = nodes.get(layer.name)
        if node is None or not isinstance(node.op, Recurrent):
            continue
        split = found.setdefault(layer.name, {})
        for matrix, gate, graph in _alone(fitted.graph, node, layer, means):
            shown = _outputs(graph, some)
            worst = min(measure(wanted[name], shown[name]).sqnr_db for name in wanted)
            split.setdefault(matrix, {})[gate] = round(worst, 2) if np.isfinite(worst) else None
    return found


def _alone(
    graph: StepGraph, node: Node, layer: LayerRecord, means: Calibration | None
) -> Iterator[tuple[str, str, StepGraph]]:
    """The float graph with one matrix of one gate as the quantized layer has it."""
    op = node.op
    assert isinstance(op, Recurrent)
    data = constant_data(graph)
    rows = op.gates * op.hidden
    held = node.inputs[B] if len(node.inputs) > B else None
    bias = None if held is None else data[held]
    for position, (given, computed) in enumerate(layer.weights, 1):
        middle = None if means is None else _middle(node, position, means)
        for number, gate in enumerate(op.cell().gates):
            block = slice(number * op.hidden, (number + 1) * op.hidden)
            mixed = given.copy()
            mixed[:, block] = computed[:, block]
            moved = np.zeros((len(given), 2 * rows)) if bias is None else bias.astype(np.float64)
            if middle is not None:
                begin = rows * (position - 1)
                for d, mean in enumerate(middle):
                    moved[d, begin : begin + rows] += mean_change(given[d], mixed[d], mean)
            yield (
                MATRICES[position - 1],
                gate,
                _with(graph, node, {position: mixed.astype(np.float32), B: moved}),
            )


def _middle(node: Node, position: int, means: Calibration) -> list[Array]:
    """The mean of what a matrix multiplies, by direction."""
    assert isinstance(node.op, Recurrent)
    x = node.inputs[X]
    assert x is not None
    if position == 1:
        return [means.value(x.name).mean] * node.op.direction.count
    return list(means.cell(node.name).h_mean)


def _with(graph: StepGraph, node: Node, arrays: Mapping[int, Array]) -> StepGraph:
    """The graph with other constants in a layer."""
    inputs: list[Any] = [*node.inputs, *([None] * (B + 1 - len(node.inputs)))]
    added = []
    for position, array in arrays.items():
        constant = Constant.of(f"{node.name}.split.{position}", array.astype(np.float32))
        added.append(constant)
        inputs[position] = constant.value
    new = dataclasses.replace(node, inputs=tuple(inputs))
    return dataclasses.replace(
        graph,
        nodes=tuple(new if each is node else each for each in graph.nodes),
        constants=(*graph.constants, *added),
    )


def _outputs(graph: StepGraph, recordings: Sequence[Recording]) -> dict[str, Array]:
    replay = Replay(graph)
    runs = [replay.run(recording) for recording in recordings]
    return {out.name: np.concatenate([run[out.name] for run in runs]) for out in graph.outputs}
