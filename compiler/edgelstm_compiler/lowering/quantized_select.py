"""Chooses the kernels of quantized layers and packs their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm.engines.numpy_ops.quantized_conversion import unpack_nibbles
from edgelstm.errors import CapabilityError
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.kernels import DenseKernel, Kernel, RecurrentKernel, phases_of
from edgelstm_compiler.ir.ops import (
    Dense,
    DequantizeWeights,
    Int8Dense,
    Int8Recurrent,
    IntegerDense,
    IntegerRecurrent,
    Recurrent,
    Storage,
)
from edgelstm_compiler.ir.ops.quantized_int8 import R_SCALE, W_SCALE, X_INVERSE
from edgelstm_compiler.ir.ops.quantized_integer import H_MULTIPLIER, TABLES, X_MULTIPLIER
from edgelstm_compiler.ir.ops.recurrent import B, P, R, W, X
from edgelstm_compiler.ir.quantized_kernels import (
    BytePacking,
    Int8DenseKernel,
    Int8RecurrentKernel,
    IntegerDenseKernel,
    IntegerRecurrentKernel,
    StoredDenseKernel,
    StoredRecurrentKernel,
)
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.lowering.bounded import bounded_values
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_compiler.lowering.quantized_packing import (
    LayerRows,
    Rows,
    dense_phases,
    int8_codes,
    integer_form,
    pack_inverse,
    pack_layer,
    stored_codes,
    sum_biases,
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantized layer as a kernel.

    Args:
        kernel: the kernel.
        weights: its packed weights, u8.
        inputs: the call's inputs behind x and the weights.
    """

    kernel: Kernel
    weights: Array
    inputs: tuple[Value | None, ...] = ()


