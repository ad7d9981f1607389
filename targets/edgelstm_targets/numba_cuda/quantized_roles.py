"""Which roles the calls of quantized layers become, one function for each kind of call.

Scheme int8 quantizes the frame in a role of its own, a frame ahead; what products see of h is a
vector of bytes beside h. Scheme int8-full hands over whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.ops import Dequantize, IntegerSoftmax, Quantize
from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_compiler.ir.program import Buffer, Call
from edgelstm_compiler.ir.quantized_kernels import (
    Int8DenseKernel,
    Int8RecurrentKernel,
    IntegerDenseKernel,
    IntegerRecurrentKernel,
    StoredDenseKernel,
    StoredRecurrentKernel,
)
from edgelstm_compiler.ir.types import Op
from edgelstm_compiler.lowering.compact_layout import compact_form
from edgelstm_compiler.lowering.quantized_packing import dense_phases, integer_form
from edgelstm_targets.numba_cuda.pipeline import (
    FALLBACK,
    Change,
    Constant,
    ElementwiseRole,
    IntegerSoftmaxRole,
    RecurrentRole,
    Rounding,
    Vector,
)
from edgelstm_targets.numba_cuda.precision import Bytes, Integer, Stored

if TYPE_CHECKING:
    from edgelstm_targets.numba_cuda.builder import Builder

_H_STEPS = 127


def take_quantized(builder: Builder, call: Call) -> None:
    """The call of a quantized layer.

    Raises:
        CapabilityError: it has no device code.
    """
    match call.kernel:
        case StoredRecurrentKernel() as kernel:
            builder.recurrent(call, kernel.layer, Stored(compact_form(kernel)))
        case StoredDenseKernel() as kernel:
            builder.dense(call, kernel.layer, Stored(compact_form(kernel)))
        case Int8RecurrentKernel() as kernel:
            _int8_recurrent(builder, call, kernel)
        case Int8DenseKernel() as kernel:
            _int8_dense(builder, call, kernel)
        case IntegerRecurrentKernel() as kernel:
            _integer_recurrent(builder, call, kernel)
        case IntegerDenseKernel() as kernel:
            _integer_dense(builder, call, kernel)
        case kernel:
            raise CapabilityError(f"{call.origin}: target cuda has no {kernel.kind}; {FALLBACK}")


def take_integer_operator(builder: Builder, call: Call, op: Op) -> bool:
    """The call of an operator between floating point and integers, or on them; False if it is none.

    Raises:
        CapabilityError: it has no device code.
    """
    match op:
        case Quantize():
            source, inverse = call.inputs
            assert source is not None
            rounding = Change(rounding=Rounding(op.dtype, op.zero_point))
            builder.elementwise(
                call, source, source.type.size, _scaling(builder, call, inverse), rounding
            )
        case Dequantize():
            source, scale = call.inputs
            assert source is not None
            zero_point = Change(number=-float(op.zero_point))
            builder.elementwise(
                call, source, source.type.size, zero_point, _scaling(builder, call, scale)
            )
        case IntegerSoftmax():
            _integer_softmax(builder, call, op)
        case _:
            return False
    return True


def _scaling(builder: Builder, call: Call, factor: Buffer | None) -> Change:
    constant = builder.constant(factor, call)
    assert constant is not None
    return Change(arithmetic=Arithmetic.MUL, operand=constant)


def _int8_recurrent(builder: Builder, call: Call, kernel: Int8RecurrentKernel) -> None:
    op, features = kernel.op, kernel.layer.features
    frame = _quantized_frame(builder, call, features, op.x_dtype, op.x_zero_point)
    precision = Bytes(compact_form(kernel), op.x_dtype, op.h_inverse)
    builder.recurrent(call, kernel.layer, precision, frame)


def _int8_dense(builder: Builder, call: Call, kernel: Int8DenseKernel) -> None:
    features = kernel.layer.features
    frame = _quantized_frame(builder, call, features, kernel.x_dtype, kernel.x_zero_point)
    precision = Bytes(compact_form(kernel), kernel.x_dtype)
    builder.dense(call, kernel.layer, precision, frame)


def _quantized_frame(
    builder: Builder, call: Call, features: int, dtype: DType, zero_point: int
) -> Vector:
    """The role that quantizes what a layer of scheme int8 reads."""
    source, weights = call.inputs[:2]
    assert source is not None
    assert weights is not None
    vector = builder.read(source, call)
    # Reciprocal scales of x stand behind the packed weights.
    place = weights.offset_bytes + weights.type.size - 4 * features
    inverse = Change(arithmetic=Arithmetic.MUL, operand=Constant(place, features))
    rounding = Change(rounding=Rounding(dtype, zero_point))
    frame = Vector(f"{call.name}.x", features, None, dtype)
    builder.roles.append(
        ElementwiseRole(
            f"{call.name}_x", call.origin, frame, (), vector, (inverse, rounding), vector.dtype
        )
    )
    return frame


def _integer_recurrent(builder: Builder, call: Call, kernel: IntegerRecurrentKernel) -> None:
    op, cell = kernel.op, kernel.op.cell
    if cell.state_count == 1 and cell.gates == 1:
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for an integer {cell.kind}; use int8"
        )
    if op.is_wide or (op.output_multiplier, op.output_shift) != (_H_STEPS, 15):
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for an h of 16 bits that others read, or of "
            "calibrated steps; quantize with QuantizeOptions(wide_h=False)"
        )
    layer = RecurrentKernel(
        cell,
        kernel.steps,
        kernel.batch,
        kernel.features,
        kernel.has_peepholes,
        kernel.packing.unit_block,
        kernel.phases,
    )
    builder.expect_stream(call, layer)
    source, weights, _, *initial, tables = call.inputs
    assert source is not None
    assert weights is not None
    assert tables is not None
    frame = builder.read(source, call)
    y, *after = call.outputs
    states = [
        builder.state(call, old, new, cell.hidden) for old, new in zip(initial, after, strict=False)
    ]
    form = integer_form(kernel.packing, peepholes=kernel.cell.peepholes)
    is_lstm = isinstance(cell, LSTM)
    # A GRU remembers h in 16 bits; everybody else sees it in 8.
    h = states[0] if is_lstm else Vector(f"{call.name}.y", cell.hidden, None, DType.I8)
    builder.roles.append(
        RecurrentRole(
            call.name,
            call.origin,
            h,
            builder.show(y, h),
            layer,
            weights.offset_bytes,
            frame,
            states[1] if is_lstm else None,
            (),
            Integer(form, op, kernel.x_dtype, tables.offset_bytes, tables.type.shape[0]),
            None if is_lstm else states[0],
            None,
        )
    )


def _integer_dense(builder: Builder, call: Call, kernel: IntegerDenseKernel) -> None:
    table = call.inputs[2]
    layer = DenseKernel(
        kernel.rows,
        kernel.features,
        kernel.units,
        None,
        kernel.packing.unit_block,
        dense_phases(kernel.features),
    )
    place = None if table is None else table.offset_bytes
    form = integer_form(kernel.packing, peepholes=0)
    builder.dense(call, layer, Integer(form, kernel.op, kernel.x_dtype, place, 1))


def _integer_softmax(builder: Builder, call: Call, op: IntegerSoftmax) -> None:
    source, table = call.inputs
    assert source is not None
    assert table is not None
    if source.type.shape[op.axis] != source.type.size:
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for {op.kind} of {source.type}; {FALLBACK}"
        )
    x = builder.read(source, call)
    target, outputs = builder.write(call, source.type.size)
    builder.roles.append(
        IntegerSoftmaxRole(
            call.name,
            call.origin,
            target,
            outputs,
            x,
            op.multiplier,
            op.shift,
            table.offset_bytes,
        )
    )
