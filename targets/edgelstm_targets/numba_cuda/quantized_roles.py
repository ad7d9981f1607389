"""Which roles the calls of layers become, in every numerics.

Scheme int8 quantizes the frame in a role of its own, a frame ahead; what products see of h is a
vector of bytes beside h. Scheme int8-full hands over integers.
"""

from __future__ import annotations

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import LayerKernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import Float32, Int8, Integer, Stored
from edgelstm_compiler.ir.ops import Dequantize, IntegerSoftmax, Quantize
from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_compiler.ir.program import Buffer, Call
from edgelstm_compiler.ir.types import Op
from edgelstm_compiler.lowering.compact_layout import compact_form, form_of
from edgelstm_targets.numba_cuda.builder import Builder
from edgelstm_targets.numba_cuda.cells import HAND_PLACED, Carried
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
from edgelstm_targets.numba_cuda.precision import FULL, Bytes, Precision
from edgelstm_targets.numba_cuda.precision import Integer as IntegerPrecision
from edgelstm_targets.numba_cuda.precision import Stored as StoredPrecision

_H_STEPS = 127


def take_layer(builder: Builder, call: Call, kernel: LayerKernel) -> None:
    """The call of a layer, in any numerics.

    Raises:
        CapabilityError: it has no device code.
    """
    precision: Precision
    frame = None
    match kernel.numerics:
        case Float32():
            precision = FULL
        case Stored():
            precision = StoredPrecision(compact_form(kernel))
        case Int8() as numerics:
            frame = _quantized_frame(builder, call, kernel.features, numerics)
            precision = Bytes(compact_form(kernel), numerics.x_dtype, numerics.h_inverse)
        case Integer() as numerics if isinstance(kernel, RecurrentKernel):
            _integer_recurrent(builder, call, kernel, numerics)
            return
        case Integer() as numerics:
            table = call.inputs[2]
            place = None if table is None else table.offset_bytes
            precision = IntegerPrecision(form_of(kernel), numerics.op, numerics.x_dtype, place, 1)
        case numerics:
            raise CapabilityError(
                f"{call.origin}: target cuda has no {type(numerics).__name__}; {FALLBACK}"
            )
    if isinstance(kernel, RecurrentKernel):
        builder.recurrent(call, kernel, precision, frame)
    else:
        builder.dense(call, kernel, precision, frame)


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


def _quantized_frame(builder: Builder, call: Call, features: int, numerics: Int8) -> Vector:
    """The role that quantizes what a layer of scheme int8 reads."""
    source, weights = call.inputs[:2]
    assert source is not None
    assert weights is not None
    vector = builder.read(source, call)
    # Reciprocal scales of x stand behind the packed weights.
    place = weights.offset_bytes + weights.type.size - 4 * features
    inverse = Change(arithmetic=Arithmetic.MUL, operand=Constant(place, features))
    rounding = Change(rounding=Rounding(numerics.x_dtype, numerics.x_zero_point))
    frame = Vector(f"{call.name}.x", features, None, numerics.x_dtype)
    builder.roles.append(
        ElementwiseRole(
            f"{call.name}_x", call.origin, frame, (), vector, (inverse, rounding), vector.dtype
        )
    )
    return frame


def _integer_recurrent(
    builder: Builder, call: Call, kernel: RecurrentKernel, numerics: Integer
) -> None:
    cell, op = kernel.op, numerics.layer
    placed = HAND_PLACED.get(type(cell))
    if placed is not None and not placed.has_integers:
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for an integer {cell.kind}; use int8"
        )
    if op.h_exponent or (not op.is_wide and op.output_multiplier < _H_STEPS):
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for an integer h that begins beyond [-1, 1]; "
            "quantize with int8"
        )
    if op.is_wide or (op.output_multiplier, op.output_shift) != (_H_STEPS, 15):
        raise CapabilityError(
            f"{call.origin}: target cuda has no code for an h of 16 bits that others read, or of "
            "calibrated steps; quantize with QuantizeOptions(wide_h=False)"
        )
    builder.expect_stream(call, kernel)
    source, weights, _, *initial, tables = call.inputs
    assert source is not None
    assert weights is not None
    assert tables is not None
    frame = builder.read(source, call)
    y, *after = call.outputs
    states = [
        builder.state(call, old, new, cell.hidden) for old, new in zip(initial, after, strict=False)
    ]
    has_cell_state = placed is not None and placed.carried is Carried.CELL
    # A GRU remembers h in 16 bits; everybody else sees it in 8.
    h = states[0] if has_cell_state else Vector(f"{call.name}.y", cell.hidden, None, DType.I8)
    builder.roles.append(
        RecurrentRole(
            call.name,
            call.origin,
            h,
            builder.show(y, h),
            kernel,
            weights.offset_bytes,
            frame,
            states[1] if has_cell_state else None,
            (),
            IntegerPrecision(
                form_of(kernel),
                numerics.op,
                numerics.x_dtype,
                tables.offset_bytes,
                tables.type.shape[0],
            ),
            None if has_cell_state else states[0],
            None,
        )
    )


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