class QuantizedLayers:
    """The quantized layers of a graph that packs its weights."""

    def __init__(
        self,
        graph: StepGraph,
        unit_block: int,
        weight_offset: int,
        packing: BytePacking | None = None,
    ) -> None:
        self._data = constant_data(graph)
        self._stored = _stored_weights(graph, self._data)
        self._unit_block = unit_block
        self._weight_offset = weight_offset
        self._bounded = bounded_values(graph)
        self._packing = packing or BytePacking(unit_block, (weight_offset,))

    def is_absorbed(self, node: Node) -> bool:
        """Whether the node only restores weights that its readers pack as they are stored."""
        return isinstance(node.op, DequantizeWeights) and node.outputs[0] in self._stored

    def pack(self, node: Node) -> Packed | None:
        """The kernel of a quantized layer; None for any other node."""
        match node.op:
            case Recurrent() if node.inputs[W] in self._stored:
                return self._stored_recurrent(node, node.op)
            case Dense() if node.inputs[1] in self._stored:
                return self._stored_dense(node, node.op)
            case Int8Recurrent():
                return self._int8_recurrent(node, node.op)
            case Int8Dense():
                return self._int8_dense(node, node.op)
            case IntegerRecurrent():
                return self._integer_recurrent(node, node.op)
            case IntegerDense():
                return self._integer_dense(node, node.op)
        return None

    def _array(self, node: Node, place: int) -> Array | None:
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is None:
            return None
        if value not in self._data:
            raise CapabilityError(
                f"{node.origin or node.name}: {value.name!r} is computed at run time; quantized "
                "weights must be constants of the model"
            )
        return self._data[value]

    def _stored_recurrent(self, node: Node, op: Recurrent) -> Packed:
        w, r = (self._stored.get(node.inputs[place]) for place in (W, R))
        has_r = node.inputs[R] is not None
        if w is None or (has_r and (r is None or w.storage is not r.storage)):
            raise CapabilityError(f"{node.origin or node.name}: W and R are stored differently")
        layer = _layer(node, op, self._unit_block, has_p=self._array(node, P) is not None)
        rows = LayerRows(
            w.rows(op.gates),
            None if r is None else r.rows(op.gates),
            self._biases(node, op, layer),
            _peepholes(self._array(node, P), op),
        )
        kernel = StoredRecurrentKernel(layer, w.storage, stored_codes(w.storage, rows))
        packed = pack_layer(compact_form(kernel), layer.phases, rows)
        return Packed(kernel, packed, _states(node, op))

    def _stored_dense(self, node: Node, op: Dense) -> Packed:
        w = self._stored[node.inputs[1]]
        layer = self._dense_layer(node, op)
        rows = LayerRows(w.rows(1), None, self._dense_bias(node, layer), None)
        kernel = StoredDenseKernel(layer, w.storage, stored_codes(w.storage, rows))
        return Packed(kernel, pack_layer(compact_form(kernel), layer.phases, rows))

    def _int8_recurrent(self, node: Node, op: Int8Recurrent) -> Packed:
        cell = op.cell
        w, r = self._array(node, W), self._array(node, R)
        p, inverse = self._array(node, P), self._array(node, X_INVERSE)
        assert inverse is not None
        layer = _layer(node, cell, self._unit_block, has_p=p is not None)
        rows = LayerRows(
            _rows(w, self._array(node, W_SCALE), cell.gates),
            None if r is None else _rows(r, self._array(node, R_SCALE), cell.gates),
            self._biases(node, cell, layer),
            _peepholes(p, cell),
        )
        kernel = Int8RecurrentKernel(op, layer, self._weight_offset, int8_codes(rows))
        packed = pack_layer(compact_form(kernel), layer.phases, rows)
        packed = np.concatenate([packed, pack_inverse(inverse)])
        return Packed(kernel, packed, _states(node, cell))

    def _int8_dense(self, node: Node, op: Int8Dense) -> Packed:
        w, scale, inverse = (self._array(node, place) for place in (1, 3, 4))
        assert w is not None
        assert scale is not None
        assert inverse is not None
        layer = self._dense_layer(node, Dense(op.activation))
        rows = LayerRows(
            Rows(w[None, None], scale[None, None]), None, self._dense_bias(node, layer), None
        )
        codes = int8_codes(rows)
        kernel = Int8DenseKernel(layer, op.x_dtype, op.x_zero_point, self._weight_offset, codes)
        packed = pack_layer(compact_form(kernel), layer.phases, rows)
        packed = np.concatenate([packed, pack_inverse(inverse)])
        return Packed(kernel, packed)

    def _integer_recurrent(self, node: Node, op: IntegerRecurrent) -> Packed:
        cell = op.cell
        x = node.inputs[X]
        assert x is not None
        p, bias = self._array(node, P), self._array(node, B)
        steps, batch, features = x.type.shape
        kernel = IntegerRecurrentKernel(
            op=op,
            steps=steps,
            batch=batch,
            features=features,
            x_dtype=x.type.dtype,
            has_peepholes=p is not None,
            phases=phases_of(cell.cell(peepholes=p is not None), cell.hidden, features),
            packing=self._packing,
            is_x_bounded=x in self._bounded,
        )
        form = integer_form(self._packing, peepholes=kernel.cell.peepholes)
        sums = _by_gate(bias, op.accumulators)
        assert sums is not None
        rows = LayerRows(
            _rows(self._array(node, W), self._array(node, X_MULTIPLIER), cell.gates),
            _rows(self._array(node, R), self._array(node, H_MULTIPLIER), cell.gates),
            sums,
            _peepholes(p, cell),
        )
        inputs = (*_states(node, cell), node.inputs[TABLES])
        return Packed(kernel, pack_layer(form, kernel.phases, rows), inputs)

    def _integer_dense(self, node: Node, op: IntegerDense) -> Packed:
        x = node.inputs[0]
        w, bias, multiplier = (self._array(node, place) for place in (1, 2, 3))
        assert x is not None
        assert w is not None
        assert bias is not None
        assert multiplier is not None
        units, features = w.shape
        kernel = IntegerDenseKernel(
            op=op,
            rows=x.type.size // features,
            features=features,
            units=units,
            x_dtype=x.type.dtype,
            packing=self._packing,
            is_x_bounded=x in self._bounded,
        )
        form = integer_form(self._packing, peepholes=0)
        rows = LayerRows(Rows(w[None, None], multiplier[None, None]), None, bias[None, None], None)
        packed = pack_layer(form, dense_phases(features), rows)
        return Packed(kernel, packed, (node.inputs[4],))

    def _biases(self, node: Node, op: Recurrent, layer: RecurrentKernel) -> Array:
        bias = self._array(node, B)
        shape = (op.direction.count, 2, op.gates, op.hidden)
        rows = np.zeros(shape, np.float32) if bias is None else bias.reshape(shape)
        return sum_biases(layer.phases, rows)

    def _dense_layer(self, node: Node, op: Dense) -> DenseKernel:
        x, y = node.inputs[0], node.outputs[0]
        assert x is not None
        features, units = x.type.shape[-1], y.type.shape[-1]
        return DenseKernel(
            rows=x.type.size // features,
            features=features,
            units=units,
            activation=op.activation,
            unit_block=self._unit_block,
            phases=dense_phases(features),
        )

    def _dense_bias(self, node: Node, layer: DenseKernel) -> Array:
        bias = self._array(node, 2)
        return (np.zeros(layer.units, np.float32) if bias is None else bias)[None, None]


