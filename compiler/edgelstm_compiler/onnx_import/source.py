"""What an import function sees: one ONNX node with its inputs resolved and attributes typed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Reshape, Transpose
from edgelstm_compiler.ir.types import Array, Op, TensorType, Value
from edgelstm_compiler.onnx_import.builder import GraphBuilder, Growth
from edgelstm_compiler.onnx_import.frames import (
    Count,
    Dependence,
    FramesDecideError,
    Line,
    Opaque,
    RefusedError,
    Relative,
    Repeated,
    explain,
    product,
)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A tensor that is known at compile time.

    Args:
        name: in the model.
        trial: its elements, at the trial number of frames.
        frames: how it depends on that number; None where it does not.
    """

    name: str
    trial: Array = field(repr=False)
    frames: Dependence = None

    @property
    def data(self) -> Array:
        """Its elements, where they are the same at every number of frames.

        Raises:
            FramesDecideError: they are not.
        """
        if self.frames is not None:
            raise FramesDecideError(explain(self.name, self.frames))
        return self.trial

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents, at the trial number of frames."""
        return tuple(self.trial.shape)


Operand: TypeAlias = "Known | Value"
Results: TypeAlias = "Sequence[Operand | None]"


def shape_of(operand: Operand) -> tuple[int, ...]:
    """Extents of a tensor, known or not."""
    return operand.shape if isinstance(operand, Known) else operand.type.shape


def growth_of(operand: Operand, builder: GraphBuilder) -> Growth:
    """What each extent grows by with one frame more; None where that is not known."""
    if isinstance(operand, Value):
        return builder.growth(operand)
    if isinstance(operand.frames, Repeated):
        return operand.frames.growth
    if isinstance(operand.frames, Relative):
        return operand.frames.growth(operand.trial.ndim)
    if isinstance(operand.frames, Opaque):
        return (None,) * operand.trial.ndim
    return (0,) * operand.trial.ndim


@dataclass(frozen=True, slots=True, eq=False)
class OnnxNode:
    """One ONNX node.

    Args:
        op_type: ONNX operator.
        opset: version of the operators.
        origin: how messages call the node.
        name: for the nodes made from it.
        inputs: resolved; None where an optional input is absent.
        outputs: names; "" where the output is absent or nobody reads it.
        attributes: by name.
        builder: receives the nodes.
    """

    op_type: str
    opset: int
    origin: str
    name: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    builder: GraphBuilder

    def is_wanted(self, index: int) -> bool:
        """Whether somebody reads this output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def optional(self, index: int) -> Operand | None:
        """An input that may be absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def operand(self, index: int) -> Operand:
        """An input that must be there."""
        found = self.optional(index)
        if found is None:
            raise ModelError(f"{self.origin}: input {index} is missing")
        return found

    def constant(self, index: int, what: str) -> Array:
        """An input that must be known at compile time."""
        found = self.operand(index)
        if isinstance(found, Known):
            return found.data
        raise RefusedError(f"{what} must be constant, found the computed value '{found.name}'")

    def ints(self, index: int, what: str) -> tuple[int, ...]:
        """An integer vector (or scalar) known at compile time."""
        data = self.constant(index, what)
        if data.dtype.kind not in "iu" or data.ndim > 1:
            raise ModelError(
                f"{self.origin}: {what} must be a vector of integers, found {data.dtype}"
            )
        return tuple(int(item) for item in data.reshape(-1))

    def counts(self, index: int, what: str) -> tuple[Count, ...]:
        """An integer vector (or scalar) known at compile time as lines over the frames."""
        found = self.operand(index)
        if not (isinstance(found, Known) and isinstance(found.frames, Line)):
            return tuple(Count(item) for item in self.ints(index, what))
        trial, slope = found.trial, found.frames.slope
        if trial.dtype.kind not in "iu" or trial.ndim > 1:
            raise ModelError(
                f"{self.origin}: {what} must be a vector of integers, found {trial.dtype}"
            )
        frames = self.builder.frames
        return tuple(
            Count.of(int(a), int(b), frames)
            for a, b in zip(trial.reshape(-1), slope.reshape(-1), strict=True)
        )

    def extents(self, operand: Operand) -> tuple[Count | None, ...]:
        """The extents of an operand as lines over the frames; None where one is none."""
        growth = growth_of(operand, self.builder)
        frames = self.builder.frames
        return tuple(
            None if grows is None else Count.of(extent, grows, frames)
            for extent, grows in zip(shape_of(operand), growth, strict=True)
        )

    def size_of(self, operand: Operand) -> Count | None:
        """The number of elements as a line over the frames; None where it is none."""
        return product(self.extents(operand))

    def ints_from(self, attribute: str, index: int, since: int) -> tuple[int, ...] | None:
        """Integers that stand in an attribute up to an opset and in an input from it on."""
        if self.opset < since:
            return self.int_list(attribute)
        return None if self.optional(index) is None else self.ints(index, attribute)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute, rounded to float32 as ONNX stores it."""
        return float(np.float32(self.attributes.get(name, default)))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        return as_text(self.attributes.get(name, default))

    def int_list(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the attribute is absent."""
        found = self.attributes.get(name)
        return None if found is None else tuple(int(item) for item in found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of floats; empty where the attribute is absent."""
        return tuple(float(item) for item in self.attributes.get(name, ()))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty where the attribute is absent."""
        return tuple(as_text(item) for item in self.attributes.get(name, ()))

    def axis(self, axis: int, rank: int, *, what: str = "axis") -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            raise ShapeError(f"{self.origin}: {what} {axis} of a tensor with {rank} axes")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front, each once."""
        found = tuple(self.axis(axis, rank) for axis in axes)
        if len(set(found)) != len(found):
            raise ShapeError(f"{self.origin}: an axis stands twice in {tuple(axes)}")
        return found

    def derived(self, operand: Known, suffix: str, data: Array) -> Known:
        """A constant computed from another."""
        return Known(f"{operand.name}.{suffix}", data)

    def value(self, operand: Operand) -> Value:
        """The graph's value for an operand; a known tensor becomes a constant of the graph."""
        if not isinstance(operand, Known):
            return operand
        builder = self.builder
        if isinstance(operand.frames, (Repeated, Relative)):
            # The same for every frame, or by the distance of two: the stream finds out.
            data, growth = builder.in_float32(operand.trial), growth_of(operand, builder)
            return builder.constant(operand.name, data, self.origin, growth)
        return builder.constant(operand.name, builder.in_float32(operand.data), self.origin)

    def emit_all(
        self, op: Op, *operands: Operand | None, growth: Growth | None = None
    ) -> tuple[Value, ...]:
        """Add a node.

        Args:
            op: what it does.
            operands: what it reads.
            growth: what the extents of its one output grow by with a frame more; None: as the
                axes that run through the operator do.

        Raises:
            ShapeError: the operator's inputs contradict each other.
        """
        inputs = tuple(None if item is None else self.value(item) for item in operands)
        return self.builder.emit(op, inputs, self.name, self.origin, growth)

    def emit(self, op: Op, *operands: Operand | None, growth: Growth | None = None) -> Value:
        """Add a node with one output (or whose first output matters)."""
        return self.emit_all(op, *operands, growth=growth)[0]

    def reshape(self, operand: Operand, shape: Sequence[int | Count | None]) -> Operand:
        """The same elements in another shape; nothing where the shape is already that.

        Args:
            operand: the elements.
            shape: extents; None for one that is no line over the frames, at most one of them.
        """
        frames = self.builder.frames
        known = [extent.at(frames) if isinstance(extent, Count) else extent for extent in shape]
        rest = math.prod(extent for extent in known if extent is not None)
        count = math.prod(shape_of(operand))
        target = tuple(count // max(rest, 1) if extent is None else extent for extent in known)
        growth = tuple(
            None if extent is None else extent.slope if isinstance(extent, Count) else 0
            for extent in shape
        )
        if shape_of(operand) == target:
            return operand
        if isinstance(operand, Known):
            return self.derived(operand, "reshaped", operand.data.reshape(target))
        if all(isinstance(extent, int) for extent in shape):
            return self.emit(Reshape(target), operand)
        return self.emit(Reshape(target), operand, growth=growth)

    def transpose(self, operand: Operand, perm: Sequence[int]) -> Operand:
        """Axes in another order; nothing where the order is already that."""
        target = tuple(perm)
        if target == tuple(range(len(target))):
            return operand
        if isinstance(operand, Known):
            return self.derived(operand, "transposed", operand.data.transpose(target))
        return self.emit(Transpose(target), operand)


def as_text(found: Any) -> str:
    """A string attribute as text; bytes that are no UTF-8 are shown with question marks."""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def type_of(operand: Operand) -> TensorType | None:
    """The type of an operand; None for an element type that graphs do not know."""
    if isinstance(operand, Value):
        return operand.type
    try:
        return TensorType.of(operand.trial)
    except KeyError:
        return None
