"""Chooses the kernel of each node and packs its weights; the numerics is a field of the kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops.quantized_conversion import unpack_nibbles
from edgelstm.errors import CapabilityError
from edgelstm.numerics.cells import Matrix
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.kernels import (
    DenseKernel,
    Kernel,
    LayerKernel,
    OpKernel,
    RecurrentKernel,
    phases_of,
)
from edgelstm_compiler.ir.numerics import BytePacking, Float32, Int8, Integer, Numerics, Stored
from edgelstm_compiler.ir.ops import (
    Convolve,
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
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.lowering.bounded import bounded_values
from edgelstm_compiler.lowering.compact_layout import form_of
from edgelstm_compiler.lowering.layer_rows import (
    LayerRows,
    Rows,
    int8_codes,
    pack_inverse,
    pack_layer,
    stored_codes,
    sum_biases,
)

RECURRENT_OPS = (Recurrent, Int8Recurrent, IntegerRecurrent)
DENSE_OPS = (Dense, Int8Dense, IntegerDense)
LEAST_COLUMNS = 2
"""With fewer, weights are read in the order of single steps."""
LAYER_OPS = (*RECURRENT_OPS, *DENSE_OPS)


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """A node as a kernel, before memory is planned.

    Args:
        kernel: the kernel.
        inputs: values of the graph, or new constants (packed weights).
        outputs: values of the node; a value that is never read may be left away by the planner.
        constants: packed weights that the graph does not have.
        macs: multiply-accumulates of one call.
        node: where it came from.
    """

    kernel: Kernel
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    constants: tuple[Constant, ...]
    macs: int
    node: Node


def select_kernels(
    graph: StepGraph,
    unit_block: int | None,
    weight_offset: int = 0,
    packing: BytePacking | None = None,
    columns: int = 1,
) -> tuple[Selected, ...]:
    """The kernel of every node, in order.

    Args:
        graph: the step graph.
        unit_block: units per block of packed weights; None leaves every operator as it is.
        weight_offset: what is added to int8 weights for dot products.
        packing: of int8-full; None: in blocks of unit_block with that offset.
        columns: most elements of a batch, or rows, that a layer takes together.

    Raises:
        CapabilityError: weights to pack that are not constants, or not float32.
    """
    if unit_block is None:
        return tuple(_as_operator(node) for node in graph.nodes)
    layers = _Layers(graph, unit_block, weight_offset, packing, columns)
    return tuple(
        layers.select(node) if isinstance(node.op, LAYER_OPS) else _as_operator(node)
        for node in graph.nodes
        if not layers.is_absorbed(node)
    )


def count_macs(node: Node) -> int:
    """Multiply-accumulates of a node: matrix products only."""
    op, given = node.op, node.inputs
    if isinstance(op, RECURRENT_OPS):
        layer = op if isinstance(op, Recurrent) else op.cell
        x = given[0]
        assert x is not None
        steps, batch, features = x.type.shape
        terms = [term for total in layer.cell().sums for term in total.terms]
        columns = sum(features if t.matrix is Matrix.W else layer.hidden for t in terms)
        return steps * batch * layer.direction.count * layer.hidden * columns
    if isinstance(op, DENSE_OPS):
        w = given[1]
        assert w is not None
        return node.outputs[0].type.size * w.type.shape[0 if isinstance(op, Dense) else 1]
    if isinstance(op, Convolve):
        x, w = given
        assert x is not None
        assert w is not None
        _, extents = op.split(x.type)
        positions = x.type.shape[0] * math.prod(op.positions(extents))
        return positions * op.outputs * (w.type.shape[2] - 1)
    if op.kind == "MatMul":
        a = given[0]
        assert a is not None
        return node.outputs[0].type.size * a.type.shape[-1]
    return 0


def _as_operator(node: Node) -> Selected:
    return Selected(OpKernel(node.op), node.inputs, node.outputs, (), count_macs(node), node)


class _Layers:
    """The layers of a graph that packs its weights."""

    def __init__(
        self,
        graph: StepGraph,
        unit_block: int,
        weight_offset: int,
        packing: BytePacking | None,
        columns: int,
    ) -> None:
        self._data = constant_data(graph)
        self._stored = _stored_weights(graph, self._data)
        self._unit_block = unit_block
        self._columns = columns
        self._weight_offset = weight_offset
        self._bounded = bounded_values(graph)
        self._packing = packing or BytePacking(unit_block, (weight_offset,))

    def is_absorbed(self, node: Node) -> bool:
        """Whether the node only restores weights that its readers pack as they are stored."""
        return isinstance(node.op, DequantizeWeights) and node.outputs[0] in self._stored

    def select(self, node: Node) -> Selected:
        """The kernel of a layer, with its weights packed."""
        x = node.inputs[0]
        assert x is not None
        is_dense = isinstance(node.op, DENSE_OPS)
        rows = self._dense_rows(node) if is_dense else self._recurrent_rows(node)
        numerics = self._numerics(node, x, rows)
        block = self._packing.unit_block if isinstance(numerics, Integer) else self._unit_block
        kernel: LayerKernel
        if is_dense:
            features, units = x.type.shape[-1], node.outputs[0].type.shape[-1]
            rows_of_x = x.type.size // features
            kernel = DenseKernel(rows_of_x, features, units, _activation(node), block, numerics)
            kernel = replace(kernel, columns=self._together(rows_of_x))
        else:
            kernel = _recurrent_kernel(node, x, block, numerics)
            if Operands.of(node.inputs).lengths is None and kernel.op.kept is None:
                kernel = replace(kernel, columns=self._together(kernel.batch))
        packed = pack_layer(form_of(kernel), kernel.phases, rows)
        if isinstance(numerics, Float32):
            packed = packed.view(np.float32)
        if isinstance(numerics, Int8):
            inverse = self._array(node, 4 if is_dense else X_INVERSE)
            assert inverse is not None
            packed = np.concatenate([packed, pack_inverse(inverse)])
        weights = Constant.of(f"{node.name}.weights", packed)
        inputs = (x, weights.value, *_more_inputs(node))
        return Selected(kernel, inputs, node.outputs, (weights,), count_macs(node), node)

    def _together(self, count: int) -> int:
        """How many columns of so many go through a layer together: groups of about one size."""
        if self._columns == 1 or count < LEAST_COLUMNS:
            return 1
        groups = -(-count // self._columns)
        return -(-count // groups)

    def _numerics(self, node: Node, x: Value, rows: LayerRows) -> Numerics:
        match node.op:
            case Int8Recurrent() as op:
                codes = int8_codes(rows)
                offset = self._weight_offset
                return Int8(op.x_dtype, op.x_zero_point, offset, codes, op.h_inverse)
            case Int8Dense() as op:
                return Int8(op.x_dtype, op.x_zero_point, self._weight_offset, int8_codes(rows))
            case IntegerRecurrent() | IntegerDense() as op:
                return Integer(op, x.type.dtype, self._packing, x in self._bounded)
        stored = self._stored.get(node.inputs[1])
        if stored is None:
            return Float32()
        return Stored(stored.storage, stored_codes(stored.storage, rows))

    def _recurrent_rows(self, node: Node) -> LayerRows:
        """All that a recurrent layer packs."""
        op, given = node.op, Operands.of(node.inputs)
        layer = op if isinstance(op, Recurrent) else op.cell  # type: ignore[attr-defined]
        gates, hidden, count = layer.gates, layer.hidden, layer.direction.count
        scales = {Int8Recurrent: (W_SCALE, R_SCALE), IntegerRecurrent: (X_MULTIPLIER, H_MULTIPLIER)}
        positions = scales.get(type(op), (None, None))
        x, h = (
            None if value is None else self._rows(node, value, gates, position)
            for value, position in zip((given.w, given.r), positions, strict=True)
        )
        assert x is not None
        storages = {self._stored[v].storage for v in (given.w, given.r) if v in self._stored}
        if len(storages) > 1 or (storages and h is not None and given.r not in self._stored):
            raise CapabilityError(f"{node.origin or node.name}: W and R are stored differently")
        p, bias = self._array_of(node, given.p), self._array_of(node, given.b)
        if isinstance(op, IntegerRecurrent):
            assert bias is not None
            sums = bias.reshape(count, -1, hidden)
        else:
            shape = (count, 2, gates, hidden)
            by_row = np.zeros(shape, np.float32) if bias is None else bias.reshape(shape)
            phases = phases_of(layer.cell(), hidden, x.steps.shape[-1])
            sums = sum_biases(phases, by_row)
        peepholes = None if p is None else p.reshape(count, -1, hidden)
        return LayerRows(x, h, sums, peepholes)

    def _dense_rows(self, node: Node) -> LayerRows:
        """The same of a dense layer: one gate."""
        positions = {Int8Dense: 3, IntegerDense: 3}
        value, units = node.inputs[1], node.outputs[0].type.shape[-1]
        assert value is not None
        rows = self._rows(node, value, 1, positions.get(type(node.op)))
        if isinstance(node.op, Dense) and value not in self._stored:
            rows = Rows(rows.steps.swapaxes(-1, -2), None)
        bias = self._array(node, 2)
        if bias is None:
            bias = np.zeros(units, np.float32)
        return LayerRows(rows, None, bias[None, None], None)

    def _rows(self, node: Node, value: Value, gates: int, scale_at: int | None) -> Rows:
        """Weights by gate (D, G, H, K), with the scales or multipliers of their rows."""
        stored = self._stored.get(value)
        if stored is not None:
            return stored.rows(gates)
        steps = self._array_of(node, value)
        assert steps is not None
        scale = None if scale_at is None else self._array(node, scale_at)
        if steps.ndim == 2:  # a dense layer
            steps, scale = steps[None], None if scale is None else scale[None]
        by_gate = None if scale is None else _by_gate(scale, gates)
        return Rows(_by_gate(steps, gates), by_gate)

    def _array(self, node: Node, index: int) -> Array | None:
        return self._array_of(node, node.inputs[index] if index < len(node.inputs) else None)

    def _array_of(self, node: Node, value: Value | None) -> Array | None:
        """The data of a constant.

        Raises:
            CapabilityError: it is computed at run time, or the float weights are not float32.
        """
        if value is None:
            return None
        if value not in self._data:
            raise CapabilityError(
                f"{node.origin or node.name}: its weights {value.name!r} are computed at run time; "
                "compiled code packs them ahead of time. Make them constants of the model, or use "
                "--target reference"
            )
        is_float = isinstance(node.op, (Recurrent, Dense))
        if is_float and value.type.dtype is not DType.F32:
            raise CapabilityError(
                f"{node.origin or node.name}: its weights {value.name!r} are "
                f"{value.type.dtype.value}, compiled code packs f32: export the model in float32"
            )
        return self._data[value]


def _recurrent_kernel(node: Node, x: Value, unit_block: int, numerics: Numerics) -> RecurrentKernel:
    op = node.op if isinstance(node.op, Recurrent) else node.op.cell  # type: ignore[attr-defined]
    steps, batch, features = x.type.shape
    has_peepholes = Operands.of(node.inputs).p is not None
    phases = phases_of(op.cell(peepholes=has_peepholes), op.hidden, features)
    return RecurrentKernel(op, steps, batch, features, has_peepholes, unit_block, phases, numerics)


def _activation(node: Node) -> Activation | None:
    """The activation of a dense layer, where it is computed in floating point."""
    return node.op.activation if isinstance(node.op, (Dense, Int8Dense)) else None


def _more_inputs(node: Node) -> tuple[Value | None, ...]:
    """The call's inputs behind x and the weights."""
    match node.op:
        case Recurrent() | Int8Recurrent() | IntegerRecurrent() as op:
            layer = op if isinstance(op, Recurrent) else op.cell
            given = Operands.of(node.inputs)
            states = (given.lengths, *given.initial[: layer.state_count])
            return (*states, node.inputs[TABLES]) if isinstance(op, IntegerRecurrent) else states
        case IntegerDense():
            return (node.inputs[4],)
    return ()


@dataclass(frozen=True, slots=True)
class _StoredWeights:
    """Constants behind a DequantizeWeights; data and scale as (D, rows, ...)."""

    storage: Storage
    columns: int
    data: Array
    scale: Array | None

    def rows(self, gates: int) -> Rows:
        """By gate: (D, G, H, K)."""
        steps, scale = self.data, self.scale
        if self.storage is Storage.I4:
            steps = unpack_nibbles(steps, self.columns)
        if steps.ndim == 2:
            steps = steps[None]
        if scale is not None and scale.ndim < (3 if self.storage is Storage.I4 else 2):
            scale = scale[None]
        return Rows(_by_gate(steps, gates), None if scale is None else _by_gate(scale, gates))


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


def _by_gate(data: Array, gates: int) -> Array:
    """(D, G*H, ...) as (D, G, H, ...)."""
    return data.reshape(data.shape[0], gates, data.shape[1] // gates, *data.shape[2:])
