"""Schemes fp16, w8 and w4: weights in fewer bits, everything computed in float32."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.compact import packed_scales
from edgelstm_compiler.ir.ops import Dense, DequantizeWeights, Recurrent, Storage
from edgelstm_compiler.ir.ops.recurrent import B, R, W
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.quant.build import QuantizedBuilder
from edgelstm_compiler.quant.layer import (
    BIAS_SHARE,
    CellParameters,
    compact_biases,
    compensated_rows,
    hidden_means,
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
    pack_nibbles,
    quantize_groups,
    quantize_rows,
)

_LIMITS = {Scheme.W8: (-127, 127), Scheme.W4: (-8, 7)}

_HALF_LIMIT = 65504.0
"""The largest half."""

STORAGE = {Scheme.FP16: Storage.F16, Scheme.W8: Storage.I8, Scheme.W4: Storage.I4}


@dataclasses.dataclass(frozen=True, slots=True)
class _Stored:
    """Stored weights: the value they are restored as, what is stored, what is computed with.

    And what is stored as it is packed.
    """

    value: Value
    constants: tuple[Array, ...]
    restored: Array
    packed: tuple[Array, ...]


def store_recurrent(node: Node, builder: QuantizedBuilder) -> None:
    """W and R of a recurrent layer."""
    op = node.op
    assert isinstance(op, Recurrent)
    scheme = builder.schemes[node.name]
    given = CellParameters.of(node, op, builder)
    means, h_means = input_means(node, builder), hidden_means(node, builder)
    w_rows = _rounded(given.w, f"{node.name}.W", scheme, builder, input_squares(node, builder))
    r_rows = None
    if given.r is not None:
        r_rows = _rounded(given.r, f"{node.name}.R", scheme, builder, None)
    if given.r is not None and w_rows is not None and r_rows is not None:
        w_rows, r_rows = compensated_rows(
            node,
            builder,
            row_kinds(op.cell())[1],
            [(given.w, w_rows), (given.r, r_rows)],
            _LIMITS[scheme],
        )
    w = _store(given.w, w_rows, f"{node.name}.W", scheme, builder)
    r = None
    if given.r is not None:
        r = _store(given.r, r_rows, f"{node.name}.R", scheme, builder)
    bias = given.b.astype(np.float64).copy()
    rows = op.gates * op.hidden
    for d in range(op.direction.count):
        bias[d, :rows] += mean_change(given.w[d], w.restored[d], means)
        if given.r is not None and r is not None:
            h_mean = None if h_means is None else h_means[d]
            bias[d, rows:] += mean_change(given.r[d], r.restored[d], h_mean)
    last = w if r is None else r
    if len(last.constants) > 1:
        step = float(np.sqrt(np.mean(np.square(last.constants[1].astype(np.float64)))))
        bias = compact_biases(op, bias, step / BIAS_SHARE)
    inputs = [None if v is None else builder.take_float(v) for v in padded_inputs(node)]
    inputs[W], inputs[R] = w.value, None if r is None else r.value
    if bias.any():
        inputs[B] = builder.add_constant(f"{node.name}.B", bias.astype(np.float32))
    builder.replace(node, op, inputs)
    before = (given.w, given.r, given.b, given.p)
    after = (*w.packed, *(r.packed if r else ()), stored_biases(op, bias), given.p)
    pairs = ((given.w, w.restored), (given.r, None if r is None else r.restored))
    builder.records.append(record(node, scheme, before, after, pairs))


def store_dense(node: Node, builder: QuantizedBuilder) -> None:
    """The weights of a dense layer."""
    op = node.op
    assert isinstance(op, Dense)
    scheme = builder.schemes[node.name]
    weights = builder.constant(node.inputs[1])
    assert weights is not None
    rows = np.ascontiguousarray(weights.T)
    rounded = _rounded(rows, f"{node.name}.W", scheme, builder, input_squares(node, builder))
    if rounded is not None:
        (rounded,) = compensated_rows(node, builder, (0,), [(rows, rounded)], _LIMITS[scheme])
    stored = _store(rows, rounded, f"{node.name}.W", scheme, builder, transposed=True)
    bias = builder.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    change = mean_change(rows, stored.restored, input_means(node, builder))
    x = node.inputs[0]
    assert x is not None
    inputs: list[Value | None] = [builder.take_float(x), stored.value, *node.inputs[2:]]
    if change.any():
        total = change + (0.0 if bias is None else bias)
        corrected = builder.add_constant(f"{node.name}.B", total.astype(np.float32))
        inputs = [*inputs[:2], corrected]
    builder.replace(node, op, inputs)
    after = (*stored.packed, bias)
    pairs = ((rows, stored.restored),)
    builder.records.append(record(node, scheme, (weights, bias), after, pairs))


def _expect_within(weights: Array, limit: float, name: str, scheme: Scheme) -> None:
    largest = float(np.abs(weights).max(initial=0.0))
    if not largest <= limit:
        raise CapabilityError(
            f"{name}: its weights reach {largest:.4g}, and {scheme.value} holds at most "
            f"{limit:g}: use w8, whose scales are float32, or int8, and for w4 calibrate, so that "
            "channels are scaled"
        )


def _rounded(
    weights: Array,
    name: str,
    scheme: Scheme,
    builder: QuantizedBuilder,
    importance: Array | None,
) -> QuantizedRows | None:
    """The weights in steps, each to the nearest; None: they are halves."""
    clip = builder.options.clip_weights
    if scheme is Scheme.FP16:
        _expect_within(weights, _HALF_LIMIT, name, scheme)
        return None
    if scheme is Scheme.W8:
        return quantize_rows(weights, clip=clip, importance=importance)
    _expect_within(weights, 8.0 * _HALF_LIMIT, name, scheme)
    return quantize_groups(weights, clip=clip, importance=importance)


def _store(
    weights: Array,
    rounded: QuantizedRows | None,
    name: str,
    scheme: Scheme,
    builder: QuantizedBuilder,
    *,
    transposed: bool = False,
) -> _Stored:
    storage, columns = STORAGE[scheme], weights.shape[-1]
    constants: tuple[Array, ...]
    if rounded is None:
        half = weights.astype(np.float16)
        constants, restored = (half,), half.astype(np.float64)
    else:
        is_packed = storage is Storage.I4
        steps = pack_nibbles(rounded.steps) if is_packed else rounded.steps
        constants, restored = (steps, rounded.scale), rounded.restored
    suffixes = ("steps", "scale")
    values = [
        builder.add_constant(f"{name}.{suffix}", array)
        for suffix, array in zip(suffixes, constants, strict=False)
    ]
    inputs: tuple[Value | None, ...] = (*values, None)[:2] if len(values) == 1 else tuple(values)
    node = builder.emit(
        DequantizeWeights(storage, columns, transposed), inputs, f"{name}.restore", "", (name,)
    )
    packed = (
        constants[0],
        *(packed_scales(s, is_signed=storage is Storage.I4) for s in constants[1:]),
    )
    return _Stored(node.outputs[0], constants, restored, packed)
