"""Chooses the kernel of each node and packs its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm.numerics.cells import Matrix
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.graph import StepGraph, constant_data
from edgelstm_compiler.ir.kernels import (
    Bias,
    DenseKernel,
    Kernel,
    OpKernel,
    Phase,
    RecurrentKernel,
    Section,
    Source,
    phases_of,
)
from edgelstm_compiler.ir.ops import (
    Dense,
    Int8Dense,
    Int8Recurrent,
    IntegerDense,
    IntegerRecurrent,
    Recurrent,
)
from edgelstm_compiler.ir.ops.recurrent import B, P, R, W, X
from edgelstm_compiler.ir.quantized_kernels import BytePacking
from edgelstm_compiler.ir.types import Array, Constant, Node, Value
from edgelstm_compiler.lowering.packing import pack_dense, pack_recurrent
from edgelstm_compiler.lowering.quantized_select import QuantizedLayers


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
) -> tuple[Selected, ...]:
    """The kernel of every node, in order.

    Args:
        graph: the step graph.
        unit_block: units per block of packed weights; None leaves every operator as it is.
        weight_offset: what is added to int8 weights for dot products.
        packing: of int8-full; None: in blocks of unit_block with that offset.

    Raises:
        CapabilityError: weights to pack that are not constants, or not float32.
    """
    data = constant_data(graph)
    if unit_block is None:
        return tuple(_select(node, data, None) for node in graph.nodes)
    quantized = QuantizedLayers(graph, unit_block, weight_offset, packing)
    selected = []
    for node in graph.nodes:
        if quantized.is_absorbed(node):
            continue
        packed = quantized.pack(node)
        if packed is None:
            selected.append(_select(node, data, unit_block))
            continue
        weights = Constant.of(f"{node.name}.weights", packed.weights)
        inputs = (node.inputs[0], weights.value, *packed.inputs)
        macs = count_macs(node)
        selected.append(Selected(packed.kernel, inputs, node.outputs, (weights,), macs, node))
    return tuple(selected)


def _select(node: Node, data: Mapping[Value, Array], unit_block: int | None) -> Selected:
    match node.op:
        case Recurrent():
            if unit_block is not None:
                _expect_constant(node, data, (W, R, B, P))
                return _recurrent(node, node.op, data, unit_block)
        case Dense():
            if unit_block is not None:
                _expect_constant(node, data, (1, 2))
                return _dense(node, node.op, data, unit_block)
    return Selected(OpKernel(node.op), node.inputs, node.outputs, (), count_macs(node), node)


def count_macs(node: Node) -> int:
    """Multiply-accumulates of a node: matrix products only."""
    match node.op:
        case Recurrent() | Int8Recurrent() | IntegerRecurrent():
            layer = node.op if isinstance(node.op, Recurrent) else node.op.cell
            x = node.inputs[X]
            assert x is not None
            steps, batch, features = x.type.shape
            terms = [term for total in layer.cell().sums for term in total.terms]
            columns = sum(features if t.matrix is Matrix.W else layer.hidden for t in terms)
            return steps * batch * layer.direction.count * layer.hidden * columns
        case Int8Dense() | IntegerDense():
            w = node.inputs[1]
            assert w is not None
            return node.outputs[0].type.size * w.type.shape[1]
        case Dense():
            w = node.inputs[1]
            assert w is not None
            return node.outputs[0].type.size * w.type.shape[0]
    if node.op.kind == "MatMul":
        a = node.inputs[0]
        assert a is not None
        return node.outputs[0].type.size * a.type.shape[-1]
    return 0


def _expect_constant(node: Node, data: Mapping[Value, Array], places: tuple[int, ...]) -> None:
    for place in places:
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None and value not in data:
            raise CapabilityError(
                f"{node.origin or node.name}: its weights {value.name!r} are computed at run time; "
                "compiled code packs them ahead of time. Make them constants of the model, or use "
                "--target reference"
            )
        if value is not None and value.type.dtype is not DType.F32:
            raise CapabilityError(
                f"{node.origin or node.name}: its weights {value.name!r} are "
                f"{value.type.dtype.value}, compiled code packs f32: export the model in float32"
            )


def _recurrent(node: Node, op: Recurrent, data: Mapping[Value, Array], unit_block: int) -> Selected:
    given = Operands.of(node.inputs)
    steps, batch, features = given.x.type.shape
    w, r, b, p = (None if v is None else data[v] for v in (given.w, given.r, given.b, given.p))
    kernel = RecurrentKernel(
        op=op,
        steps=steps,
        batch=batch,
        features=features,
        has_peepholes=p is not None,
        unit_block=unit_block,
        phases=phases_of(op.cell(peepholes=p is not None), op.hidden, features),
    )
    assert w is not None
    packed = Constant.of(f"{node.name}.weights", pack_recurrent(kernel, w, r, b, p))
    inputs = (given.x, packed.value, given.lengths, *given.initial[: op.state_count])
    return Selected(kernel, inputs, node.outputs, (packed,), count_macs(node), node)


def _dense(node: Node, op: Dense, data: Mapping[Value, Array], unit_block: int) -> Selected:
    x, w_value, *rest = node.inputs
    assert x is not None
    assert w_value is not None
    w = data[w_value]
    b = data[rest[0]] if rest and rest[0] is not None else None
    features, units = w.shape
    kernel = DenseKernel(
        rows=x.type.size // features,
        features=features,
        units=units,
        activation=op.activation,
        unit_block=unit_block,
        phases=(Phase((Bias((0,)),), (Section(Source.X, features, (0,), (0,)),)),),
    )
    packed = Constant.of(f"{node.name}.weights", np.asarray(pack_dense(kernel, w, b)))
    return Selected(kernel, (x, packed.value), node.outputs, (packed,), count_macs(node), node)
