"""Scheme int8: integer products with static scales; gates, states and outputs in float32."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.ops import (
    GRU,
    LSTM,
    RNN,
    Dense,
    Int8Dense,
    Int8GRU,
    Int8LSTM,
    Int8Recurrent,
    Int8RNN,
    Recurrent,
)
from edgelstm_compiler.ir.ops.recurrent import B, R, W
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.build import QuantizedBuilder
from edgelstm_compiler.quant.layer import (
    H_STEPS,
    Activations,
    CellParameters,
    hidden_limit,
    hidden_means,
    input_activations,
    input_means,
    input_squares,
    mean_change,
    padded_inputs,
    record,
)
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.weights import QuantizedRows, quantize_rows


def quantize_recurrent(node: Node, builder: QuantizedBuilder) -> None:
    """An LSTM, GRU or RNN."""
    op = node.op
    assert isinstance(op, Recurrent)
    given = CellParameters.of(node, op, builder)
    x = input_activations(node, builder)
    h_inverse = np.float32(H_STEPS / hidden_limit(node, op, builder))
    w = folded_rows(given.w, x, node, builder)
    r = quantize_rows(given.r, clip=builder.options.clip_weights)
    bias = given.b.astype(np.float64).copy()
    means, h_means = input_means(node, builder), hidden_means(node, builder)
    rows = op.gates * op.hidden
    restored = w.restored * x.inverse.astype(np.float64)
    for d in range(op.direction.count):
        bias[d, :rows] += mean_change(given.w[d], restored[d], means)
        bias[d, :rows] -= zero_point_sum(QuantizedRows(w.steps[d], w.scale[d]), x)
        h_mean = None if h_means is None else h_means[d]
        bias[d, rows:] += mean_change(given.r[d], r.restored[d], h_mean)
    r_scale = (r.scale / h_inverse).astype(np.float32)
    inputs = [None if v is None else builder.take_float(v) for v in padded_inputs(node)]
    arrays = {
        W: ("W.steps", w.steps),
        R: ("R.steps", r.steps),
        B: ("B", bias.astype(np.float32)),
    }
    for place, (name, array) in arrays.items():
        inputs[place] = builder.add_constant(f"{node.name}.{name}", array)
    scales = (("W.scale", w.scale), ("R.scale", r_scale), ("x.inverse", x.inverse))
    inputs += [builder.add_constant(f"{node.name}.{name}", array) for name, array in scales]
    builder.replace(node, _int8_cell(op, x, float(h_inverse)), inputs)
    after = (*(array for _, array in arrays.values()), *(array for _, array in scales), given.p)
    pairs = ((given.w, restored), (given.r, r.restored))
    before = (given.w, given.r, given.b, given.p)
    builder.records.append(record(node, Scheme.INT8, before, after, pairs))


def quantize_dense(node: Node, builder: QuantizedBuilder) -> None:
    """A dense layer."""
    op = node.op
    assert isinstance(op, Dense)
    weights = builder.constant(node.inputs[1])
    assert weights is not None
    given = np.ascontiguousarray(weights.T)
    bias = builder.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    x = input_activations(node, builder)
    w = folded_rows(given, x, node, builder)
    restored = w.restored * x.inverse.astype(np.float64)
    total = np.zeros(len(given)) if bias is None else bias.astype(np.float64)
    total = total + mean_change(given, restored, input_means(node, builder))
    total = total - zero_point_sum(w, x)
    source = node.inputs[0]
    assert source is not None
    arrays = (
        ("W.steps", w.steps),
        ("B", total.astype(np.float32)),
        ("W.scale", w.scale),
        ("x.inverse", x.inverse),
    )
    inputs: list[Value | None] = [builder.take_float(source)]
    inputs += [builder.add_constant(f"{node.name}.{name}", array) for name, array in arrays]
    builder.replace(node, Int8Dense(op.activation, x.dtype, x.zero_point), inputs)
    after = tuple(array for _, array in arrays)
    pairs = ((given, restored),)
    builder.records.append(record(node, Scheme.INT8, (weights, bias), after, pairs))


def folded_rows(
    weights: Array, x: Activations, node: Node, builder: QuantizedBuilder
) -> QuantizedRows:
    """Weights (..., rows, K) of the input in steps: each column times its channel's scale."""
    scale = 1.0 / x.inverse.astype(np.float64)
    squares = input_squares(node, builder)
    importance = None if squares is None else squares / np.square(scale)
    folded = weights.astype(np.float64) * scale
    return quantize_rows(folded, clip=builder.options.clip_weights, importance=importance)


def zero_point_sum(w: QuantizedRows, x: Activations) -> Array:
    """What the zero point adds to each row's sum (..., rows)."""
    sums = w.steps.astype(np.int64).sum(axis=-1)
    return np.asarray(x.zero_point * sums * w.scale.astype(np.float64))


def _int8_cell(op: Recurrent, x: Activations, h_inverse: float) -> Int8Recurrent:
    match op:
        case LSTM():
            return Int8LSTM(op, x.dtype, x.zero_point, h_inverse)
        case GRU():
            return Int8GRU(op, x.dtype, x.zero_point, h_inverse)
        case RNN():
            return Int8RNN(op, x.dtype, x.zero_point, h_inverse)
    raise AssertionError(op)
