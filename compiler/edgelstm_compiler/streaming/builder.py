"""The step graph while it is being built, and what the rules of the operators may ask and add."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.graph import Graph, State, constant_data
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.refusal import CannotStepError


class StepBuilder:
    """The step graph as far as it is built; the rules in the sibling files extend it.

    Attributes:
        axes: which axes are time and batch in the sequence graph.
        steps: number of frames in the sequence graph.
    """

    def __init__(self, graph: Graph, axes: AxisClasses, steps: int) -> None:
        self.axes = axes
        self.steps = steps
        self._data = constant_data(graph)
        self._new: dict[Value, Value] = {}
        self._reduced: set[Value] = set()
        self._names: set[str] = set()
        self._constants: dict[Value, Constant] = {}
        self.nodes: list[Node] = []
        self.states: list[State] = []

    def time_axis(self, value: Value) -> int | None:
        """Where time stands in a value of the sequence graph.

        Raises:
            CannotStepError: it has two time axes.
        """
        axes = self.axes.time_axes(value)
        if len(axes) > 1:
            raise CannotStepError(
                f"{value.name!r} relates all frames to all frames (attention over time)"
            )
        return axes[0] if axes else None

    def constant(self, value: Value | None) -> Array | None:
        """The data of a constant of the sequence graph."""
        return None if value is None else self._data.get(value)

    def is_reduced(self, value: Value) -> bool:
        """Whether the value is the newest frame's view of something (any-time)."""
        return value in self._reduced

    def frame_type(self, value: Value) -> TensorType:
        """The type of the value for one frame."""
        axis = self.time_axis(value)
        if axis is None:
            return value.type
        return value.type.with_shape(
            [1 if place == axis else extent for place, extent in enumerate(value.type.shape)]
        )

    def use(self, value: Value | None) -> Value | None:
        """The value of the step graph for one of the sequence graph; constants are cut to a frame.

        Raises:
            CannotStepError: a constant that differs from frame to frame.
        """
        if value is None or value in self._new:
            return None if value is None else self._new[value]
        data = self._data[value]
        axis = self.time_axis(value)
        if axis is not None:
            first = np.take(data, [0], axis)
            # By their bits: 1/-0.0 is not 1/0.0.
            if np.broadcast_to(first, data.shape).tobytes() != data.tobytes():
                raise CannotStepError(f"the constant {value.name!r} differs from frame to frame")
            data = first
        return self.add_constant(value.name, data, stands_for=value)

    def add_constant(self, name: str, data: Array, stands_for: Value | None = None) -> Value:
        """A constant of the step graph."""
        constant = Constant.of(self.fresh_name(name), data)
        self._constants[constant.value] = constant
        if stands_for is not None:
            self._new[stands_for] = constant.value
        return constant.value

    def define(self, value: Value, *, tensor: TensorType | None = None) -> Value:
        """The step graph's counterpart of a value that an input or node gives."""
        new = Value(self.fresh_name(value.name), tensor or self.frame_type(value))
        self._new[value] = new
        return new

    def alias(self, value: Value, stands_for: Value, *, reduced: bool = False) -> None:
        """Let `value` be what `stands_for` is."""
        self._new[value] = self._new[stands_for]
        if reduced or stands_for in self._reduced:
            self._reduced.add(value)

    def stand_for(self, value: Value, new: Value) -> None:
        """Let a value of the step graph be the counterpart of one of the sequence graph."""
        self._new[value] = new

    def mark_reduced(self, value: Value) -> None:
        """The value is an any-time view."""
        self._reduced.add(value)

    def emit(self, node: Node, op: Op, inputs: tuple[Value | None, ...]) -> Node:
        """The node's counterpart, defining its outputs.

        Raises:
            CannotStepError: one frame does not fit where all of them did.
        """
        try:
            types = op.infer([value.type if value is not None else None for value in inputs])
        except ValueError as error:
            raise CannotStepError(f"it cannot be computed for one frame alone: {error}") from error
        outputs = tuple(
            self.define(old, tensor=tensor) for old, tensor in zip(node.outputs, types, strict=True)
        )
        for old, new in zip(node.outputs, outputs, strict=True):
            if new.type != self.frame_type(old):
                raise CannotStepError(
                    f"{old.name!r} is {new.type} for one frame, expected {self.frame_type(old)}"
                )
        new_node = Node(op, inputs, outputs, node.name, node.origin)
        self.nodes.append(new_node)
        return new_node

    def fresh_name(self, name: str) -> str:
        """A value name that is not taken, and now is."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}.{count}"
        self._names.add(candidate)
        return candidate

    def constants(self) -> tuple[Constant, ...]:
        """The constants so far."""
        return tuple(self._constants.values())
