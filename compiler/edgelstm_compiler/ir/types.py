"""Types, values, nodes and ties between axes: the words every graph stage is written in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.time import Time

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and static shape of a tensor."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: Sequence[int]) -> TensorType:
        """The same element type with another shape."""
        return TensorType(self.dtype, tuple(int(extent) for extent in shape))

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]"

    @classmethod
    def of(cls, data: Array) -> TensorType:
        """The type of an array."""
        return cls(DType.from_numpy(data.dtype), tuple(data.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A named tensor of a graph; compared by identity, names are unique in a graph."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Tie:
    """Two axes of one node that are the same axis: frame t of one is frame t of the other.

    Args:
        input: index of the node's input.
        input_axis: axis of that input.
        output: index of the node's output.
        output_axis: axis of that output.
    """

    input: int
    input_axis: int
    output: int
    output_axis: int


class Op:
    """Base of all operators: a frozen dataclass with typed fields, never a dict of attributes.

    Subclasses state their shape rule (`infer`) and how axes run through them (`ties`).
    """

    __slots__ = ()

    @property
    def kind(self) -> str:
        """The operator's name in text forms, manifests and the NumPy evaluation."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """The operator's name for people: quantized layers say which cell they are."""
        return self.kind

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Types of the outputs.

        Raises:
            ValueError: the inputs contradict the operator; the message says how.
        """
        raise NotImplementedError

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Axes that pass through unmixed: every slice along them is computed independently."""
        raise NotImplementedError

    def moves(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Axes beside the ties that are time where the input's is, but moved, thinned or mixed.

        `time` says by how much.
        """
        del inputs, outputs
        return ()

    def time(self, time: Time, index: int, axis: int, inputs: Sequence[TensorType | None]) -> Time:
        """How the output that `ties` or `moves` lead to stands to the frames.

        Args:
            time: of the input.
            index: of the input.
            axis: of the input that is time.
            inputs: types of all inputs over some number of frames.
        """
        del index, axis, inputs
        return time

    def resized(self, output_axis: int, extent: int) -> Op:
        """The operator for another extent of that axis of its outputs, where its fields name it."""
        del output_axis, extent
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Args:
        op: what it does.
        inputs: one value each; None where an optional input is absent.
        outputs: all outputs of the op, also unused ones.
        name: unique in the graph.
        origin: the ONNX node it came from, for messages ("LSTM 'lstm_1'").
    """

    op: Op
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    name: str
    origin: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value known at compile time; `data` is read-only."""

    value: Value
    data: Array = field(repr=False)

    @classmethod
    def of(cls, name: str, data: Array) -> Constant:
        """A constant holding a read-only contiguous copy of `data`."""
        # ascontiguousarray turns scalars into vectors, so the shape is put back.
        frozen = np.ascontiguousarray(data).reshape(data.shape).copy()
        frozen.setflags(write=False)
        return cls(Value(name, TensorType.of(frozen)), frozen)
