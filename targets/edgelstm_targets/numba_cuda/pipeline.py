"""Program -> Pipeline: roles that work side by side on successive frames, and what they hand over.

A role is one thing that a group of warps does with every frame. Roles run as a wavefront: while a
layer works on frame t, the layer above it works on frame t - 1. What a role makes goes into a ring
of vectors in shared memory, deep enough for its slowest reader. Nothing here depends on a chip.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import Activation
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
from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_compiler.ir.program import Buffer, Call, Program, Space

_FALLBACK = "use --target host, which computes it"


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """What a role hands over for each frame.

    Args:
        name: for texts.
        extent: its length.
        state_offset: where its last value stands in the state block, or None.
    """

    name: str
    extent: int
    state_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A float32 tensor in the weight blob."""

    offset_bytes: int
    extent: int


@dataclass(frozen=True, slots=True)
class Change:
    """One element-wise operation of a chain.

    Args:
        activation: a function of the value; or None, and then
        arithmetic: an operation with
        operand: a constant (one element, or one for each) or another vector.
        is_swapped: the operand stands on the left.
    """

    activation: Activation | None = None
    arithmetic: Arithmetic | None = None
    operand: Constant | Vector | None = None
    is_swapped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """One thing done with every frame.

    Args:
        name: a C identifier part.
        origin: the ONNX node.
        target: what it makes.
        outputs: offsets in the output block where that is wanted too.
    """

    name: str
    origin: str
    target: Vector
    outputs: tuple[int, ...]

    def sources(self) -> tuple[Vector, ...]:
        """Vectors of the same frame that it reads."""
        raise NotImplementedError

    def targets(self) -> tuple[Vector, ...]:
        """Vectors that it makes."""
        return (self.target,)


@dataclass(frozen=True, slots=True, eq=False)
class ElementwiseRole(Role):
    """A chain of element-wise operations on a vector, or on an input of the model.

    Args:
        source: a vector, or the offset in the input block.
        changes: the chain.
    """

    source: Vector | int
    changes: tuple[Change, ...]

    def sources(self) -> tuple[Vector, ...]:
        """The vector and vectors that it is combined with."""
        operands = [change.operand for change in self.changes]
        return tuple(item for item in (self.source, *operands) if isinstance(item, Vector))


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentRole(Role):
    """A recurrent layer; `target` is its h.

    Args:
        kernel: the layer.
        weights: offset of its packed weights in the weight blob.
        x: the frame.
        cell: the cell state, or None.
        cell_outputs: as `outputs`, of the cell state.
    """

    kernel: RecurrentKernel
    weights: int
    x: Vector
    cell: Vector | None
    cell_outputs: tuple[int, ...]

    def sources(self) -> tuple[Vector, ...]:
        """The frame."""
        return (self.x,)

    def targets(self) -> tuple[Vector, ...]:
        """The states."""
        return (self.target,) if self.cell is None else (self.target, self.cell)


