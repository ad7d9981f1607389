"""Runs layer kernels in NumPy: unpacked, they are operators of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.kernels import DenseKernel, LayerKernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import Int8, Integer, Stored
from edgelstm_compiler.ir.ops import Dense, Int8Dense, Int8Recurrent, Storage
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_compiler.ir.types import Array, Op
from edgelstm_compiler.lowering.compact_layout import form_of
from edgelstm_compiler.lowering.layer_rows import (
    LayerRows,
    Rows,
    spread_biases,
    unpack_inverse,
    unpack_layer,
)


def run_layer(kernel: LayerKernel, inputs: Sequence[Array | None]) -> list[Array]:
    """The kernel's outputs, from the inputs of its call."""
    x, packed, *rest = inputs
    assert x is not None
    assert packed is not None
    inverse = None
    if isinstance(kernel.numerics, Int8):
        inverse, packed = unpack_inverse(packed, kernel.features)
    rows = empty_rows(kernel)
    unpack_layer(form_of(kernel), kernel.phases, rows, packed.view(np.uint8))
    if isinstance(kernel, DenseKernel):
        op, operands = _dense(kernel, rows, inverse, rest)
        x = x.reshape(kernel.rows, -1)
    else:
        op, operands = _recurrent(kernel, rows, inverse, rest)
        x = x.reshape(kernel.steps, kernel.batch, -1)
    operands = [x, *operands]
    return apply(*executed(op, operands), operands)


def empty_rows(kernel: LayerKernel) -> LayerRows:
    """Arrays for all that a kernel packs."""
    if isinstance(kernel, DenseKernel):
        shape, sums, peepholes, has_r = (1, 1, kernel.units), 1, 0, False
    else:
        op, cell = kernel.op, kernel.cell
        shape, sums = (op.direction.count, op.gates, op.hidden), len(cell.sums)
        peepholes, has_r = cell.peepholes, cell.is_recurrent
    count, _, units = shape
    form = form_of(kernel)

    def matrix(columns: int) -> Rows:
        scale = None
        if form.scale is not None:
            scale = np.zeros(shape, form.scale)
        elif form.storage is Storage.I4:
            scale = np.zeros((*shape, -(-columns // GROUP)), np.float16)
        kind = {Storage.F32: np.float32, Storage.F16: np.float16}.get(form.storage, np.int8)  # type: ignore[arg-type]
        return Rows(np.zeros((*shape, columns), kind), scale)

    return LayerRows(
        matrix(kernel.features),
        matrix(units) if has_r else None,
        np.zeros((count, sums, units), form.bias),
        np.zeros((count, peepholes, units), form.peephole) if peepholes else None,
    )


def restored(rows: Rows, storage: Storage) -> Array:
    """Stored weights in float32."""
    steps = rows.steps.astype(np.float32)
    if rows.scale is None:
        return steps
    scale = rows.scale.astype(np.float32)
    if storage is Storage.I8:
        return steps * scale[..., None]
    return steps * np.repeat(scale, GROUP, axis=-1)[..., : steps.shape[-1]]


def _recurrent(
    kernel: RecurrentKernel, rows: LayerRows, inverse: Array | None, rest: Sequence[Array | None]
) -> tuple[Op, list[Array | None]]:
    """The operator, and its operands behind x."""
    numerics, count = kernel.numerics, len(rows.bias)
    op: Op = kernel.op
    lengths, *states = rest
    more: list[Array | None] = []
    bias = rows.bias
    if isinstance(numerics, Integer):
        op, tables = numerics.layer, states.pop()
        more = [_flat_scale(rows.x), _flat_scale(rows.h), tables]
    else:
        bias = spread_biases(kernel.phases, bias, kernel.op.gates)
    if isinstance(numerics, Int8):
        op = Int8Recurrent(kernel.op, numerics.x_dtype, numerics.x_zero_point, numerics.h_inverse)
        more = [_flat_scale(rows.x), _flat_scale(rows.h), inverse]
    w, r = (None if part is None else _weights(part, kernel) for part in (rows.x, rows.h))
    peepholes = None if rows.peepholes is None else rows.peepholes.reshape(count, -1)
    initial = [*states, None, None][:2]
    flat = [None if part is None else part.reshape(count, -1, part.shape[-1]) for part in (w, r)]
    return op, [*flat, bias.reshape(count, -1), lengths, *initial, peepholes, *more]


def _dense(
    kernel: DenseKernel, rows: LayerRows, inverse: Array | None, rest: Sequence[Array | None]
) -> tuple[Op, list[Array | None]]:
    """The operator, and its operands behind x."""
    numerics, bias = kernel.numerics, rows.bias[0, 0]
    weights = _weights(rows.x, kernel)[0, 0]
    scale = None if rows.x.scale is None else rows.x.scale[0, 0]
    if isinstance(numerics, Int8):
        op = Int8Dense(kernel.activation, numerics.x_dtype, numerics.x_zero_point)
        return op, [weights, bias, scale, inverse]
    if isinstance(numerics, Integer):
        return numerics.op, [weights, bias, scale, rest[0]]
    return Dense(kernel.activation), [weights.T, bias]


def _weights(rows: Rows, kernel: LayerKernel) -> Array:
    numerics = kernel.numerics
    return restored(rows, numerics.storage) if isinstance(numerics, Stored) else rows.steps


def _flat_scale(rows: Rows | None) -> Array | None:
    """(D, G, H) as (D, G*H)."""
    if rows is None:
        return None
    assert rows.scale is not None
    return rows.scale.reshape(rows.scale.shape[0], -1)
