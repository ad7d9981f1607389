"""Runs the kernels of quantized layers in NumPy: unpacked, they are operators of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import executed, op_fields
from edgelstm_compiler.ir.kernels import Kernel, RecurrentKernel
from edgelstm_compiler.ir.ops import Dense, Int8Dense, Storage
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_compiler.ir.quantized_kernels import (
    Int8DenseKernel,
    Int8RecurrentKernel,
    IntegerDenseKernel,
    IntegerRecurrentKernel,
    StoredDenseKernel,
    StoredRecurrentKernel,
)
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_compiler.lowering.quantized_packing import (
    LayerRows,
    Rows,
    dense_phases,
    integer_form,
    spread_biases,
    unpack_inverse,
    unpack_layer,
)


def run_quantized(kernel: Kernel, inputs: Sequence[Array | None]) -> list[Array] | None:
    """The kernel's outputs; None where it is not a quantized layer's."""
    x, packed, *rest = [*inputs, None, None][: max(len(inputs), 2)]
    if x is None or packed is None:
        return None
    match kernel:
        case StoredRecurrentKernel():
            return _stored_recurrent(kernel, x, packed, rest)
        case StoredDenseKernel():
            return _stored_dense(kernel, x, packed)
        case Int8RecurrentKernel():
            return _int8_recurrent(kernel, x, packed, rest)
        case Int8DenseKernel():
            return _int8_dense(kernel, x, packed)
        case IntegerRecurrentKernel():
            return _integer_recurrent(kernel, x, packed, rest)
        case IntegerDenseKernel():
            return _integer_dense(kernel, x, packed, rest[0])
    return None


def restored(rows: Rows, storage: Storage) -> Array:
    """Stored weights in float32."""
    steps = rows.steps.astype(np.float32)
    if rows.scale is None:
        return steps
    scale = rows.scale.astype(np.float32)
    if storage is Storage.I8:
        return steps * scale[..., None]
    return steps * np.repeat(scale, GROUP, axis=-1)[..., : steps.shape[-1]]


def _stored_recurrent(
    kernel: StoredRecurrentKernel, x: Array, packed: Array, rest: Sequence[Array | None]
) -> list[Array]:
    layer, storage = kernel.layer, kernel.storage
    rows = _empty_layer(layer, storage)
    unpack_layer(compact_form(kernel), layer.phases, rows, packed)
    w = restored(rows.x, storage)
    r = None if rows.h is None else restored(rows.h, storage)
    lengths, *states = rest
    operands = [
        x.reshape(layer.steps, layer.batch, -1),
        _flat(w),
        None if r is None else _flat(r),
        _float_bias(layer, rows),
        lengths,
        *_pair(states),
        None if rows.peepholes is None else rows.peepholes.reshape(len(w), -1),
    ]
    return apply(*executed(layer.op, operands), operands)


def _stored_dense(kernel: StoredDenseKernel, x: Array, packed: Array) -> list[Array]:
    layer, storage = kernel.layer, kernel.storage
    rows = LayerRows(
        _empty_rows(1, 1, layer.units, layer.features, storage),
        None,
        np.zeros((1, 1, layer.units), np.float32),
        None,
    )
    unpack_layer(compact_form(kernel), layer.phases, rows, packed)
    w = restored(rows.x, storage)[0, 0].T
    fields = op_fields(Dense(layer.activation))
    return apply("Dense", fields, [x.reshape(layer.rows, -1), w, rows.bias[0, 0]])


def _int8_recurrent(
    kernel: Int8RecurrentKernel, x: Array, packed: Array, rest: Sequence[Array | None]
) -> list[Array]:
    layer = kernel.layer
    inverse, packed = unpack_inverse(packed, layer.features)
    rows = _empty_layer(layer, Storage.I8)
    unpack_layer(compact_form(kernel), layer.phases, rows, packed)
    lengths, *states = rest
    operands = [
        x.reshape(layer.steps, layer.batch, -1),
        _flat(rows.x.steps),
        None if rows.h is None else _flat(rows.h.steps),
        _float_bias(layer, rows),
        lengths,
        *_pair(states),
        None if rows.peepholes is None else rows.peepholes.reshape(len(rows.bias), -1),
        _flat_scale(rows.x),
        None if rows.h is None else _flat_scale(rows.h),
        inverse,
    ]
    return apply(*executed(kernel.op, operands), operands)


def _int8_dense(kernel: Int8DenseKernel, x: Array, packed: Array) -> list[Array]:
    layer = kernel.layer
    inverse, packed = unpack_inverse(packed, layer.features)
    rows = LayerRows(
        _empty_rows(1, 1, layer.units, layer.features, Storage.I8),
        None,
        np.zeros((1, 1, layer.units), np.float32),
        None,
    )
    unpack_layer(compact_form(kernel), layer.phases, rows, packed)
    fields = op_fields(Int8Dense(layer.activation, kernel.x_dtype, kernel.x_zero_point))
    assert rows.x.scale is not None
    operands = [rows.x.steps[0, 0], rows.bias[0, 0], rows.x.scale[0, 0], inverse]
    return apply("Int8Dense", fields, [x.reshape(layer.rows, -1), *operands])


def _integer_recurrent(
    kernel: IntegerRecurrentKernel, x: Array, packed: Array, rest: Sequence[Array | None]
) -> list[Array]:
    op, cell = kernel.op, kernel.op.cell
    count, hidden, gates = cell.direction.count, cell.hidden, cell.gates
    rows = LayerRows(
        _empty_rows(count, gates, hidden, kernel.features, Storage.I8, np.int16),
        _empty_rows(count, gates, hidden, hidden, Storage.I8, np.int16),
        np.zeros((count, op.accumulators, hidden), np.int32),
        _empty_peepholes(count, kernel.cell.peepholes, hidden, np.int16),
    )
    form = integer_form(kernel.packing, peepholes=kernel.cell.peepholes)
    unpack_layer(form, kernel.phases, rows, packed)
    lengths, *states, tables = rest
    assert rows.h is not None
    operands = [
        x.reshape(kernel.steps, kernel.batch, -1),
        _flat(rows.x.steps),
        _flat(rows.h.steps),
        rows.bias.reshape(count, -1),
        lengths,
        *_pair(states),
        None if rows.peepholes is None else rows.peepholes.reshape(count, -1),
        _flat_scale(rows.x),
        _flat_scale(rows.h),
        tables,
    ]
    return apply(*executed(op, operands), operands)


def _integer_dense(
    kernel: IntegerDenseKernel, x: Array, packed: Array, table: Array | None
) -> list[Array]:
    rows = LayerRows(
        _empty_rows(1, 1, kernel.units, kernel.features, Storage.I8, np.int16),
        None,
        np.zeros((1, 1, kernel.units), np.int32),
        None,
    )
    form = integer_form(kernel.packing, peepholes=0)
    unpack_layer(form, dense_phases(kernel.features), rows, packed)
    assert rows.x.scale is not None
    operands = [rows.x.steps[0, 0], rows.bias[0, 0], rows.x.scale[0, 0], table]
    return apply("IntegerDense", op_fields(kernel.op), [x.reshape(kernel.rows, -1), *operands])


def _empty_layer(layer: RecurrentKernel, storage: Storage) -> LayerRows:
    count, gates, hidden = layer.op.direction.count, layer.op.gates, layer.op.hidden
    accumulators = sum(phase.accumulators for phase in layer.phases)
    return LayerRows(
        _empty_rows(count, gates, hidden, layer.features, storage),
        _empty_rows(count, gates, hidden, hidden, storage) if layer.cell.is_recurrent else None,
        np.zeros((count, accumulators, hidden), np.float32),
        _empty_peepholes(count, layer.cell.peepholes, hidden, np.float32),
    )


def _empty_peepholes(count: int, rows: int, hidden: int, dtype: type[np.generic]) -> Array | None:
    return np.zeros((count, rows, hidden), dtype) if rows else None


def _empty_rows(
    count: int,
    gates: int,
    hidden: int,
    columns: int,
    storage: Storage,
    scale: type[np.generic] = np.float32,
) -> Rows:
    shape = (count, gates, hidden)
    if storage is Storage.F16:
        return Rows(np.zeros((*shape, columns), np.float16), None)
    steps = np.zeros((*shape, columns), np.int8)
    if storage is Storage.I8:
        return Rows(steps, np.zeros(shape, scale))
    return Rows(steps, np.zeros((*shape, -(-columns // GROUP)), np.float16))


def _float_bias(layer: RecurrentKernel, rows: LayerRows) -> Array:
    bias = spread_biases(layer.phases, rows.bias, layer.op.gates)
    return bias.reshape(len(bias), -1)


def _flat(data: Array) -> Array:
    """(D, G, H, K) as (D, G*H, K)."""
    return data.reshape(data.shape[0], -1, data.shape[-1])


def _flat_scale(rows: Rows) -> Array:
    assert rows.scale is not None
    return rows.scale.reshape(rows.scale.shape[0], -1)


def _pair(states: Sequence[Array | None]) -> list[Array | None]:
    return [*states, None, None][:2]
