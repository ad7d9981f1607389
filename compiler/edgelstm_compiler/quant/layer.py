"""What the converters of all schemes ask about a float layer: weights, ranges, bias correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm.numerics.cells import (
    Apply,
    Cell,
    Complement,
    Flush,
    Gate,
    Lerp,
    Matrix,
    Narrow,
    Range,
    Scale,
    Store,
)
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.compact import coded_biases, packed_biases
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.accuracy import sqnr_db
from edgelstm_compiler.quant.build import LayerRecord, QuantizedBuilder
from edgelstm_compiler.quant.calibration import ValueRange
from edgelstm_compiler.quant.channels import alike, filled, importance
from edgelstm_compiler.quant.compensate import STRENGTHS, compensated_layer
from edgelstm_compiler.quant.scheme import Damping, QuantizeOptions, Scheme
from edgelstm_compiler.quant.weights import QuantizedRows

H_STEPS = 127
"""Steps of an h in [-1, 1]: its scale is 1 / 127."""

BIAS_SHARE = 8
"""Biases are rounded to this share of what one step of a weight gives at most, or not at all."""

BYTE_DB = 30.0
"""Signal to rounding noise that 8 bits must leave of what a layer computed, else it has 16."""

WIDEST_INT16 = 516
"""Columns whose products of int8 and int16 certainly fit into 32 bits."""

BOUNDED = (Fn.SIGMOID, Fn.TANH, Fn.HARD_SIGMOID, Fn.SOFTSIGN)
UNITS = (Fn.SIGMOID, Fn.HARD_SIGMOID)
"""Functions whose values lie within [0, 1]."""

_HEADROOM = 2.0
"""How far beyond the calibrated range 16-bit activations reach."""


@dataclass(frozen=True, slots=True)
class CellParameters:
    """The constants of a recurrent layer.

    Shapes:
        w (D, G*H, I), r (D, G*H, H) or None, b (D, 2*G*H), p (D, rows*H) or None.
    """

    w: Array
    r: Array | None
    b: Array
    p: Array | None

    @classmethod
    def of(cls, node: Node, op: Recurrent, builder: QuantizedBuilder) -> CellParameters:
        """Read them off a node.

        Raises:
            CapabilityError: they are computed at run time.
        """
        padded = padded_inputs(node)
        w, r, b, p = (_constant(node, padded[position], builder) for position in (W, R, B, P))
        assert w is not None
        if b is None:
            b = np.zeros((w.shape[0], 2 * op.gates * op.hidden), np.float32)
        return cls(w, r, b, p)


@dataclass(frozen=True, slots=True)
class Activations:
    """How the input of a layer is quantized.

    Args:
        dtype: i8 or i16.
        scale: by channel (K,).
        zero_point: the q of 0.
    """

    dtype: DType
    scale: Array
    zero_point: int

    @property
    def inverse(self) -> Array:
        """The reciprocal scales, as they are computed with."""
        return (1.0 / self.scale).astype(np.float32)


def padded_inputs(node: Node) -> tuple[Value | None, ...]:
    """The eight inputs of a recurrent operator."""
    return (*node.inputs, *([None] * (8 - len(node.inputs))))


def input_activations(node: Node, builder: QuantizedBuilder) -> Activations:
    """How the layer's input is quantized: known for an h in [-1, 1], else calibrated.

    Inputs from outside have 16 bits (`QuantizeOptions.input_bits`), with headroom for what the
    recordings do not show. What a layer computed has 8 if they hold it, and so has what is too
    wide for 32-bit sums.
    """
    value = node.inputs[X]
    assert value is not None
    width = value.type.shape[-1]
    options = builder.options
    source = builder.source(value)
    if source is not None and isinstance(source.op, Recurrent) and has_bounded_h(source.op):
        step = hidden_limit(source, source.op, builder) / H_STEPS
        return Activations(DType.I8, np.full(width, step), 0)
    found = builder.calibration(node).value(value.name)
    behind = builder.is_behind_layer(value)
    per_channel = options.per_channel and not behind
    is_wide = options.input_bits == 16 and width <= WIDEST_INT16
    is_wide &= not behind or not bytes_hold(found, options)
    is_positive = not is_wide and bool(np.all(found.low >= 0))
    levels = 32767 if is_wide else 255 if is_positive else 127
    reach = found.reach(options.observer, options.percentile, levels, per_channel=per_channel)
    columns = builder.column_scales(node)
    limit = filled(reach, columns)
    if is_wide:
        scale = _HEADROOM * limit / levels
        return Activations(DType.I16, alike(scale, found, columns) if per_channel else scale, 0)
    return Activations(DType.I8, limit / levels, -128 if is_positive else 0)


def bytes_hold(found: ValueRange, options: QuantizeOptions) -> bool:
    """Whether 8 bits of its range hold a value well enough, most of which may be far smaller.

    A mask over a spectrum or the square of a signal has peaks that leave nothing of the rest.
    """
    levels = 255 if np.all(found.low >= 0) else 127
    step = found.limit(options.observer, options.percentile, levels, per_channel=False)[0] / levels
    power = float(found.variance.mean())
    return not power or sqnr_db(power, step**2 / 12.0) >= BYTE_DB


def hidden_limit(node: Node, op: Recurrent, builder: QuantizedBuilder) -> float:
    """The largest |h| that is represented: 1 where the cell bounds it, else calibrated.

    A state that begins beyond that is represented, too.
    """
    first = initial_limit(node, 0, builder)
    if has_bounded_h(op):
        return max(first, 1.0)
    largest = float(builder.calibration(node).cell(node.name).h_largest.max())
    return max(first, largest) or 1.0


def integer_limit(node: Node, builder: QuantizedBuilder) -> float:
    """The largest |h| that integer products read, in int8.

    Half way, in octaves, from 1.25 times what calibration saw to 1: at twice the amplitude, or
    after 250 frames, a range as narrow as what was seen loses more than it gains. Where h begins
    beyond 1, all of that.
    """
    first = initial_limit(node, 0, builder)
    if first > 1.0 or not builder.options.wide_h:
        return max(first, 1.0)
    largest = float(builder.calibration(node).cell(node.name).h_largest.max())
    return min(float(np.sqrt(1.25 * largest)), 1.0) or 1.0


def initial_limit(node: Node, index: int, builder: QuantizedBuilder) -> float:
    """The largest magnitude that a state of a layer begins with, as far as that is known.

    Of a constant or a carried state that is what it begins with, of what else is given what
    calibration saw.

    Args:
        node: the layer.
        index: of the state, 0 for h.
        builder: knows constants, states and calibration.
    """
    value = padded_inputs(node)[INITIAL_H + index]
    if value is None:
        return 0.0
    data = builder.constant(value)
    for state in builder.graph.states:
        if state.read is value:
            data = state.init
    if data is not None:
        return float(np.abs(data).max(initial=0.0))
    means = builder.means
    return 0.0 if means is None else float(means.value(value.name).largest.max(initial=0.0))


def has_bounded_h(op: Recurrent) -> bool:
    """Whether the cell's functions keep h within [-1, 1]."""
    cell, count = op.cell(), op.functions
    return all(
        _bounds_state(cell, op.activations[d * count : (d + 1) * count])
        for d in range(op.direction.count)
    )


