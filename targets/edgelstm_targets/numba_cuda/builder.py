"""Program -> Pipeline: which roles the kernel calls of a program become.

Calls on float32 are taken here; those of quantized layers in `quantized_roles.py`.
"""

from __future__ import annotations

import dataclasses
import math

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.cells import CELLS
from edgelstm_compiler.ir.kernels import CopyKernel, DenseKernel, OpKernel, RecurrentKernel
from edgelstm_compiler.ir.ops import (
    Binary,
    Direction,
    LayerNorm,
    LogSoftmax,
    Reshape,
    Softmax,
    Unary,
)
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_targets.numba_cuda.pipeline import (
    FALLBACK,
    Change,
    Constant,
    DenseRole,
    ElementwiseRole,
    LayerNormRole,
    Pipeline,
    RecurrentRole,
    Role,
    SoftmaxRole,
    Vector,
    arrange,
)
from edgelstm_targets.numba_cuda.precision import Bytes, Precision
from edgelstm_targets.numba_cuda.quantized_roles import take_integer_operator, take_layer


def make_pipeline(program: Program) -> Pipeline:
    """The roles of a program.

    Raises:
        CapabilityError: a kernel, shape or type that has no device code, by the name of its node.
    """
    builder = Builder(program)
    for call in program.calls:
        builder.take(call)
    builder.finish()
    return arrange(builder.roles)


