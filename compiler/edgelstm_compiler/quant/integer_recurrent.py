"""Scheme int8-full, recurrent layers: the numbers of `IntegerLSTM` and `IntegerGRU`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops.quantized_recurrence import SIGNED_FRACTION, UNIT_FRACTION
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops import (
    GRU,
    LSTM,
    Concat,
    Direction,
    IntegerGRU,
    IntegerLSTM,
    Reshape,
    Slice,
)
from edgelstm_compiler.ir.ops.quantized_integer import H_MULTIPLIER, TABLES, X_MULTIPLIER
from edgelstm_compiler.ir.ops.recurrent import INITIAL_C, INITIAL_H, SEQUENCE_LENS, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Node, Op, Value
from edgelstm_compiler.quant.build import IntegerValue, QuantizedBuilder, integer_limits
from edgelstm_compiler.quant.fixed_point import FixedPoint, Product, fix_layer
from edgelstm_compiler.quant.int8 import folded_rows, zero_point_sum
from edgelstm_compiler.quant.layer import (
    H_STEPS,
    Activations,
    CellParameters,
    hidden_means,
    input_activations,
    input_means,
    mean_change,
    padded_inputs,
    record,
)
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.tables import signed_table, unit_table
from edgelstm_compiler.quant.weights import QuantizedRows, quantize_rows

OUTPUT_SHIFT = 15
"""h in Q0.15 times 127, shifted by 15, is h in steps of 1 / 127."""

MAX_CELL_EXPONENT = 10
_CELL_HEADROOM = 1.5


@dataclass(frozen=True, slots=True)
class _Layer:
    """The common part of both cells: integer operands and the numbers of the sums."""

    x: IntegerValue
    w: QuantizedRows
    r: QuantizedRows
    fixed: FixedPoint
    places: tuple[int, ...]
    tables: Array
    inputs: list[Value | None]
    pairs: tuple[tuple[Array, Array], ...]
    given: CellParameters


def quantize_lstm(node: Node, builder: QuantizedBuilder) -> None:
    """IntegerLSTM: h in int8, c in int16."""
    op = node.op
    assert isinstance(op, LSTM)
    layer = _convert(node, op, builder)
    exponent = _cell_exponent(node, builder)
    c_scale = 2.0 ** (exponent - 15)
    peepholes, peephole_shift = _peepholes(layer.given.p, exponent, node)
    inputs = layer.inputs
    if peepholes is not None:
        inputs[P] = builder.add_constant(f"{node.name}.P.steps", peepholes)
    h_scale = 1.0 / H_STEPS
    _, y_h, y_c = node.outputs
    padded = padded_inputs(node)
    inputs[INITIAL_H] = _initial(padded[INITIAL_H], y_h, DType.I8, h_scale, builder)
    inputs[INITIAL_C] = _initial(padded[INITIAL_C], y_c, DType.I16, c_scale, builder)
    integer = IntegerLSTM(
        cell=op,
        x_shift=layer.fixed.shifts[0],
        h_shift=layer.fixed.shifts[1],
        sum_shift=layer.fixed.sum_shift,
        output_multiplier=H_STEPS,
        output_shift=OUTPUT_SHIFT,
        tables=layer.places,
        cell_exponent=exponent,
        peephole_shift=peephole_shift,
    )
    new = _finish(node, integer, layer, builder)
    for shown, value, scale in zip(
        node.outputs, new.outputs, (h_scale, h_scale, c_scale), strict=True
    ):
        builder.show_integer(shown, IntegerValue(value, np.array([scale])))
        builder.write_state(shown, value)


def quantize_gru(node: Node, builder: QuantizedBuilder) -> None:
    """IntegerGRU: h in int16, seen as int8."""
    op = node.op
    assert isinstance(op, GRU)
    layer = _convert(node, op, builder)
    state_scale = 2.0**-15
    y_h = node.outputs[1]
    initial = padded_inputs(node)[INITIAL_H]
    layer.inputs[INITIAL_H] = _initial(initial, y_h, DType.I16, state_scale, builder)
    integer = IntegerGRU(
        cell=op,
        x_shift=layer.fixed.shifts[0],
        h_shift=layer.fixed.shifts[1],
        sum_shift=layer.fixed.sum_shift,
        output_multiplier=H_STEPS,
        output_shift=OUTPUT_SHIFT,
        tables=layer.places,
    )
    y, state = _finish(node, integer, layer, builder).outputs
    builder.write_state(y_h, state)
    builder.show_integer(node.outputs[0], IntegerValue(y, np.array([1.0 / H_STEPS])))
    if layer.inputs[SEQUENCE_LENS] is not None:
        builder.show_integer(y_h, IntegerValue(state, np.array([state_scale])))
        return
    last = _last_frames(y, op, node, builder)
    builder.show_integer(y_h, IntegerValue(last, np.array([1.0 / H_STEPS])))


def _convert(node: Node, op: LSTM | GRU, builder: QuantizedBuilder) -> _Layer:
    given = CellParameters.of(node, op, builder)
    value = node.inputs[X]
    assert value is not None
    held = builder.integer(value)
    wanted = _held_activations(held, value) if held else input_activations(node, builder)
    x = builder.take_integer(value, wanted.dtype, wanted.scale, wanted.zero_point)
    activations = Activations(wanted.dtype, _by_column(x.scale, value), x.zero_point)
    w = folded_rows(given.w, activations, node, builder)
    r = quantize_rows(given.r, clip=builder.options.clip_weights)
    gates, hidden, count = op.gates, op.hidden, op.direction.count
    restored = w.restored * activations.inverse.astype(np.float64)
    means, h_means = input_means(node, builder), hidden_means(node, builder)
    bias = given.b.astype(np.float64).reshape(count, 2, gates * hidden).copy()
    for d in range(count):
        bias[d, 0] += mean_change(given.w[d], restored[d], means)
        bias[d, 0] -= zero_point_sum(QuantizedRows(w.steps[d], w.scale[d]), activations)
        h_mean = None if h_means is None else h_means[d]
        bias[d, 1] += mean_change(given.r[d], r.restored[d], h_mean)
    sums, row_places = _accumulators(op, bias)
    factor = np.repeat(_gate_factors(op), hidden)
    separate = sums.shape[-1] != gates * hidden
    sum_factor = np.concatenate([factor, factor[-hidden:]]) if separate else factor
    fixed = fix_layer(
        [
            Product(w.steps, w.scale, -integer_limits(wanted.dtype)[0]),
            Product(r.steps, r.scale / H_STEPS, H_STEPS + 1),
        ],
        [factor, factor],
        sums,
        sum_factor,
        list(row_places),
        node.origin or node.name,
    )
    tables, places = _tables(op)
    inputs: list[Value | None] = [x.value, *([None] * 10)]
    arrays = {
        W: ("W.steps", w.steps),
        R: ("R.steps", r.steps),
        B: ("B.steps", fixed.bias),
        X_MULTIPLIER: ("W.multiplier", fixed.multipliers[0]),
        H_MULTIPLIER: ("R.multiplier", fixed.multipliers[1]),
        TABLES: ("tables", tables),
    }
    for place, (name, array) in arrays.items():
        inputs[place] = builder.add_constant(f"{node.name}.{name}", array)
    inputs[SEQUENCE_LENS] = padded_inputs(node)[SEQUENCE_LENS]
    pairs = ((given.w, restored), (given.r, r.restored))
    return _Layer(x, w, r, fixed, places, tables, inputs, pairs, given)


def _finish(
    node: Node, op: IntegerLSTM | IntegerGRU, layer: _Layer, builder: QuantizedBuilder
) -> Node:
    """The integer node, and the record of the layer."""
    new = builder.emit_steps(node, op, layer.inputs)
    given = layer.given
    after = [builder.constant(value) for value in layer.inputs if value is not None]
    builder.records.append(
        record(node, Scheme.INT8_FULL, (given.w, given.r, given.b, given.p), after, layer.pairs)
    )
    return new


def _last_frames(y: Value, op: GRU, node: Node, builder: QuantizedBuilder) -> Value:
    """Y_h as others see it: of Y, in int8, whether they read a step or a whole sequence."""

    def emit(movement: Op, *inputs: Value) -> Value:
        name = f"{node.name}.last"
        return builder.emit(movement, inputs, name, node.origin, (name,)).outputs[0]

    steps, count = y.type.shape[:2]
    if steps > 1:
        backward = op.direction is Direction.REVERSE
        ends = [emit(Slice(0, 0 if backward else steps - 1, 1, 1), y)]
        if count == 2:
            ends = [emit(Slice(1, 0, 1, 1), ends[0])]
            ends.append(emit(Slice(1, 1, 1, 1), emit(Slice(0, 0, 1, 1), y)))
        y = ends[0] if len(ends) == 1 else emit(Concat(1), *ends)
    return emit(Reshape(y.type.shape[1:]), y)


def _initial(
    value: Value | None, final: Value, dtype: DType, scale: float, builder: QuantizedBuilder
) -> Value | None:
    if value is None:
        return None
    carried = builder.carry_integer(value, final, dtype, scale)
    if carried is not None:
        return carried
    data = builder.constant(value)
    if data is not None and not data.any():
        return None
    return builder.convert(value, dtype, scale)


def _held_activations(held: IntegerValue, value: Value) -> Activations:
    return Activations(held.value.type.dtype, _by_column(held.scale, value), held.zero_point)


def _by_column(scale: Array, value: Value) -> Array:
    return np.broadcast_to(scale, value.type.shape[-1:]).astype(np.float64)


def _gate_factors(op: LSTM | GRU) -> Array:
    """Steps of 1.0 in the sums of each gate: the last gate is the candidate."""
    return np.array([2.0**UNIT_FRACTION] * (op.gates - 1) + [2.0**SIGNED_FRACTION])


def _accumulators(op: LSTM | GRU, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    """Bias by accumulator (D, A*H), and for x and h the accumulator of each row."""
    rows = np.arange(op.gates * op.hidden)
    if isinstance(op, GRU) and op.linear_before_reset:
        candidate = 2 * op.hidden
        sums = bias.sum(axis=1)
        sums[:, candidate:] = bias[:, 0, candidate:]
        total = np.concatenate([sums, bias[:, 1, candidate:]], axis=-1)
        return total, (rows, np.where(rows < candidate, rows, rows + op.hidden))
    return bias.sum(axis=1), (rows, rows)


def _tables(op: LSTM | GRU) -> tuple[Array, tuple[int, ...]]:
    """The distinct tables of a layer, and which one each activation uses."""
    kinds: list[tuple[Activation, bool]] = []
    places = []
    for index, activation in enumerate(op.activations):
        # The cell's first function makes gates in [0, 1].
        kind = (activation, index % op.functions == 0)
        if kind not in kinds:
            kinds.append(kind)
        places.append(kinds.index(kind))
    tables = [unit_table(a) if is_unit else signed_table(a) for a, is_unit in kinds]
    return np.stack(tables), tuple(places)


def _cell_exponent(node: Node, builder: QuantizedBuilder) -> int:
    """The power of two that c stays below: calibrated, with headroom."""
    largest = float(builder.calibration(node).cell(node.name).c_largest.max())
    for state in builder.graph.states:
        if state.read is padded_inputs(node)[INITIAL_C]:
            largest = max(largest, float(np.abs(state.init).max(initial=0.0)))
    exponent = int(np.ceil(np.log2(max(largest * _CELL_HEADROOM, 1.0))))
    if exponent > MAX_CELL_EXPONENT:
        raise CapabilityError(
            f"{node.origin or node.name}: its cell state reaches {largest:.3g} and needs more than "
            f"16 bits; use --quantize int8 for this layer"
        )
    return exponent


def _peepholes(p: Array | None, exponent: int, node: Node) -> tuple[Array | None, int]:
    """P in int16 and the shift of p * c to Q4.11."""
    if p is None:
        return None, 0
    largest = float(np.abs(p).max(initial=0.0))
    bits = 15
    while largest * 2.0**bits > 32767:
        bits -= 1
    shift = bits + 15 - exponent - UNIT_FRACTION
    if shift < 0:
        raise CapabilityError(
            f"{node.origin or node.name}: its peepholes reach {largest:.3g}, too large for "
            "integers; use --quantize int8 for this layer"
        )
    return np.rint(p * 2.0**bits).astype(np.int16), shift