def _bounds_state(cell: Cell, functions: Sequence[Activation]) -> bool:
    """Whether h stays within [-1, 1] if it begins there, by following bounds through the body."""
    bounded, units = {cell.states[0].name}, set[str]()
    for statement in cell.statements:
        if isinstance(statement, Store):
            if statement.target == cell.states[0].name:
                return statement.value in bounded
            continue
        match statement.node:
            case Gate(function=function, range=values):
                holds = is_bounded(functions[function])
                if values is Range.UNIT and functions[function].fn in UNITS:
                    units.add(statement.name)
            case Apply(function=function):
                holds = is_bounded(functions[function])
            case Complement(unit=unit):
                holds = unit in units
                units |= {statement.name} if holds else set()
            case Scale(unit=unit, value=value):
                holds = {unit, value} <= bounded
            case Lerp(z=z, n=n, h=h):
                # A mixture stays between its ends only for z in [0, 1].
                holds = z in units and {n, h} <= bounded
            case Flush(value=value) | Narrow(value=value):
                holds = value in bounded
            case _:
                holds = False
        if holds:
            bounded.add(statement.name)
    return False


def is_bounded(activation: Activation) -> bool:
    """Whether the function's values lie within [-1, 1]."""
    if activation.fn is Fn.SCALED_TANH:
        return abs(activation.alpha) <= 1.0
    return activation.fn in BOUNDED


def input_means(node: Node, builder: QuantizedBuilder) -> Array | None:
    """Mean of each input of the layer, if there is a calibration and bias correction is wanted."""
    value = node.inputs[X]
    if builder.means is None or not builder.options.correct_bias or value is None:
        return None
    return builder.means.value(value.name).mean


def input_squares(node: Node, builder: QuantizedBuilder) -> Array | None:
    """How much the square of an error in each input's weights weighs."""
    value = node.inputs[X]
    if builder.means is None or value is None:
        return None
    found, columns = builder.means.value(value.name), builder.column_scales(node)
    return importance(found, columns, centered=builder.options.correct_bias)