class Builder:
    """The roles found so far, and which vector stands where in the program's memory."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roles: list[Role] = []
        self.current: dict[tuple[Space, int], Vector] = {}
        self.written_states: set[int] = set()

    def take(self, call: Call) -> None:
        """One call of the program."""
        for buffer in (*call.inputs, *call.outputs):
            if buffer is not None and buffer.space is not Space.WEIGHTS:
                self._expect_type(buffer, call)
        match call.kernel:
            case RecurrentKernel() | DenseKernel() as kernel:
                take_layer(self, call, kernel)
            case CopyKernel():
                self._copy(call)
            case OpKernel():
                if not take_integer_operator(self, call, call.kernel.op):
                    self._operator(call, call.kernel)
            case kernel:
                raise CapabilityError(
                    f"{call.origin}: target cuda has no {kernel.kind}; {FALLBACK}"
                )

    def _expect_type(self, buffer: Buffer, call: Call) -> None:
        if buffer.type.dtype not in (DType.F32, DType.I8, DType.I16):
            raise CapabilityError(
                f"{call.origin}: target cuda computes in f32, i16 and i8, {buffer.name!r} is "
                f"{buffer.type.dtype.value}; {FALLBACK}"
            )

    def finish(self) -> None:
        """Check that every state is carried on."""
        for spec in self.program.signature.states:
            if spec.offset_bytes not in self.written_states:
                raise CapabilityError(
                    f"state {spec.name!r} is not the state of a recurrent layer: target cuda does "
                    f"not carry it; {FALLBACK}"
                )

    def recurrent(
        self,
        call: Call,
        kernel: RecurrentKernel,
        precision: Precision,
        x: Vector | None = None,
    ) -> None:
        """A recurrent layer whose states and outputs are float32.

        Args:
            call: the call.
            kernel: the layer.
            precision: of its products.
            x: the frame where it is not the call's own.
        """
        self.expect_stream(call, kernel)
        source, weights, _, *initial = call.inputs
        assert source is not None
        assert weights is not None
        frame = self.read(source, call) if x is None else x
        y, *states = call.outputs
        vectors = [
            self.state(call, before, after, kernel.op.hidden)
            for before, after in zip(initial, states, strict=False)
        ]
        h, cell = vectors[0], vectors[1] if len(vectors) > 1 else None
        factor = None
        if isinstance(precision, Bytes):
            factor = Vector(f"{h.name}.bytes", kernel.op.hidden, None, DType.I8)
        self.roles.append(
            RecurrentRole(
                call.name,
                call.origin,
                h,
                self.show(y, h),
                kernel,
                weights.offset_bytes,
                frame,
                cell,
                (),
                precision,
                None,
                factor,
            )
        )

    def expect_stream(self, call: Call, kernel: RecurrentKernel) -> None:
        """One frame of one stream, forward, by a cell that has device code.

        Raises:
            CapabilityError: anything else.
        """
        if not isinstance(kernel.op, CELLS):
            names = ", ".join(cell.__name__ for cell in CELLS)
            raise CapabilityError(
                f"{call.origin}: target cuda has device code for {names} only, not for "
                f"{kernel.op.kind}; {FALLBACK}"
            )
        if kernel.steps != 1 or kernel.batch != 1:
            raise CapabilityError(
                f"{call.origin}: target cuda steps one frame of one stream, this layer has "
                f"{kernel.steps} frames of a batch of {kernel.batch}; compile with batch 1, and "
                "open artifact.session(streams=N)"
            )
        if call.inputs[2] is not None or kernel.op.direction is not Direction.FORWARD:
            raise CapabilityError(f"{call.origin}: target cuda reads whole, forward sequences only")

    def state(self, call: Call, before: Buffer | None, after: Buffer | None, hidden: int) -> Vector:
        """The vector of a state that the layer updates in place.

        Raises:
            CapabilityError: it is not updated in place.
        """
        if (
            before is None
            or after is None
            or before.space is not Space.STATE
            or after.space is not Space.STATE
            or before.offset_bytes != after.offset_bytes
        ):
            raise CapabilityError(
                f"{call.origin}: target cuda updates states in place, and this layer's state is "
                f"read elsewhere before it changes, or is none of the stream's; {FALLBACK}"
            )
        vector = Vector(before.name, hidden, before.offset_bytes, before.type.dtype)
        self.current[Space.STATE, before.offset_bytes] = vector
        self.written_states.add(before.offset_bytes)
        return vector

    def dense(
        self,
        call: Call,
        kernel: DenseKernel,
        precision: Precision,
        x: Vector | None = None,
    ) -> None:
        """A dense layer; arguments as of `recurrent`."""
        source, weights = call.inputs[:2]
        assert source is not None
        assert weights is not None
        if kernel.rows != 1:
            raise CapabilityError(f"{call.origin}: {kernel.rows} rows a frame; {FALLBACK}")
        vector = self.read(source, call) if x is None else x
        target, outputs = self.write(call, kernel.units)
        place = weights.offset_bytes
        self.roles.append(
            DenseRole(call.name, call.origin, target, outputs, kernel, place, vector, precision)
        )

    def _operator(self, call: Call, kernel: OpKernel) -> None:
        op, x = kernel.op, call.inputs[0]
        assert x is not None
        if not x.type.dtype.is_float and not isinstance(op, Reshape):
            raise CapabilityError(
                f"{call.origin}: target cuda has no code for {op.kind} of {x.type}; {FALLBACK}"
            )
        extent = call.outputs[0].type.size if call.outputs[0] is not None else 0
        match op:
            case Softmax() if x.type.shape[op.axis] == x.type.size:
                source = self.read(x, call)
                target, outputs = self.write(call, extent)
                is_log = isinstance(op, LogSoftmax)
                self.roles.append(
                    SoftmaxRole(call.name, call.origin, target, outputs, source, is_log)
                )
            case LayerNorm() if math.prod(x.type.shape[op.axis :]) == x.type.size:
                scale, bias = (self.constant(b, call) for b in (*call.inputs[1:], None)[:2])
                assert scale is not None
                source = self.read(x, call)
                target, outputs = self.write(call, extent)
                self.roles.append(
                    LayerNormRole(
                        call.name, call.origin, target, outputs, source, op.epsilon, scale, bias
                    )
                )
            case Unary():
                self.elementwise(call, x, extent, Change(activation=op.activation))
            case Binary():
                self._binary(call, op, extent)
            case Reshape():
                self.elementwise(call, x, extent)
            case _:
                raise CapabilityError(
                    f"{call.origin}: target cuda has no code for {op.kind} of {x.type}; {FALLBACK}"
                )

    def _binary(self, call: Call, op: Binary, extent: int) -> None:
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
            taken = self.read(operand, call)
            if taken.extent != extent:
                raise CapabilityError(
                    f"{call.origin}: target cuda does not broadcast {operand.type}; {FALLBACK}"
                )
        change = Change(arithmetic=op.arithmetic, operand=taken, is_swapped=is_swapped)
        self.elementwise(call, value, extent, change)

    def elementwise(self, call: Call, x: Buffer, extent: int, *changes: Change) -> None:
        """A chain of element-wise operations."""
        source = self.read(x, call)
        target, outputs = self.write(call, extent)
        self.roles.append(
            ElementwiseRole(call.name, call.origin, target, outputs, source, changes, source.dtype)
        )

    def _copy(self, call: Call) -> None:
        (source,), (target,) = call.inputs, call.outputs
        assert source is not None
        assert target is not None
        if target.space is not Space.OUTPUT:
            raise CapabilityError(
                f"{call.origin}: target cuda carries the states of recurrent layers only; "
                f"{FALLBACK}"
            )
        vector = self.read(source, call)
        for index, role in enumerate(self.roles):
            places = (target.offset_bytes,)
            if role.target is vector:
                self.roles[index] = dataclasses.replace(role, outputs=role.outputs + places)
            elif isinstance(role, RecurrentRole) and role.cell is vector:
                self.roles[index] = dataclasses.replace(
                    role, cell_outputs=role.cell_outputs + places
                )

    def read(self, buffer: Buffer, call: Call) -> Vector:
        """The vector that stands in a buffer."""
        place = (buffer.space, buffer.offset_bytes)
        if place not in self.current:
            if buffer.space is not Space.INPUT:
                raise CapabilityError(
                    f"{call.origin}: target cuda cannot read {buffer.name!r} here; {FALLBACK}"
                )
            dtype = buffer.type.dtype
            vector = Vector(buffer.name, buffer.type.size, None, dtype)
            name = f"input_{buffer.offset_bytes}"
            self.roles.append(
                ElementwiseRole(name, buffer.name, vector, (), buffer.offset_bytes, (), dtype)
            )
            self.current[place] = vector
        return self.current[place]

    def write(self, call: Call, extent: int) -> tuple[Vector, tuple[int, ...]]:
        """A new vector in the place of a call's output, and where the output block wants it."""
        (buffer,) = call.outputs
        assert buffer is not None
        vector = Vector(buffer.name, extent, None, buffer.type.dtype)
        return vector, self.show(buffer, vector)

    def show(self, buffer: Buffer | None, vector: Vector) -> tuple[int, ...]:
        """Let a vector stand in a buffer; where the output block wants it."""
        if buffer is None:
            return ()
        self.current[buffer.space, buffer.offset_bytes] = vector
        return (buffer.offset_bytes,) if buffer.space is Space.OUTPUT else ()

    def constant(self, buffer: Buffer | None, call: Call) -> Constant | None:
        """A constant operand."""
        if buffer is None:
            return None
        if buffer.space is not Space.WEIGHTS:
            raise CapabilityError(f"{call.origin}: {buffer.name!r} is no constant; {FALLBACK}")
        return Constant(buffer.offset_bytes, buffer.type.size)
