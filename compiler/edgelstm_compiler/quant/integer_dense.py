"""Scheme int8-full outside of the cells: dense layers and softmax."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.numerics.integers import SIGNED_FRACTION, UNIT_FRACTION
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import Dense, IntegerDense, IntegerSoftmax, Recurrent, Softmax
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.build import IntegerValue, QuantizedBuilder, integer_limits
from edgelstm_compiler.quant.fixed_point import Product, fix_layer, rescale
from edgelstm_compiler.quant.int8 import folded_rows, zero_point_sum
from edgelstm_compiler.quant.layer import (
    H_STEPS,
    WIDEST_INT16,
    Activations,
    bytes_hold,
    compensated_rows,
    input_activations,
    input_means,
    mean_change,
    record,
)
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.tables import (
    exponential_table,
    signed_table,
    unit_table,
    why_no_unit_table,
)

Q15 = 2.0**-15
_HEADROOM = 2.0


def quantize_dense(node: Node, builder: QuantizedBuilder) -> None:
    """IntegerDense: int8 for an integer layer that 8 bits suffice, int16 for everything else."""
    op = node.op
    assert isinstance(op, Dense)
    weights, source = builder.constant(node.inputs[1]), node.inputs[0]
    assert weights is not None
    assert source is not None
    given = np.ascontiguousarray(weights.T)
    bias = builder.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    held = builder.integer(source)
    if held is None:
        wanted = input_activations(node, builder)
        held = builder.take_integer(source, wanted.dtype, wanted.scale, wanted.zero_point)
    scale = np.broadcast_to(held.scale, source.type.shape[-1:]).astype(np.float64)
    x = Activations(held.value.type.dtype, scale, held.zero_point)
    w = folded_rows(given, x, node, builder)
    inverse = x.inverse.astype(np.float64)
    (w,) = compensated_rows(node, builder, (0,), [(given, w)], (-H_STEPS, H_STEPS), 1.0 / inverse)
    restored = w.restored * x.inverse.astype(np.float64)
    total = np.zeros(len(given)) if bias is None else bias.astype(np.float64)
    total = total + mean_change(given, restored, input_means(node, builder))
    total = total - zero_point_sum(w, x)
    output, table, is_unit = _output(node, op.activation, builder)
    step = float(output.scale[0])
    if table is not None:
        step = 2.0 ** -(UNIT_FRACTION if is_unit else SIGNED_FRACTION)
    fixed = fix_layer(
        [Product(w.steps, w.scale, -integer_limits(x.dtype)[0])],
        [np.full(len(given), 1.0 / step)],
        total + (0.0 if table is not None else output.zero_point * step),
        np.full(len(given), 1.0 / step),
        [np.arange(len(given))],
        node.origin or node.name,
    )
    low, high = integer_limits(output.dtype)
    if op.activation == Activation(Fn.RELU):
        low = output.zero_point
    integer = IntegerDense(output.dtype, fixed.shifts[0], fixed.sum_shift, low, high, is_unit)
    arrays = (
        ("W.steps", w.steps),
        ("B.steps", fixed.bias),
        ("W.multiplier", fixed.multipliers[0]),
    )
    inputs: list[Value | None] = [held.value]
    inputs += [builder.add_constant(f"{node.name}.{name}", array) for name, array in arrays]
    inputs.append(None if table is None else builder.add_constant(f"{node.name}.table", table))
    (shown,) = node.outputs
    new = builder.emit_steps(node, integer, inputs)
    builder.show_integer(shown, IntegerValue(new.outputs[0], output.scale, output.zero_point))
    after = [*(array for _, array in arrays), table]
    pairs = ((given, restored),)
    builder.records.append(record(node, Scheme.INT8_FULL, (weights, bias), after, pairs))


def quantize_softmax(node: Node, builder: QuantizedBuilder) -> bool:
    """IntegerSoftmax behind an integer layer; False where its input is held in float."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, Softmax)
    assert x is not None
    held = builder.integer(x)
    if held is None or held.value.type.dtype is not DType.I16 or held.scale.size != 1:
        return False
    multiplier, shift = rescale(float(held.scale[0]) * 2.0**UNIT_FRACTION)
    table = builder.add_constant(f"{node.name}.table", exponential_table())
    (shown,) = node.outputs
    softmax = IntegerSoftmax(op.axis, multiplier, shift)
    new = builder.emit_steps(node, softmax, (held.value, table))
    builder.show_integer(shown, IntegerValue(new.outputs[0], np.array([Q15])))
    return True


def _output(
    node: Node, activation: Activation | None, builder: QuantizedBuilder
) -> tuple[Activations, Array | None, bool]:
    """How the output is held, the table of its activation, and whether that is of a gate."""
    if activation is not None and activation.fn is not Fn.RELU:
        is_unit = why_no_unit_table(activation) is None
        table = unit_table(activation) if is_unit else signed_table(activation)
        return Activations(DType.I16, np.array([Q15]), 0), table, is_unit
    (y,) = node.outputs
    found = builder.calibration(node).value(y.name)
    options = builder.options
    readers = builder.consumers(y)
    feeds_layers = bool(readers) and not builder.is_result(y)
    for reader in readers:
        is_layer = isinstance(reader.op, (Dense, Recurrent))
        feeds_layers &= is_layer and builder.schemes.get(reader.name) is Scheme.INT8_FULL
    is_narrow = y.type.shape[-1] <= WIDEST_INT16 and options.input_bits == 16
    if not feeds_layers or (is_narrow and not bytes_hold(found, options)):
        limit = found.limit(options.observer, options.percentile, 32767, per_channel=False)
        return Activations(DType.I16, _HEADROOM * limit[:1] / 32767, 0), None, False
    if np.all(found.low >= 0):
        limit = found.limit(options.observer, options.percentile, 255, per_channel=False)
        return Activations(DType.I8, limit[:1] / 255, -128), None, False
    limit = found.limit(options.observer, options.percentile, 127, per_channel=False)
    return Activations(DType.I8, limit[:1] / 127, 0), None, False
