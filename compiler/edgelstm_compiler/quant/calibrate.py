"""Replays recordings through the float step graph and reads off ranges: makes a `Calibration`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.ops import Dense, Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.calibration import Calibration, CellRange, ValueRange
from edgelstm_compiler.quant.cell_trace import CellTrace, CellWeights, trace_cell
from edgelstm_compiler.quant.extremes import Spread, extreme_warnings
from edgelstm_compiler.quant.moments import MomentSums, add_dense, add_recurrent
from edgelstm_compiler.quant.replay import Recording, Replay, timed_inputs

Progress = Callable[[int, int], None]

FEW_FRAMES = 200
"""Fewer frames than this give a warning in a stream."""


def calibrate(
    graph: StepGraph,
    recordings: Sequence[Recording],
    *,
    model: str = "",
    progress: Progress | None = None,
) -> Calibration:
    """Replay every recording from the initial states, as it would stream.

    Args:
        graph: the float step graph.
        recordings: frames (n, *frame shape) by input, or whole inputs in call mode.
        model: SHA-256 of the model, kept in the result.
        progress: called with recordings done and their number.

    Raises:
        CapabilityError: no recordings, or values that are not finite.
    """
    if not recordings:
        raise CapabilityError("there is nothing to calibrate with: give at least one recording")
    layers = _layers(graph)
    watched = _watched(graph, layers)
    replay = Replay(graph, [value.name for value in watched])
    samples: dict[str, list[Array]] = {value.name: [] for value in watched}
    traces: dict[str, list[CellTrace]] = {node.name: [] for node in layers}
    moments = {node.name: MomentSums() for node in layers}
    starts: dict[str, list[int]] = {value.name: [] for value in watched}
    frames = 0
    for number, recording in enumerate(recordings):
        rows = replay.run(recording)
        frames += len(rows[watched[0].name])
        for value in watched:
            data = rows[value.name]
            if not np.isfinite(data).all():
                raise CapabilityError(
                    f"recording {number + 1}: {value.name!r} is not finite; repair the recording"
                )
            before = samples[value.name]
            starts[value.name].append(sum(map(len, before)))
            before.append(data.reshape(-1, data.shape[-1]))
        for node in layers:
            if isinstance(node.op, Recurrent):
                weights, x, h, start, first_c = _inside(graph, node, rows)
                traces[node.name].append(trace_cell(node.op, weights, x, h, start, first_c))
                add_recurrent(moments[node.name], node.op, weights, x, h, start)
            elif node.inputs[0] is not None and node.inputs[0].name in rows:
                x = rows[node.inputs[0].name]
                add_dense(moments[node.name], x.reshape(-1, x.shape[-1]))
        if progress is not None:
            progress(number + 1, len(recordings))
    values: dict[str, ValueRange] = {}
    inputs = {item.value.name: item.value for item in graph.inputs}
    warnings: list[str] = []
    for name, parts in samples.items():
        rows_of = np.concatenate(parts).astype(np.float64)
        spread = Spread.of(rows_of)
        values[name] = ValueRange.of(rows_of, spread)
        if name in inputs:
            shape = inputs[name].type.shape
            per_frame = max(int(np.prod(shape[:-1])), 1)
            warnings += extreme_warnings(name, rows_of, spread, starts[name], per_frame)
    merged = {name: _merged(parts) for name, parts in traces.items() if parts}
    warnings += [*_frame_warnings(graph, frames, values), *_cell_warnings(layers, merged)]
    cells = {
        name: CellRange(trace.h_largest, trace.h_mean, trace.c_largest)
        for name, trace in merged.items()
    }
    known = {name: found for name, sums in moments.items() if (found := sums.moments())}
    return Calibration(model, frames, values, cells, tuple(warnings), known)


def _layers(graph: StepGraph) -> list[Node]:
    data = constant_data(graph)
    return [
        node
        for node in graph.nodes
        if isinstance(node.op, (Recurrent, Dense)) and node.inputs[1] in data
    ]


def _watched(graph: StepGraph, layers: Sequence[Node]) -> list[Value]:
    """Every float value that is not a constant: any of them may have to be quantized."""
    del layers
    values = [item.value for item in graph.inputs] + [state.read for state in graph.states]
    values += [value for node in graph.nodes for value in node.outputs]
    return [value for value in values if value.type.dtype.is_float and value.type.rank > 0]


def _inside(
    graph: StepGraph, node: Node, rows: dict[str, Array]
) -> tuple[CellWeights, Array, Array, Array, Array | None]:
    """Weights, x, h and the first h and c of a layer.

    The recording is one sequence; chunks of several frames are sequences side by side, each from
    its own first states (None: zeros).
    """
    data = constant_data(graph)
    padded = (*node.inputs, *([None] * (8 - len(node.inputs))))
    x_value = padded[X]
    assert x_value is not None

    def array(position: int) -> Array | None:
        value = padded[position]
        return None if value is None else data[value]

    w, r = array(W), array(R)
    assert w is not None
    weights = CellWeights(w, r, array(B), array(P))
    xs = _rows(graph, x_value, rows, data)
    y, *finals = node.outputs
    hs = rows[y.name] if y.name in rows else rows[finals[0].name]
    initial = [
        None if value is None else _rows(graph, value, rows, data)
        for value in padded[INITIAL_H : INITIAL_H + len(finals)]
    ]
    if x_value.type.shape[0] > 1:
        x, h = (_side_by_side(data, axis) for data, axis in ((xs, 1), (hs, 2)))
        starts = [
            None
            if found is None
            else _side_by_side(np.broadcast_to(found, (len(xs), *found.shape[1:])), 1)
            for found in initial
        ]
    else:
        x = xs.reshape(-1, *x_value.type.shape[1:])
        h = hs.reshape(-1, *y.type.shape[1:])
        starts = [None if found is None else found[0] for found in initial]
    start, *others = starts
    if start is None:
        start = np.zeros(h.shape[1:], np.float32)
    return weights, x, h, start, others[0] if others and x_value.type.shape[0] > 1 else None


def _side_by_side(chunks: Array, batch: int) -> Array:
    """Chunks (n, T, ...) whose axis `batch` (without n) takes all of them: (T, ..., n * B, ...)."""
    moved = np.moveaxis(chunks, 0, batch)
    shape = moved.shape
    return moved.reshape(*shape[:batch], shape[batch] * shape[batch + 1], *shape[batch + 2 :])


def _rows(
    graph: StepGraph, value: Value, rows: dict[str, Array], data: dict[Value, Array]
) -> Array:
    del graph
    return rows[value.name] if value.name in rows else data[value][None]


def _merged(traces: Sequence[CellTrace]) -> CellTrace:
    return CellTrace(
        h_largest=np.max([t.h_largest for t in traces], axis=0),
        h_mean=np.mean([t.h_mean for t in traces], axis=0),
        h_range=np.max([t.h_range for t in traces], axis=0),
        c_largest=np.max([t.c_largest for t in traces], axis=0),
        saturated=np.mean([t.saturated for t in traces], axis=0),
        still=np.all([t.still for t in traces], axis=0),
    )


def _frame_warnings(graph: StepGraph, frames: int, values: dict[str, ValueRange]) -> list[str]:
    warnings = []
    if timed_inputs(graph) and frames < FEW_FRAMES:
        warnings.append(f"only {frames} frames: ranges of rare movements are not known")
    for item in graph.inputs:
        found = values.get(item.value.name)
        if found is None:
            continue
        constant = np.flatnonzero(found.high == found.low)
        if constant.size:
            channels = ", ".join(map(str, constant))
            warnings.append(f"input {item.value.name!r}: channels {channels} never change")
    return warnings


def _cell_warnings(layers: Sequence[Node], traces: dict[str, CellTrace]) -> list[str]:
    warnings = []
    for node in layers:
        trace = traces.get(node.name)
        if trace is None:
            continue
        where, units = node.origin or node.name, trace.h_range.size
        dead = int((trace.h_range < 1e-3).sum())
        if dead:
            warnings.append(f"{where}: {dead} of {units} units never move in the calibration data")
        still = int(trace.still.sum())
        if still:
            warnings.append(f"{where}: {still} of {trace.still.size} gates never move")
        stuck = int((trace.saturated > 0.99).sum())
        if stuck:
            warnings.append(
                f"{where}: {stuck} of {trace.saturated.size} gates are saturated in 99 % of frames"
            )
    return warnings
