"""The roles found so far, and the vectors that they make: what every kind of call is taken with."""

from __future__ import annotations

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.ops import (
    Direction,
)
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space
from edgelstm_targets.numba_cuda.cells import HAND_PLACED
from edgelstm_targets.numba_cuda.pipeline import (
    FALLBACK,
    Change,
    Constant,
    DenseRole,
    ElementwiseRole,
    RecurrentRole,
    Role,
    Vector,
)
from edgelstm_targets.numba_cuda.precision import Bytes, Precision


class Builder:
    """The roles found so far, and which vector stands where in the program's memory."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roles: list[Role] = []
        self.current: dict[tuple[Space, int], Vector] = {}
        self.written_states: set[int] = set()

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
        if type(kernel.op) not in HAND_PLACED:
            names = ", ".join(cell.__name__ for cell in HAND_PLACED)
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

    def elementwise(self, call: Call, x: Buffer, extent: int, *changes: Change) -> None:
        """A chain of element-wise operations."""
        source = self.read(x, call)
        target, outputs = self.write(call, extent)
        self.roles.append(
            ElementwiseRole(call.name, call.origin, target, outputs, source, changes, source.dtype)
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