@dataclass(frozen=True, slots=True)
class _StoredWeights:
    """Constants behind a DequantizeWeights; data and scale as (D, rows, ...)."""

    storage: Storage
    columns: int
    data: Array
    scale: Array | None

    def rows(self, gates: int) -> Rows:
        """By gate: (D, G, H, K)."""
        steps = self.data
        if self.storage is Storage.I4:
            steps = unpack_nibbles(steps, self.columns)
        if steps.ndim == 2:
            steps = steps[None]
        scale = self.scale
        if scale is not None and scale.ndim < (3 if self.storage is Storage.I4 else 2):
            scale = scale[None]
        return _rows(steps, scale, gates)


def _stored_weights(
    graph: StepGraph, data: Mapping[Value, Array]
) -> Mapping[Value | None, _StoredWeights]:
    stored: dict[Value | None, _StoredWeights] = {}
    for node in graph.nodes:
        if isinstance(node.op, DequantizeWeights):
            source, scale = node.inputs
            assert source is not None
            stored[node.outputs[0]] = _StoredWeights(
                node.op.storage,
                node.op.columns,
                data[source],
                None if scale is None else data[scale],
            )
    return stored


def _layer(node: Node, op: Recurrent, unit_block: int, *, has_p: bool) -> RecurrentKernel:
    x = node.inputs[X]
    assert x is not None
    steps, batch, features = x.type.shape
    return RecurrentKernel(
        op=op,
        steps=steps,
        batch=batch,
        features=features,
        has_peepholes=has_p,
        unit_block=unit_block,
        phases=phases_of(op.cell(peepholes=has_p), op.hidden, features),
    )


def _states(node: Node, op: Recurrent) -> tuple[Value | None, ...]:
    given = Operands.of(node.inputs)
    return (given.lengths, *given.initial[: op.state_count])


def _rows(steps: Array | None, scale: Array | None, gates: int) -> Rows:
    assert steps is not None
    by_gate = _by_gate(steps, gates)
    assert by_gate is not None
    return Rows(by_gate, _by_gate(scale, gates))


def _peepholes(data: Array | None, op: Recurrent) -> Array | None:
    """(D, rows*H) as (D, rows, H)."""
    return None if data is None else data.reshape(data.shape[0], -1, op.hidden)


def _by_gate(data: Array | None, gates: int) -> Array | None:
    """(D, G*H, ...) as (D, G, H, ...)."""
    if data is None:
        return None
    return data.reshape(data.shape[0], gates, data.shape[1] // gates, *data.shape[2:])