@dataclass(frozen=True, slots=True, eq=False)
class DenseRole(Role):
    """A dense layer on packed weights."""

    kernel: DenseKernel
    weights: int
    x: Vector

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRole(Role):
    """Softmax of a vector, or its logarithm."""

    x: Vector
    is_log: bool

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class LayerNormRole(Role):
    """Layer normalization of a vector."""

    x: Vector
    epsilon: float
    scale: Constant
    bias: Constant | None

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Roles in the order of the program.

    Args:
        roles: each reads only what roles before it make.
        lags: how many frames each role is behind the first.
        depths: for every vector, how many frames its ring holds (a power of two).
    """

    roles: tuple[Role, ...]
    lags: Mapping[Role, int] = field(repr=False)
    depths: Mapping[Vector, int] = field(repr=False)

    @property
    def last_lag(self) -> int:
        """Frames that the last role is behind the first."""
        return max(self.lags.values())


def make_pipeline(program: Program) -> Pipeline:
    """The roles of a program.

    Raises:
        CapabilityError: a kernel, shape or type that has no device code, by the name of its node.
    """
    builder = _Builder(program)
    for call in program.calls:
        builder.take(call)
    builder.finish()
    roles = _fuse(tuple(builder.roles))
    lags = _lags(roles)
    return Pipeline(roles, lags, _depths(roles, lags))


class _Builder:
    """The roles found so far, and which vector stands where in the program's memory."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roles: list[Role] = []
        self.current: dict[tuple[Space, int], Vector] = {}
        self.written_states: set[int] = set()

    def take(self, call: Call) -> None:
        """One call of the program."""
        for buffer in (*call.inputs, *call.outputs):
            if buffer is not None and buffer.type.dtype is not DType.F32:
                raise CapabilityError(
                    f"{call.origin}: target cuda computes in f32, {buffer.name!r} is "
                    f"{buffer.type.dtype.value}; {_FALLBACK}"
                )
        match call.kernel:
            case RecurrentKernel():
                self._recurrent(call, call.kernel)
            case DenseKernel():
                self._dense(call, call.kernel)
            case CopyKernel():
                self._copy(call)
            case OpKernel():
                self._operator(call, call.kernel)
            case _:
                raise CapabilityError(
                    f"{call.origin}: target cuda has no {call.kernel.kind} yet (integer modes are "
                    f"not on CUDA so far); {_FALLBACK}"
                )

    def finish(self) -> None:
        """Check that every state is carried on."""
        for spec in self.program.signature.states:
            if spec.offset_bytes not in self.written_states:
                raise CapabilityError(
                    f"state {spec.name!r} is not the state of a recurrent layer: target cuda does "
                    f"not carry it; {_FALLBACK}"
                )

    def _recurrent(self, call: Call, kernel: RecurrentKernel) -> None:
        if kernel.steps != 1 or kernel.batch != 1:
            raise CapabilityError(
                f"{call.origin}: target cuda steps one frame of one stream, this layer has "
                f"{kernel.steps} frames of a batch of {kernel.batch}; compile with batch 1, and "
                "open artifact.session(streams=N)"
            )
        x, weights, lengths, *initial = call.inputs
        if lengths is not None or kernel.op.direction is not Direction.FORWARD:
            raise CapabilityError(f"{call.origin}: target cuda reads whole, forward sequences only")
        assert x is not None
        assert weights is not None
        source = self._read(x, call)
        y, *states = call.outputs
        vectors = [
            self._state(call, before, after, kernel.op.hidden)
            for before, after in zip(initial, states, strict=False)
        ]
        h, cell = vectors[0], vectors[1] if len(vectors) > 1 else None
        if y is not None:
            self.current[y.space, y.offset_bytes] = h
        outputs = (y.offset_bytes,) if y is not None and y.space is Space.OUTPUT else ()
        self.roles.append(
            RecurrentRole(
                call.name, call.origin, h, outputs, kernel, weights.offset_bytes, source, cell, ()
            )
        )

    def _state(
        self, call: Call, before: Buffer | None, after: Buffer | None, hidden: int
    ) -> Vector:
        if (
            before is None
            or after is None
            or before.space is not Space.STATE
            or after.space is not Space.STATE
            or before.offset_bytes != after.offset_bytes
        ):
            raise CapabilityError(
                f"{call.origin}: target cuda updates states in place, and this layer's state is "
                f"read elsewhere before it changes, or is none of the stream's; {_FALLBACK}"
            )
        vector = Vector(before.name, hidden, before.offset_bytes)
        self.current[Space.STATE, before.offset_bytes] = vector
        self.written_states.add(before.offset_bytes)
        return vector

    def _dense(self, call: Call, kernel: DenseKernel) -> None:
        x, weights = call.inputs
        assert x is not None
        assert weights is not None
        if kernel.rows != 1:
            raise CapabilityError(f"{call.origin}: {kernel.rows} rows a frame; {_FALLBACK}")
        source = self._read(x, call)
        target, outputs = self._write(call, kernel.units)
        self.roles.append(
            DenseRole(call.name, call.origin, target, outputs, kernel, weights.offset_bytes, source)
        )

    def _operator(self, call: Call, kernel: OpKernel) -> None:
        op, x = kernel.op, call.inputs[0]
        assert x is not None
        extent = call.outputs[0].type.size if call.outputs[0] is not None else 0
        match op:
            case Softmax() if x.type.shape[op.axis] == x.type.size:
                source = self._read(x, call)
                target, outputs = self._write(call, extent)
                is_log = isinstance(op, LogSoftmax)
                self.roles.append(
                    SoftmaxRole(call.name, call.origin, target, outputs, source, is_log)
                )
            case LayerNorm() if math.prod(x.type.shape[op.axis :]) == x.type.size:
                scale, bias = (self._constant(b, call) for b in (*call.inputs[1:], None)[:2])
                assert scale is not None
                source = self._read(x, call)
                target, outputs = self._write(call, extent)
                self.roles.append(
                    LayerNormRole(
                        call.name, call.origin, target, outputs, source, op.epsilon, scale, bias
                    )
                )
            case Unary():
                self._elementwise(call, x, extent, Change(activation=op.activation))
            case Binary():
                self._binary(call, op, extent)
            case Reshape():
                self._elementwise(call, x, extent, None)
            case _:
                raise CapabilityError(
                    f"{call.origin}: target cuda has no code for {op.kind} of {x.type}; {_FALLBACK}"
                )

    def _binary(self, call: Call, op: Binary, extent: int) -> None:
        a, b = call.inputs
        assert a is not None
        assert b is not None
        is_swapped = a.space is Space.WEIGHTS
        value, operand = (b, a) if is_swapped else (a, b)
        if value.type.size != extent or operand.type.size not in (1, extent):
            raise CapabilityError(
                f"{call.origin}: target cuda does not broadcast {a.type} with {b.type}; {_FALLBACK}"
            )
        if operand.space is Space.WEIGHTS:
            taken: Constant | Vector = Constant(operand.offset_bytes, operand.type.size)
        else:
            taken = self._read(operand, call)
            if taken.extent != extent:
                raise CapabilityError(
                    f"{call.origin}: target cuda does not broadcast {operand.type}; {_FALLBACK}"
                )
        change = Change(arithmetic=op.arithmetic, operand=taken, is_swapped=is_swapped)
        self._elementwise(call, value, extent, change)

    def _elementwise(self, call: Call, x: Buffer, extent: int, change: Change | None) -> None:
        source = self._read(x, call)
        target, outputs = self._write(call, extent)
        changes = () if change is None else (change,)
        self.roles.append(ElementwiseRole(call.name, call.origin, target, outputs, source, changes))

    def _copy(self, call: Call) -> None:
        (source,), (target,) = call.inputs, call.outputs
        assert source is not None
        assert target is not None
        if target.space is not Space.OUTPUT:
            raise CapabilityError(
                f"{call.origin}: target cuda carries the states of recurrent layers only; "
                f"{_FALLBACK}"
            )
        vector = self._read(source, call)
        for index, role in enumerate(self.roles):
            places = (target.offset_bytes,)
            if role.target is vector:
                self.roles[index] = dataclasses.replace(role, outputs=role.outputs + places)
            elif isinstance(role, RecurrentRole) and role.cell is vector:
                self.roles[index] = dataclasses.replace(
                    role, cell_outputs=role.cell_outputs + places
                )

    def _read(self, buffer: Buffer, call: Call) -> Vector:
        place = (buffer.space, buffer.offset_bytes)
        if place not in self.current:
            if buffer.space is not Space.INPUT:
                raise CapabilityError(
                    f"{call.origin}: target cuda cannot read {buffer.name!r} here; {_FALLBACK}"
                )
            vector = Vector(buffer.name, buffer.type.size)
            name = f"input_{buffer.offset_bytes}"
            self.roles.append(
                ElementwiseRole(name, buffer.name, vector, (), buffer.offset_bytes, ())
            )
            self.current[place] = vector
        return self.current[place]

    def _write(self, call: Call, extent: int) -> tuple[Vector, tuple[int, ...]]:
        (buffer,) = call.outputs
        assert buffer is not None
        vector = Vector(buffer.name, extent)
        self.current[buffer.space, buffer.offset_bytes] = vector
        return vector, (buffer.offset_bytes,) if buffer.space is Space.OUTPUT else ()

    def _constant(self, buffer: Buffer | None, call: Call) -> Constant | None:
        if buffer is None:
            return None
        if buffer.space is not Space.WEIGHTS:
            raise CapabilityError(f"{call.origin}: {buffer.name!r} is no constant; {_FALLBACK}")
        return Constant(buffer.offset_bytes, buffer.type.size)