def compensated_rows(
    node: Node,
    builder: QuantizedBuilder,
    positions: Sequence[int],
    parts: Sequence[tuple[Array, QuantizedRows]],
    limits: tuple[int, int],
    x_scale: Array | None = None,
) -> list[QuantizedRows]:
    """W and R (or W alone), rounded such that the columns of a row make up for each other.

    Args:
        node: the layer.
        builder: knows the moments of its operands.
        positions: for each row block the kind of its operand (`moments.row_kinds`).
        parts: of each matrix its weights (..., rows, K) and their steps to the nearest.
        limits: smallest and largest step.
        x_scale: what the first matrix is multiplied with is x / x_scale; None: x.
    """
    squares, moments, x = input_squares(node, builder), builder.moments(node), node.inputs[X]
    if squares is None or moments is None or x is None:
        return [rows for _, rows in parts]
    sizes = [rows.sizes for _, rows in parts]
    if x_scale is not None:
        sizes[0] = sizes[0] / x_scale
    flat = (
        [array.reshape(-1, *array.shape[-2:]) for array in arrays]
        for arrays in ([weights for weights, _ in parts], sizes, [rows.steps for _, rows in parts])
    )
    weights, scale, steps = (np.concatenate(arrays, axis=-1) for arrays in flat)
    found = compensated_layer(
        moments,
        positions,
        weights.astype(np.float64),
        scale,
        steps,
        np.sqrt(squares),
        limits,
        builder.calibration(node).value(x.name).rows,
        STRENGTHS[builder.options.damping or Damping.HEAVY],
        is_x_inner=builder.is_behind_layer(x),
    )
    cuts = np.cumsum([rows.steps.shape[-1] for _, rows in parts])[:-1]
    return [
        replace(rows, steps=np.ascontiguousarray(piece.reshape(rows.steps.shape)))
        for (_, rows), piece in zip(parts, np.split(found, cuts, axis=-1), strict=True)
    ]


def hidden_means(node: Node, builder: QuantizedBuilder) -> Array | None:
    """Mean of h (D, H), if there is a calibration and bias correction is wanted."""
    if builder.means is None or not builder.options.correct_bias:
        return None
    return builder.means.cell(node.name).h_mean


def mean_change(weights: Array, quantized: Array, means: Array | None) -> Array:
    """What quantizing weights (..., rows, K) takes from each sum on average (..., rows)."""
    if means is None:
        return np.zeros(weights.shape[:-1])
    difference = weights.astype(np.float64) - quantized
    return np.asarray(difference @ means)


def compact_biases(op: Recurrent, bias: Array, step: float) -> Array:
    """Biases (D, 2*G*H) that are packed as 16 bits, where that is finer than `step`.

    Input and recurrent bias are one number, except where a cell adds them to sums apart.
    """
    both = bias.reshape(op.direction.count, 2, op.gates, op.hidden).copy()
    joined = np.array(op.cell().shared_biases)
    both[:, 0, joined] += both[:, 1, joined]
    both[:, 1, joined] = 0.0
    return coded_biases(both, step).reshape(bias.shape)


def stored_biases(op: Recurrent, bias: Array) -> Array:
    """Biases (D, 2*G*H) as they are packed: one for each sum."""
    return packed_biases(sums_of_biases(op, bias).astype(np.float32))


def sums_of_biases(op: Recurrent, bias: Array) -> Array:
    """Biases (D, 2*G*H) by sum of the cell: (D, A, H)."""
    both = bias.reshape(op.direction.count, 2, op.gates, op.hidden)
    rows = {Matrix.W: both[:, 0], Matrix.R: both[:, 1]}
    sums = [
        sum((rows[t.matrix][:, t.gate] for t in total.terms), np.zeros_like(both[:, 0, 0]))
        for total in op.cell().sums
    ]
    return np.stack(sums, axis=1)


def record(
    node: Node,
    scheme: Scheme,
    before: Sequence[Array | None],
    after: Sequence[Array | None],
    pairs: Sequence[tuple[Array | None, Array | None]],
) -> LayerRecord:
    """What became of a layer.

    Args:
        node: the float node.
        scheme: how it computes now.
        before: its constants.
        after: the constants of the quantized layer, as they are packed.
        pairs: weights and what is computed with in their place.
    """
    given = [(w.astype(np.float64), q) for w, q in pairs if w is not None and q is not None]
    signal = sum(float(np.square(w).sum()) for w, _ in given)
    error = sum(float(np.square(w - q).sum()) for w, q in given)
    return LayerRecord(
        name=node.name,
        origin=node.origin,
        kind=node.op.kind,
        scheme=scheme,
        bytes_before=sum(array.nbytes for array in before if array is not None),
        bytes_after=sum(array.nbytes for array in after if array is not None),
        weight_sqnr_db=sqnr_db(signal, error),
        weights=tuple(given),
    )


def _constant(node: Node, value: Value | None, builder: QuantizedBuilder) -> Array | None:
    if value is None:
        return None
    data = builder.constant(value)
    if data is None:
        raise CapabilityError(
            f"{node.origin or node.name}: its weights {value.name!r} are computed at run time and "
            "cannot be quantized; leave this layer in fp32"
        )
    return data
