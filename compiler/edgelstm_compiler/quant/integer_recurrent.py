"""Scheme int8-full, recurrent layers: the numbers of `IntegerRecurrent`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm.numerics.cells import Cell, Matrix, Range, StateForm
from edgelstm.numerics.integers import FRACTIONS, UNIT_FRACTION
from edgelstm.numerics.layer import Operands
from edgelstm.numerics.wide_cells import widened
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops import (
    Concat,
    Direction,
    IntegerRecurrent,
    Recurrent,
    Reshape,
    Slice,
)
from edgelstm_compiler.ir.ops.quantized_integer import H_MULTIPLIER, TABLES, X_MULTIPLIER
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, SEQUENCE_LENS, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Node, Op, Value
from edgelstm_compiler.quant.build import IntegerValue, QuantizedBuilder, integer_limits
from edgelstm_compiler.quant.fixed_point import INT16_LIMIT, FixedPoint, Product, fix_layer
from edgelstm_compiler.quant.int8 import folded_rows, zero_point_sum
from edgelstm_compiler.quant.layer import (
    H_STEPS,
    WIDEST_INT16,
    Activations,
    CellParameters,
    compensated_rows,
    hidden_means,
    initial_limit,
    input_activations,
    input_means,
    integer_limit,
    mean_change,
    padded_inputs,
    record,
    sums_of_biases,
)
from edgelstm_compiler.quant.moments import row_kinds
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.tables import signed_table, unit_table
from edgelstm_compiler.quant.weights import QuantizedRows, quantize_rows

MAX_CELL_EXPONENT = 10
_CELL_HEADROOM = 1.5


@dataclass(frozen=True, slots=True)
class _HiddenForm:
    """How integers hold the first state.

    Args:
        is_wide: it and Y have 16 bits whatever the cell says.
        exponent: in 16 bits it is below 2^exponent.
        multiplier: of what has 16 bits, whose steps / 2^15 times this are those of int8. The scale
            is what this makes of it, so that rounding the multiplier loses nothing.
    """

    is_wide: bool
    exponent: int
    multiplier: int

    SHIFT = 15

    @classmethod
    def of(cls, node: Node, cell: Cell, builder: QuantizedBuilder) -> _HiddenForm:
        """Of a layer, as calibration and what it begins with want it."""
        is_wide = builder.options.wide_h and _is_read_wide(node, builder)
        first, exponent = initial_limit(node, 0, builder), 0
        if is_wide or cell.states[0].form is StateForm.SIGNED:
            exponent = max(int(np.ceil(np.log2(max(first, 1.0)))), 0)
        limit = integer_limit(node, builder) / 2.0**exponent
        return cls(is_wide, exponent, min(round(H_STEPS / limit), INT16_LIMIT))

    @property
    def step(self) -> float:
        """What a step in 16 bits is worth."""
        return 2.0 ** (self.exponent - 15)

    @property
    def narrow_step(self) -> float:
        """What a step in int8 is worth."""
        return self.step * 2.0**self.SHIFT / self.multiplier


@dataclass(frozen=True, slots=True)
class _Layer:
    """Integer operands and the numbers of the sums."""

    x: IntegerValue
    w: QuantizedRows
    r: QuantizedRows
    fixed: FixedPoint
    positions: tuple[int, ...]
    tables: Array
    inputs: list[Value | None]
    pairs: tuple[tuple[Array, Array], ...]
    given: CellParameters
    form: _HiddenForm


def quantize_recurrent(node: Node, builder: QuantizedBuilder) -> None:
    """IntegerRecurrent; h that is the memory itself has 16 bits, and is seen in 8."""
    op = node.op
    assert isinstance(op, Recurrent)
    layer = _convert(node, op, builder)
    given, inputs = Operands.of(node.inputs), layer.inputs
    cell, form = op.cell(peepholes=given.p is not None), layer.form
    is_wide = form.is_wide
    states = (widened(cell) if is_wide else cell).states
    exponent = peephole_shift = 0
    if any(state.form is StateForm.FREE for state in states):
        exponent = _cell_exponent(node, builder)
    if layer.given.p is not None:
        inputs[P], peephole_shift = _peepholes(layer.given.p, exponent, node, builder)
    steps = {
        StateForm.NARROW: form.narrow_step,
        StateForm.SIGNED: form.step,
        StateForm.FREE: 2.0 ** (exponent - 15),
    }
    scales = [steps[state.form] for state in states]
    integer = IntegerRecurrent(
        cell=op,
        x_shift=layer.fixed.shifts[0],
        h_shift=layer.fixed.shifts[1],
        sum_shift=layer.fixed.sum_shift,
        output_multiplier=form.multiplier,
        output_shift=form.SHIFT,
        tables=layer.positions,
        cell_exponent=exponent,
        peephole_shift=peephole_shift,
        is_wide=is_wide,
        h_exponent=form.exponent,
    )
    finals = node.outputs[1:]
    for index, (dtype, scale) in enumerate(zip(integer.state_types, scales, strict=True)):
        initial = _initial(given.initial[index], finals[index], dtype, scale, builder)
        inputs[INITIAL_H + index] = initial
    y, *new_states = _finish(node, integer, layer, builder).outputs
    y_scale = steps[StateForm.SIGNED if is_wide else StateForm.NARROW]
    builder.show_integer(node.outputs[0], IntegerValue(y, np.array([y_scale])))
    for index, (shown, value, scale) in enumerate(zip(finals, new_states, scales, strict=True)):
        builder.write_state(shown, value)
        is_signed = index == 0 and states[0].form is StateForm.SIGNED
        if is_signed and not is_wide and given.lengths is None:
            value, scale = _last_frames(y, op, node, builder), form.narrow_step
        builder.show_integer(shown, IntegerValue(value, np.array([scale])))


def _is_read_wide(node: Node, builder: QuantizedBuilder) -> bool:
    """Whether others read h in 16 bits.

    Integer recurrent layers alone read int8: 16 bits cost them up to a quarter more where products
    take bytes. What is wider than sums of int16 hold reads int8, too.
    """
    shown = node.outputs[:2]
    readers = [reader for value in shown for reader in builder.consumers(value)]
    if any(_widest(reader, builder) > WIDEST_INT16 for reader in readers):
        return False
    is_inner = all(
        isinstance(reader.op, Recurrent) and builder.schemes.get(reader.name) is Scheme.INT8_FULL
        for reader in readers
    )
    return not (readers and is_inner) or any(map(builder.is_output, shown))


def _widest(reader: Node, builder: QuantizedBuilder) -> int:
    """The most columns of an integer layer that reads what this node does, also when joined."""
    if isinstance(reader.op, Concat):
        behind = builder.consumers(reader.outputs[0])
        return max((_widest(node, builder) for node in behind), default=0)
    value = reader.inputs[X]
    is_integer = builder.schemes.get(reader.name) is Scheme.INT8_FULL
    return value.type.shape[-1] if is_integer and value is not None else 0


def _convert(node: Node, op: Recurrent, builder: QuantizedBuilder) -> _Layer:
    given = CellParameters.of(node, op, builder)
    value = node.inputs[X]
    assert value is not None
    held = builder.integer(value)
    wanted = _held_activations(held, value) if held else input_activations(node, builder)
    x = builder.take_integer(value, wanted.dtype, wanted.scale, wanted.zero_point)
    activations = Activations(wanted.dtype, _by_column(x.scale, value), x.zero_point)
    assert given.r is not None
    w = folded_rows(given.w, activations, node, builder)
    r = quantize_rows(given.r, clip=builder.options.clip_weights)
    form = _HiddenForm.of(node, op.cell(), builder)
    inverse = activations.inverse.astype(np.float64)
    w, r = compensated_rows(
        node,
        builder,
        row_kinds(op.cell())[1],
        [(given.w, w), (given.r, r)],
        (-H_STEPS, H_STEPS),
        1.0 / inverse,
    )
    gates, hidden, count = op.gates, op.hidden, op.direction.count
    restored = w.restored * activations.inverse.astype(np.float64)
    means, h_means = input_means(node, builder), hidden_means(node, builder)
    bias = given.b.astype(np.float64).reshape(count, 2, gates * hidden).copy()
    for d in range(count):
        bias[d, 0] += mean_change(given.w[d], restored[d], means)
        bias[d, 0] -= zero_point_sum(QuantizedRows(w.steps[d], w.scale[d]), activations)
        h_mean = None if h_means is None else h_means[d]
        bias[d, 1] += mean_change(given.r[d], r.restored[d], h_mean)
    sums = sums_of_biases(op, bias).reshape(count, -1)
    factors = _sum_factors(op)
    positions = _row_positions(op)
    fixed = fix_layer(
        [
            Product(w.steps, w.scale, -integer_limits(wanted.dtype)[0]),
            Product(r.steps, r.scale * form.narrow_step, H_STEPS + 1),
        ],
        [np.repeat(factors[position], hidden) for position in positions],
        sums,
        np.repeat(factors, hidden),
        [(position[:, None] * hidden + np.arange(hidden)).reshape(-1) for position in positions],
        node.origin or node.name,
    )
    tables, table_places = _tables(op)
    inputs: list[Value | None] = [x.value, *([None] * 10)]
    arrays = {
        W: ("W.steps", w.steps),
        R: ("R.steps", r.steps),
        B: ("B.steps", fixed.bias),
        X_MULTIPLIER: ("W.multiplier", fixed.multipliers[0]),
        H_MULTIPLIER: ("R.multiplier", fixed.multipliers[1]),
        TABLES: ("tables", tables),
    }
    for position, (name, array) in arrays.items():
        inputs[position] = builder.add_constant(f"{node.name}.{name}", array)
    inputs[SEQUENCE_LENS] = padded_inputs(node)[SEQUENCE_LENS]
    pairs = ((given.w, restored), (given.r, r.restored))
    return _Layer(x, w, r, fixed, table_places, tables, inputs, pairs, given, form)


def _finish(node: Node, op: IntegerRecurrent, layer: _Layer, builder: QuantizedBuilder) -> Node:
    """The integer node, and the record of the layer."""
    new = builder.emit_steps(node, op, layer.inputs)
    given = layer.given
    after = [builder.constant(value) for value in layer.inputs if value is not None]
    builder.records.append(
        record(node, Scheme.INT8_FULL, (given.w, given.r, given.b, given.p), after, layer.pairs)
    )
    return new


def _last_frames(y: Value, op: Recurrent, node: Node, builder: QuantizedBuilder) -> Value:
    """Y_h as others see it: of Y, in int8, whether they read a step or a whole sequence."""

    def emit(movement: Op, *inputs: Value) -> Value:
        name = f"{node.name}.last"
        return builder.emit(movement, inputs, name, node.origin, (name,)).outputs[0]

    steps, count = y.type.shape[:2]
    if steps > 1:
        backward = op.direction is Direction.REVERSE
        ends = [emit(Slice(0, 0 if backward else (op.kept or steps) - 1, 1, 1), y)]
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


def _sum_factors(op: Recurrent) -> Array:
    """Steps of 1.0 in each sum; one that no gate reads is as good as any."""
    ranges = op.cell().sum_ranges
    return np.array([2.0 ** FRACTIONS[values or Range.UNIT] for values in ranges])


def _row_positions(op: Recurrent) -> tuple[Array, Array]:
    """For each gate the sum that its rows of W are added to, and the one of its rows of R."""
    found = {matrix: np.zeros(op.gates, np.int64) for matrix in Matrix}
    for index, total in enumerate(op.cell().sums):
        for term in total.terms:
            found[term.matrix][term.gate] = index
    return found[Matrix.W], found[Matrix.R]


def _tables(op: Recurrent) -> tuple[Array, tuple[int, ...]]:
    """The distinct tables of a layer, and which one each activation uses."""
    kinds: list[tuple[Activation, bool]] = []
    positions = []
    ranges = op.cell().function_ranges * op.direction.count
    for values, activation in zip(ranges, op.activations, strict=True):
        kind = (activation, values is Range.UNIT)
        if kind not in kinds:
            kinds.append(kind)
        positions.append(kinds.index(kind))
    tables = [unit_table(a) if is_unit else signed_table(a) for a, is_unit in kinds]
    return np.stack(tables), tuple(positions)


def _cell_exponent(node: Node, builder: QuantizedBuilder) -> int:
    """The power of two that c stays below: calibrated, with headroom."""
    largest = float(builder.calibration(node).cell(node.name).c_largest.max())
    largest = max(largest, *(initial_limit(node, index, builder) for index in _free(node)))
    exponent = int(np.ceil(np.log2(max(largest * _CELL_HEADROOM, 1.0))))
    if exponent > MAX_CELL_EXPONENT:
        raise CapabilityError(
            f"{node.origin or node.name}: its cell state reaches {largest:.3g} and needs more than "
            f"16 bits; use --quantize int8 for this layer"
        )
    return exponent


def _free(node: Node) -> list[int]:
    """The states of free size."""
    assert isinstance(node.op, Recurrent)
    states = node.op.cell().states
    return [index for index, state in enumerate(states) if state.form is StateForm.FREE]


def _peepholes(p: Array, exponent: int, node: Node, builder: QuantizedBuilder) -> tuple[Value, int]:
    """P in int16 and the shift of p * c to Q4.11."""
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
    steps = np.rint(p * 2.0**bits).astype(np.int16)
    return builder.add_constant(f"{node.name}.P.steps", steps), shift