def _fuse(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """Element-wise roles that only feed another one become part of it."""
    result: list[Role] = []
    for role in roles:
        if isinstance(role, ElementwiseRole) and isinstance(role.source, Vector):
            maker = next((each for each in result if each.target is role.source), None)
            readers = [each for each in roles if role.source in each.sources()]
            if isinstance(maker, ElementwiseRole) and not maker.outputs and len(readers) == 1:
                result.remove(maker)
                changes = maker.changes + role.changes
                role = dataclasses.replace(role, source=maker.source, changes=changes)
        result.append(role)
    return tuple(result)


def _lags(roles: Sequence[Role]) -> dict[Role, int]:
    made: dict[Vector, int] = {}
    lags: dict[Role, int] = {}
    for role in roles:
        lags[role] = max((made[vector] + 1 for vector in role.sources()), default=0)
        made.update((vector, lags[role]) for vector in role.targets())
    return lags


def _depths(roles: Sequence[Role], lags: Mapping[Role, int]) -> dict[Vector, int]:
    depths: dict[Vector, int] = {}
    for maker in roles:
        for vector in maker.targets():
            readers = [lags[role] for role in roles if vector in role.sources()]
            needed = max([2, *(lag - lags[maker] + 1 for lag in readers)])
            depths[vector] = 1 << (needed - 1).bit_length()
    return depths
