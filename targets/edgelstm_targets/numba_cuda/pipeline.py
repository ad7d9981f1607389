"""Pipeline: roles that work side by side on successive frames, and what they hand over.

A role is one thing that a group of warps does with every frame. Roles run as a wavefront: while a
layer works on frame t, the layer above it works on frame t - 1. What a role makes goes into a ring
of vectors in shared memory, deep enough for its slowest reader. Nothing here depends on a chip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.ops.elementwise import Arithmetic
from edgelstm_targets.numba_cuda.precision import (
    FULL,
    Integer,
    PackedPhase,
    Precision,
    packed_phases,
)

FALLBACK = "use --target host, which computes it"
"""What a refusal ends with."""


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """What a role hands over for each frame.

    Args:
        name: for texts.
        extent: its length.
        state_offset: where its last value stands in the state block, or None.
        dtype: of an element: f32, i8 or i16.
    """

    name: str
    extent: int
    state_offset: int | None = None
    dtype: DType = DType.F32


@dataclass(frozen=True, slots=True)
class Constant:
    """A float32 tensor in the weight blob."""

    offset_bytes: int
    extent: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """To whole numbers: clamp(rint(value) + zero_point) within an integer type."""

    dtype: DType
    zero_point: int


@dataclass(frozen=True, slots=True)
class Change:
    """One element-wise operation of a chain.

    Args:
        activation: a function of the value; or None, and then
        arithmetic: an operation with
        operand: a constant (one element, or one for each) or another vector.
        is_swapped: the operand stands on the left.
        rounding: or this, and nothing else.
        number: or that is added, and nothing else.
    """

    activation: Activation | None = None
    arithmetic: Arithmetic | None = None
    operand: Constant | Vector | None = None
    is_swapped: bool = False
    rounding: Rounding | None = None
    number: float = 0.0


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

    def tables(self) -> tuple[int | None, int]:
        """Offset in the weight blob of the tables that it looks up, and how many there are."""
        return None, 0


@dataclass(frozen=True, slots=True, eq=False)
class ElementwiseRole(Role):
    """A chain of element-wise operations on a vector, or on an input of the model.

    Args:
        source: a vector, or the offset in the input block.
        changes: the chain.
        source_dtype: of an element of the source.
    """

    source: Vector | int
    changes: tuple[Change, ...]
    source_dtype: DType = DType.F32

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
        precision: in what numbers it computes.
        memory: h as the cell mixes it, where that is another vector than the target.
        factor: h as products see it, where that is another vector than the target.
    """

    kernel: RecurrentKernel
    weights: int
    x: Vector
    cell: Vector | None
    cell_outputs: tuple[int, ...]
    precision: Precision = FULL
    memory: Vector | None = None
    factor: Vector | None = None

    def sources(self) -> tuple[Vector, ...]:
        """The frame."""
        return (self.x,)

    def targets(self) -> tuple[Vector, ...]:
        """Its h in all forms, and the cell state."""
        found = (self.target, self.memory, self.factor, self.cell)
        return tuple(vector for vector in found if vector is not None)

    @property
    def seen(self) -> Vector:
        """What its own products see of h."""
        return self.target if self.factor is None else self.factor

    def tables(self) -> tuple[int | None, int]:
        """Those of its functions."""
        return _tables_of(self.precision)

    def packed(self) -> tuple[PackedPhase, ...]:
        """Where the parts of its weights stand in the blob."""
        kernel = self.kernel
        return packed_phases(
            self.precision,
            kernel.phases,
            kernel.op.hidden,
            self.weights,
            has_peepholes=kernel.has_peepholes,
        )


@dataclass(frozen=True, slots=True, eq=False)
class DenseRole(Role):
    """A dense layer on packed weights."""

    kernel: DenseKernel
    weights: int
    x: Vector
    precision: Precision = FULL

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)

    def tables(self) -> tuple[int | None, int]:
        """That of its activation."""
        return _tables_of(self.precision)

    def packed(self) -> tuple[PackedPhase, ...]:
        """Where the parts of its weights stand in the blob."""
        kernel = self.kernel
        return packed_phases(
            self.precision, kernel.phases, kernel.units, self.weights, has_peepholes=False
        )


def _tables_of(precision: Precision) -> tuple[int | None, int]:
    if isinstance(precision, Integer):
        return precision.tables, precision.table_count
    return None, 0


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRole(Role):
    """Softmax of a vector, or its logarithm."""

    x: Vector
    is_log: bool

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class IntegerSoftmaxRole(Role):
    """Softmax of int16 as int16: `IntegerSoftmax` says how."""

    x: Vector
    multiplier: int
    shift: int
    table: int
    """Its offset in the weight blob."""

    def sources(self) -> tuple[Vector, ...]:
        """The vector."""
        return (self.x,)

    def tables(self) -> tuple[int | None, int]:
        """That of its powers."""
        return self.table, 1


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


def arrange(roles: Sequence[Role]) -> Pipeline:
    """Roles in the order of the program as a wavefront."""
    fused = _fuse(tuple(roles))
    lags = _lags(fused)
    return Pipeline(fused, lags, _depths(fused, lags))


def _fuse(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """Element-wise roles that only feed another one, and as its source only, become part of it."""
    result: list[Role] = []
    for role in roles:
        if isinstance(role, ElementwiseRole) and isinstance(role.source, Vector):
            maker = next((each for each in result if each.target is role.source), None)
            uses = sum(each.sources().count(role.source) for each in roles)
            if isinstance(maker, ElementwiseRole) and not maker.outputs and uses == 1:
                result.remove(maker)
                changes = maker.changes + role.changes
                role = dataclasses.replace(
                    role,
                    source=maker.source,
                    changes=changes,
                    source_dtype=maker.source_dtype,
                )
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
