"""Scales and offsets of input channels, folded into the weights and biases behind them.

Sensors come in their own units: an accelerometer in g beside a gyroscope in deg/s, a barometer
that moves by 50 around 101,325 Pa. W x + b = (W / c) ((x - m) c) + (b + W m) for any m and c > 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgelstm_compiler.ir.graph import StepGraph, constant_data, source_values
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, Recurrent
from edgelstm_compiler.ir.ops.recurrent import W, X
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.quant.calibration import Calibration, ValueRange
from edgelstm_compiler.quant.fold_affine import absorb
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.weights import quantize_groups, quantize_rows

_STORED = (Scheme.W8, Scheme.W4)
_INTEGER = (Scheme.INT8, Scheme.INT8_FULL)

_GAIN = 0.8
"""Error that must be left at most for a multiplication per channel to be worth its time."""

_ROUNDS = 3

_STEPS = 256
"""Steps that the root mean square of a channel keeps at least: those of weights are coarser."""

IMPORTANCE_FLOOR = 1e-3
"""Mean square that a channel is given at least, over the square of its range."""


@dataclass(frozen=True, slots=True)
class FittedChannels:
    """The graph on channels that are alike.

    Args:
        graph: the same function.
        calibration: of it.
        offsets: integer inputs whose numbers stand for x - offset, by name.
    """

    graph: StepGraph
    calibration: Calibration | None
    offsets: Mapping[str, Array] = field(default_factory=dict)


def fit_channels(
    graph: StepGraph,
    calibration: Calibration | None,
    schemes: Mapping[str, Scheme],
    options: QuantizeOptions,
) -> FittedChannels:
    """Take offsets off what integer layers read, and scale what layers of stored weights read.

    Integer layers have a scale per channel anyway; stored weights have one per row. Biases hold
    the mean of what stored weights lose, so they need no offset.

    Returns:
        The SAME graph where nothing is gained.
    """
    data = constant_data(graph)
    fitted = FittedChannels(graph, calibration)
    for value in [*(item.value for item in graph.inputs), *_computed(graph)]:
        readers = [node for node in fitted.graph.nodes if is_layer_on(node, value, data)]
        stored = [node for node in readers if schemes.get(node.name) in _STORED]
        if stored:
            fitted = _scaled(fitted, value, stored, data, schemes, options)
        integer = [node for node in readers if schemes.get(node.name) in _INTEGER]
        if integer and calibration is not None:
            fitted = _centered(fitted, value, integer, calibration, options)
    return fitted


def is_layer_on(node: Node, value: Value, data: Mapping[Value, Array]) -> bool:
    """Whether the node is a layer with constant weights that reads the value as its input."""
    is_layer = isinstance(node.op, (Dense, Recurrent))
    return is_layer and node.inputs[X] is value and node.inputs[W] in data


def column_scales(node: Node, data: Mapping[Value, Array]) -> Array:
    """How large the weights of each input of a layer are beside each other (K,)."""
    value = node.inputs[W]
    assert value is not None
    return _column_scales(_rows(node, data[value]))


def filled(reach: Array, columns: Array) -> Array:
    """Ranges for channels that never move, such that their weights are as large as the others'.

    Shapes:
        reach (K,), 0 where a channel never moves; columns (K,): `column_scales` of the weights.
    """
    live = reach > 0
    typical = float(np.median(reach[live] * columns[live])) if live.any() else 1.0
    return np.where(live, reach, typical / columns)


def alike(scale: Array, found: ValueRange, columns: Array) -> Array:
    """Coarser scales of 16-bit channels, such that weights times them are of a size.

    Weights have 8 bits and one scale per row: what a channel that reaches far makes of its weights
    would leave the others' few of them, while 16 bits of an input are more than its noise needs.

    Shapes:
        scale (K,): without overflow; columns (K,): `column_scales` of the weights.
    """
    wanted = float((scale * columns).max(initial=0.0)) / columns
    finest = np.sqrt(found.variance) / _STEPS
    return np.maximum(scale, np.minimum(wanted, finest))


def importance(found: ValueRange, columns: Array, *, centered: bool) -> Array:
    """How much the square of an error in each input's weights weighs (K,), in units of channels.

    Args:
        found: of the input.
        columns: `column_scales` of the weights.
        centered: the mean is taken back in the bias.
    """
    square = found.variance if centered else found.square
    reach = filled(found.core, columns)
    return np.asarray(square + IMPORTANCE_FLOOR * np.square(reach))


def _computed(graph: StepGraph) -> list[Value]:
    values = [state.read for state in graph.states]
    return values + [value for node in graph.nodes for value in node.outputs]


def _rows(node: Node, weights: Array) -> Array:
    """Weights as (rows, K)."""
    wide = weights.astype(np.float64)
    return wide.T if isinstance(node.op, Dense) else wide.reshape(-1, wide.shape[-1])


def _scaled(
    fitted: FittedChannels,
    value: Value,
    readers: list[Node],
    data: Mapping[Value, Array],
    schemes: Mapping[str, Scheme],
    options: QuantizeOptions,
) -> FittedChannels:
    """The layers on x * c, where that takes away a fifth of the error of their sums."""
    if fitted.calibration is None and _is_behind_layer(fitted.graph, value):
        # What a layer computes has one unit: small weights of a column only say that it counts
        # little.
        return fitted
    rows = [_rows(node, data[w]) for node in readers if (w := node.inputs[W]) is not None]
    # Powers of two: x * c is exact.
    size = _column_scales(np.concatenate(rows))
    factor = np.clip(np.exp2(np.rint(np.log2(size))), 2.0**-60, 2.0**60)
    calibration = fitted.calibration
    if calibration is None:
        # Nothing is known of x: training makes weights small where x is large.
        weight = 1.0 / np.square(factor)
    else:
        found = calibration.value(value.name)
        weight = importance(found, size, centered=options.correct_bias)
    before, after = (
        sum(
            _error(part, weight, schemes[node.name], by, options)
            for part, node in zip(rows, readers, strict=True)
        )
        for by in (np.ones_like(factor), factor)
    )
    if after > _GAIN * before:
        return fitted
    moved = None
    if calibration is not None:
        moved = calibration.value(value.name).moved(np.zeros_like(factor), factor)
    op = Binary(Arithmetic.MUL)
    return _behind(fitted, value, readers, op, factor, 1.0 / factor, 0.0 * factor, moved)


def _column_scales(rows: Array) -> Array:
    """Scales of columns such that, rows having their own, weights are of a size (K,)."""
    scale = _live_size(rows)
    for _ in range(_ROUNDS):
        balanced = rows / scale
        largest = np.abs(balanced).max(axis=-1, keepdims=True, initial=0.0)
        scale = scale * _live_size(balanced / np.where(largest > 0, largest, 1.0))
    typical = np.exp(np.mean(np.log(_live_size((rows / scale).T))))
    return np.asarray(scale * typical)


def _live_size(rows: Array) -> Array:
    """The root mean square of what is not zero in each column, 1 where all is."""
    count = np.maximum((rows != 0).sum(axis=0), 1)
    size = np.sqrt(np.square(rows).sum(axis=0) / count)
    return np.where(size > 0, size, 1.0)


def _error(
    rows: Array, weight: Array, scheme: Scheme, factor: Array, options: QuantizeOptions
) -> float:
    """Mean square that quantizing W / factor adds to the sums."""
    quantize = quantize_rows if scheme is Scheme.W8 else quantize_groups
    share = weight * np.square(factor)
    with np.errstate(over="ignore", invalid="ignore"):
        found = quantize(rows / factor, clip=options.clip_weights, importance=share)
        error = float((np.square(rows / factor - found.restored) * share).sum())
    return error if np.isfinite(error) else np.inf


def _centered(
    fitted: FittedChannels,
    value: Value,
    readers: list[Node],
    calibration: Calibration,
    options: QuantizeOptions,
) -> FittedChannels:
    """The layers on x - center; an integer input stands for that difference itself."""
    graph = fitted.graph
    if _is_behind_layer(graph, value):
        return fitted
    found = calibration.value(value.name)
    if not found.center.any():
        return fitted
    one, offset = np.ones_like(found.center), found.center
    moved = found.moved(offset, one)
    if not options.integer_io:
        op = Binary(Arithmetic.SUB)
        return _behind(fitted, value, readers, op, offset, one, offset, moved)
    source = next((item for item in graph.inputs if item.value is value), None)
    users = [node for node in graph.nodes if value in node.inputs]
    if source is None or len(users) != len(readers):
        return fitted
    fitted = _behind(fitted, value, readers, None, offset, one, offset, moved)
    return dataclasses.replace(fitted, offsets={**fitted.offsets, value.name: offset})


def _is_behind_layer(graph: StepGraph, value: Value) -> bool:
    producers = {out: node for node in graph.nodes for out in node.outputs}
    node = producers.get(value)
    if node is None:
        return False
    if isinstance(node.op, (Dense, Recurrent)):
        return True
    return any(_is_behind_layer(graph, source) for source in node.inputs if source is not None)


def _behind(
    fitted: FittedChannels,
    value: Value,
    readers: list[Node],
    op: Binary | None,
    operand: Array,
    factor: Array,
    offset: Array,
    moved: ValueRange | None,
) -> FittedChannels:
    """The readers on a new value with x = value * factor + offset.

    Args:
        fitted: what stands so far.
        value: what they read.
        readers: layers that are rewritten.
        op: makes the new value of the old one and `operand`; None: the input itself is it now.
        operand: by channel.
        factor: the layers take it into their weights.
        offset: and this into their biases.
        moved: the range of the new value.
    """
    graph, data = fitted.graph, constant_data(fitted.graph)
    taken = {known.name for known in source_values(graph)}
    taken.update(out.name for node in graph.nodes for out in node.outputs)
    name = value.name
    while op is not None and name in taken:
        name += ".fitted"
    new = Value(name, value.type)
    constants: list[Constant] = []
    replaced: dict[Node, Node] = {}
    for node in readers:
        replaced[node], added = absorb(node, new, factor, offset, data)
        constants += added
    nodes: list[Node] = []
    if op is not None:
        constants.append(Constant.of(f"{name}.by", operand.astype(value.type.dtype.numpy)))
        made = Node(op, (value, constants[-1].value), (new,), f"{name}.fit", "")
        at = next(i for i, node in enumerate(graph.nodes) if node in replaced)
        nodes = [*graph.nodes[:at], made, *graph.nodes[at:]]
    else:
        nodes = list(graph.nodes)
    inputs = tuple(
        dataclasses.replace(item, value=new) if op is None and item.value is value else item
        for item in graph.inputs
    )
    grown = dataclasses.replace(
        graph,
        inputs=inputs,
        nodes=tuple(replaced.get(node, node) for node in nodes),
        constants=(*graph.constants, *constants),
    )
    calibration = fitted.calibration
    if calibration is not None and moved is not None:
        values = {**calibration.values, name: moved}
        calibration = dataclasses.replace(calibration, values=values)
    return dataclasses.replace(fitted, graph=eliminate_unused(grown), calibration=calibration)
