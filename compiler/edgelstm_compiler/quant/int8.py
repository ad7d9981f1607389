"""Scheme int8: integer products with static scales; gates, states and outputs in float32."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.compact import packed_scales
from edgelstm_compiler.ir.ops import (
    Dense,
    Int8Dense,
    Int8Recurrent,
    Recurrent,
)
from edgelstm_compiler.ir.ops.quantized_int8 import R_SCALE, W_SCALE, X_INVERSE
from edgelstm_compiler.ir.ops.recurrent import B, R, W
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.build import QuantizedBuilder
from edgelstm_compiler.quant.layer import (
    BIAS_SHARE,
    H_STEPS,
    Activations,
    CellParameters,
    compact_biases,
    compensated_rows,
    hidden_limit,
    hidden_means,
    input_activations,
    input_means,
    input_squares,
    mean_change,
    padded_inputs,
    record,
    stored_biases,
)
from edgelstm_compiler.quant.moments import row_kinds
from edgelstm_compiler.quant.scheme import Scheme
from edgelstm_compiler.quant.weights import (
    QuantizedRows,
    quantize_coded_rows,
    quantize_rows,
)

_LIMITS = (-127, 127)

# Of q(h), about: h is a third on average.
_MEAN_SQUARE = H_STEPS**2 / 9.0


def quantize_recurrent(node: Node, builder: QuantizedBuilder) -> None:
    """A recurrent layer."""
    op = node.op
    assert isinstance(op, Recurrent)
    given = CellParameters.of(node, op, builder)
    x = input_activations(node, builder)
    h_inverse = np.float32(H_STEPS / hidden_limit(node, op, builder))
    w, r, scale = _shared_rows(given, x, float(h_inverse), node, builder)
    if r is not None and given.r is not None:
        w, r = compensated_rows(
            node,
            builder,
            row_kinds(op.cell())[1],
            [(given.w, w), (given.r, r)],
            _LIMITS,
            1.0 / x.inverse.astype(np.float64),
        )
    bias = given.b.astype(np.float64).copy()
    means, h_means = input_means(node, builder), hidden_means(node, builder)
    rows = op.gates * op.hidden
    restored = w.restored * x.inverse.astype(np.float64)
    for d in range(op.direction.count):
        bias[d, :rows] += mean_change(given.w[d], restored[d], means)
        bias[d, :rows] -= zero_point_sum(QuantizedRows(w.steps[d], w.scale[d]), x)
        if given.r is not None and r is not None:
            h_mean = None if h_means is None else h_means[d]
            bias[d, rows:] += mean_change(given.r[d], r.restored[d], h_mean)
    step = float(np.sqrt(np.mean(np.square(scale)))) * H_STEPS
    bias = compact_biases(op, bias, step / BIAS_SHARE)
    inputs = [None if v is None else builder.take_float(v) for v in padded_inputs(node)]
    arrays = {
        W: ("W.steps", w.steps),
        R: ("R.steps", None if r is None else r.steps),
        B: ("B", bias.astype(np.float32)),
        W_SCALE: ("W.scale", w.scale),
        R_SCALE: ("R.scale", None if r is None else scale),
        X_INVERSE: ("x.inverse", x.inverse),
    }
    inputs += [None] * len((W_SCALE, R_SCALE, X_INVERSE))
    for position, (name, array) in arrays.items():
        if array is not None:
            inputs[position] = builder.add_constant(f"{node.name}.{name}", array)
    builder.replace(node, Int8Recurrent(op, x.dtype, x.zero_point, float(h_inverse)), inputs)
    pairs = ((given.w, restored), (given.r, None if r is None else r.restored))
    steps = None if r is None else r.steps
    after = (w.steps, steps, stored_biases(op, bias), packed_scales(scale), x.inverse, given.p)
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
    inverse = x.inverse.astype(np.float64)
    (w,) = compensated_rows(node, builder, (0,), [(given, w)], _LIMITS, 1.0 / inverse)
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
    folded, importance = _folded(weights, x, node, builder)
    return quantize_rows(folded, clip=builder.options.clip_weights, importance=importance)


def _folded(
    weights: Array, x: Activations, node: Node, builder: QuantizedBuilder
) -> tuple[Array, Array | None]:
    """The weights times their channel's scale, and how much an error in them weighs."""
    scale = 1.0 / x.inverse.astype(np.float64)
    squares = input_squares(node, builder)
    importance = None if squares is None else squares / np.square(scale)
    return weights.astype(np.float64) * scale, importance


def _shared_rows(
    given: CellParameters, x: Activations, h_inverse: float, node: Node, builder: QuantizedBuilder
) -> tuple[QuantizedRows, QuantizedRows | None, Array]:
    """W and R in steps, and the scale of each row's product with q(h) (without R: with q(x)).

    A row has one scale: that of its product with q(x) is the same times a power of two, the one
    with the least error of all sums.
    """
    clip, columns = builder.options.clip_weights, given.w.shape[-1]
    folded, x_squares = _folded(given.w, x, node, builder)
    if given.r is None:
        only = quantize_coded_rows(folded, clip=clip, importance=x_squares)
        return only, None, only.scale
    scaled = given.r.astype(np.float64) / h_inverse
    h_squares = np.full(given.r.shape[-1], _MEAN_SQUARE)
    if x_squares is None:
        x_squares = np.full(columns, _MEAN_SQUARE)
    middle = round(float(np.log2(_typical_row(folded) / _typical_row(scaled))))
    found: list[tuple[float, int, QuantizedRows]] = []
    for ratio in range(middle - 2, middle + 3):
        joined = np.concatenate([np.ldexp(folded, -ratio), scaled], axis=-1)
        squares = np.concatenate([x_squares * 4.0**ratio, h_squares])
        rows = quantize_coded_rows(joined, clip=clip, importance=squares)
        error = float((np.square(joined - rows.restored) * squares).sum())
        found.append((error, ratio, rows))
    _, ratio, rows = min(found, key=lambda item: item[:2])
    w = QuantizedRows(rows.steps[..., :columns], np.ldexp(rows.scale, ratio))
    r = QuantizedRows(rows.steps[..., columns:], rows.scale * np.float32(h_inverse))
    return w, r, rows.scale


def _typical_row(weights: Array) -> float:
    """The median of the largest weight of rows that are not zero."""
    largest = np.abs(weights).max(axis=-1, initial=0.0)
    live = largest[largest > 0]
    return float(np.median(live)) if live.size else 1.0


def zero_point_sum(w: QuantizedRows, x: Activations) -> Array:
    """What the zero point adds to each row's sum (..., rows)."""
    sums = w.steps.astype(np.int64).sum(axis=-1)
    return np.asarray(x.zero_point * sums * w.scale.astype(np.float64))
