"""Operators other than the packed kernels, one function each, on plain row-major tensors.

Element-wise and moving operators and products come through TE; those whose intermediate results
need memory (softmax, layer normalization) are written as loops, in `normalization.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Concat,
    Dequantize,
    Gather,
    IntegerSoftmax,
    LayerNorm,
    LogSoftmax,
    MatMul,
    Quantize,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.types import Op, TensorType
from edgelstm_targets.tvm_cpu import elementwise, integer_operators, layout, normalization, products
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.expressions import te_function
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.tensorir import Function


def operator_function(
    name: str,
    op: Op,
    inputs: Sequence[TensorType | None],
    output: TensorType,
    isa: InstructionSet,
) -> Function:
    """The function of an operator; its parameters are the inputs that exist, then the output.

    Raises:
        CapabilityError: an operator or element type that this target does not have.
    """
    given = [kind for kind in inputs if kind is not None]
    match op:
        case Reshape():
            return copy_function(name, output.nbytes, singly=isa.is_bare)
        case Softmax():
            return normalization.softmax_function(
                name, given[0], op.axis, is_log=isinstance(op, LogSoftmax)
            )
        case LayerNorm():
            return normalization.layer_norm_function(name, op, given)
        case Quantize():
            return integer_operators.quantize_function(name, op, inputs, isa)
        case Dequantize():
            return integer_operators.dequantize_function(name, op, inputs, isa)
        case IntegerSoftmax():
            return integer_operators.integer_softmax_function(name, op, inputs, isa)
        case Concat():
            return layout.concat_function(name, op.axis, given)
        case MatMul():
            return products.matmul_function(name, given[0], given[1], output)
        case Binary():
            value = elementwise.binary(op, given, output)
        case Unary():
            value = elementwise.unary(op, given[0])
        case Cast():
            value = elementwise.cast(op, given[0])
        case Transpose():
            value = layout.transpose(op)
        case Broadcast():
            value = layout.broadcast(given[0], output)
        case Slice():
            value = layout.slice_(op)
        case Gather():
            value = layout.gather(op, given[0], given[1])
        case _:
            raise CapabilityError(f"CPU targets have no operator {op.kind}")
    return te_function(name, value, given, output)
