"""Operators other than the packed kernels, one function each, on plain row-major tensors.

Element-wise and moving operators and products come through TE; those whose intermediate results
need memory (softmax, layer normalization) are written as loops, in `normalization.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Binary,
    Broadcast,
    Cast,
    Compare,
    Concat,
    Convolve,
    CumSum,
    Dequantize,
    Gather,
    GatherElements,
    GatherND,
    IntegerSoftmax,
    LayerNorm,
    Logic,
    LogSoftmax,
    MatMul,
    Not,
    Pad,
    Quantize,
    Reduce,
    Remainder,
    Reshape,
    ScatterElements,
    ScatterND,
    Slice,
    Softmax,
    TopKIndices,
    Transpose,
    Unary,
    Where,
    WindowReduce,
    Windows,
)
from edgelstm_compiler.ir.types import Op, TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import (
    elementwise,
    indexing,
    integer_operators,
    layout,
    logic,
    normalization,
    products,
    reduction,
)
from edgelstm_targets.tvm_cpu.convolution import convolution_function
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.expressions import te_function
from edgelstm_targets.tvm_cpu.padding import pad_function
from edgelstm_targets.tvm_cpu.remainder import remainder_function
from edgelstm_targets.tvm_cpu.tensorir import Function
from edgelstm_targets.tvm_cpu.transposing import exchange_function, exchange_of
from edgelstm_targets.tvm_cpu.window_reduce import window_reduce_function
from edgelstm_targets.tvm_cpu.window_reduce_last import window_reduce_last_function
from edgelstm_targets.tvm_cpu.windows import windows, windows_function


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
        case Reduce():
            return reduction.reduce_function(name, op, given[0])
        case ArgReduce():
            return reduction.arg_reduce_function(name, op, given[0])
        case TopKIndices():
            return reduction.top_k_function(name, op, given[0])
        case CumSum():
            return reduction.cum_sum_function(name, op, given[0])
        case ScatterElements():
            return indexing.scatter_elements_function(name, op, given)
        case ScatterND():
            return indexing.scatter_nd_function(name, op, given)
        case MatMul():
            return products.matmul_function(name, given[0], given[1], output)
        case Binary():
            value = elementwise.binary(op, given, output)
        case Remainder():
            return remainder_function(name, given, output)
        case Unary():
            value = elementwise.unary(op, given[0], isa)
        case Cast():
            value = elementwise.cast(op, given[0])
        case Compare():
            value = logic.compare(op, given, output)
        case Logic():
            value = logic.logic(op, given, output)
        case Not():
            value = logic.logical_not()
        case Where():
            value = logic.where(given, output)
        case Pad():
            return pad_function(name, op, given[0], isa)
        case Convolve():
            return convolution_function(name, op, inputs, isa)
        case WindowReduce(channels_last=True):
            return window_reduce_last_function(name, op, inputs, output, isa)
        case WindowReduce():
            return window_reduce_function(name, op, inputs, output, isa)
        case Windows() if max(op.spread) == 1 and not isa.is_bare:
            return windows_function(name, op, given[0])
        case Windows():
            value = windows(op, given[0])
        case GatherElements():
            value = indexing.gather_elements(op, given)
        case GatherND():
            value = indexing.gather_nd(op, given)
        case Transpose():
            exchange = exchange_of(given[0], op.perm, isa)
            if exchange is not None:
                return exchange_function(name, exchange, given[0].dtype, isa)
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
