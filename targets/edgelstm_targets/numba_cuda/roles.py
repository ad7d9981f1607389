"""Program -> Pipeline: which roles the kernel calls of a program become.

Calls on float32 are taken here; those of quantized layers in `quantized_roles.py`.
"""

from __future__ import annotations

import dataclasses
import math

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import CopyKernel, DenseKernel, OpKernel, RecurrentKernel
from edgelstm_compiler.ir.ops import Binary, LayerNorm, LogSoftmax, Reshape, Softmax, Unary
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_targets.numba_cuda.builder import Builder
from edgelstm_targets.numba_cuda.pipeline import (
    FALLBACK,
    Change,
    Constant,
    LayerNormRole,
    Pipeline,
    RecurrentRole,
    SoftmaxRole,
    Vector,
    arrange,
)
from edgelstm_targets.numba_cuda.quantized_roles import take_integer_operator, take_layer


def make_pipeline(program: Program) -> Pipeline:
    """The roles of a program.

    Raises:
        CapabilityError: a kernel, shape or type that has no device code, by the name of its node.
    """
    builder = Builder(program)
    for call in program.calls:
        _take(builder, call)
    builder.finish()
    return arrange(builder.roles)


def _take(builder: Builder, call: Call) -> None:
    """One call of the program."""
    for buffer in (*call.inputs, *call.outputs):
        if buffer is not None and buffer.space is not Space.WEIGHTS:
            _expect_type(buffer, call)
    match call.kernel:
        case RecurrentKernel() | DenseKernel() as kernel:
            take_layer(builder, call, kernel)
        case CopyKernel():
            _copy(builder, call)
        case OpKernel():
            if not take_integer_operator(builder, call, call.kernel.op):
                _operator(builder, call, call.kernel)
        case kernel:
            raise CapabilityError(f"{call.origin}: target cuda has no {kernel.kind}; {FALLBACK}")


def _expect_type(buffer: Buffer, call: Call) -> None:
    if buffer.type.dtype not in (DType.F32, DType.I8, DType.I16):
        raise CapabilityError(
            f"{call.origin}: target cuda computes in f32, i16 and i8, {buffer.name!r} is "
            f"{buffer.type.dtype.value}; {FALLBACK}"
        )


def _operator(builder: Builder, call: Call, kernel: OpKernel) -> None:
    op, x = kernel.op, call.inputs[0]
    assert x is not None
    if not x.type.dtype.is_float and not isinstance(op, Reshape):
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for {op.kind} of {x.type}; {FALLBACK}"
        )
    extent = call.outputs[0].type.size if call.outputs[0] is not None else 0
    match op:
        case Softmax() if x.type.shape[op.axis] == x.type.size:
            source = builder.read(x, call)
            target, outputs = builder.write(call, extent)
            is_log = isinstance(op, LogSoftmax)
            builder.roles.append(
                SoftmaxRole(call.name, call.origin, target, outputs, source, is_log)
            )
        case LayerNorm() if math.prod(x.type.shape[op.axis :]) == x.type.size:
            scale, bias = (builder.constant(b, call) for b in (*call.inputs[1:], None)[:2])
            assert scale is not None
            source = builder.read(x, call)
            target, outputs = builder.write(call, extent)
            builder.roles.append(
                LayerNormRole(
                    call.name, call.origin, target, outputs, source, op.epsilon, scale, bias
                )
            )
        case Unary():
            builder.elementwise(call, x, extent, Change(activation=op.activation))
        case Binary():
            _binary(builder, call, op, extent)
        case Reshape():
            builder.elementwise(call, x, extent)
        case _:
            raise CapabilityError(
                f"{call.origin}: target cuda has no code for {op.kind} of {x.type}; {FALLBACK}"
            )


def _binary(builder: Builder, call: Call, op: Binary, extent: int) -> None:
    a, b = call.inputs
    assert a is not None
    assert b is not None
    is_swapped = a.space is Space.WEIGHTS
    value, operand = (b, a) if is_swapped else (a, b)
    if value.type.size != extent or operand.type.size not in (1, extent):
        raise CapabilityError(
            f"{call.origin}: target cuda does not broadcast {a.type} with {b.type}; {FALLBACK}"
        )
    if operand.space is Space.WEIGHTS:
        taken: Constant | Vector = Constant(operand.offset_bytes, operand.type.size)
    else:
        taken = builder.read(operand, call)
        if taken.extent != extent:
            raise CapabilityError(
                f"{call.origin}: target cuda does not broadcast {operand.type}; {FALLBACK}"
            )
    change = Change(arithmetic=op.arithmetic, operand=taken, is_swapped=is_swapped)
    builder.elementwise(call, value, extent, change)


def _copy(builder: Builder, call: Call) -> None:
    (source,), (target,) = call.inputs, call.outputs
    assert source is not None
    assert target is not None
    if target.space is not Space.OUTPUT:
        raise CapabilityError(
            f"{call.origin}: target cuda carries the states of recurrent layers only; {FALLBACK}"
        )
    vector = builder.read(source, call)
    for index, role in enumerate(builder.roles):
        places = (target.offset_bytes,)
        if role.target is vector:
            builder.roles[index] = dataclasses.replace(role, outputs=role.outputs + places)
        elif isinstance(role, RecurrentRole) and role.cell is vector:
            builder.roles[index] = dataclasses.replace(
                role, cell_outputs=role.cell_outputs + places
            )
