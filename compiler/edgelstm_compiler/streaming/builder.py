"""The step graph while it is being built, and what the rules of the operators may ask and add."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import numpy as np

from edgelstm_compiler.ir.graph import Graph, State, constant_data, producers
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.ops import Reshape, Where
from edgelstm_compiler.ir.time import Newest, Time
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.streaming.attention import Attentions
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.clock import Clock
from edgelstm_compiler.streaming.history import History
from edgelstm_compiler.streaming.refusal import CannotStepError

if TYPE_CHECKING:
    from edgelstm_compiler.streaming.walk_rule import Walked
    from edgelstm_compiler.streaming.weights_rule import Weights


class StepBuilder:
    """The step graph as far as it is built; the rules in the sibling files extend it.

    Attributes:
        axes: which axes are time and batch in the sequence graph.
        steps: number of frames in the sequence graph.
        clock: what step it is, and which values have an element in it.
        history: what is kept of earlier elements.
        most_frames: after how many the stream ends; None: never.
        weights: what stands for weights over time, see `weights_rule.py`.
        walked: sequences with more at their ends, see `walk_rule.py`.
        maxima: the largest of all frames of a value.
        counted: sums over time, with the time of their terms, the terms a frame, and all of them.
        attentions: which values relate frames to frames, and how far these look.
        context: frames that attention keeps where no mask of the model says how many; None: none.
        rows: of such values, when their rows are there.
        producers: the nodes of the sequence graph by what they give.
    """

    def __init__(
        self,
        graph: Graph,
        axes: AxisClasses,
        steps: int,
        *,
        drains: bool = False,
        context: int | None = None,
    ) -> None:
        self.axes = axes
        self.steps: int = steps
        self.attentions = Attentions(graph, axes)
        self.context = context
        self.rows: dict[Value, Time] = {}
        self.producers = producers(graph)
        self._once: dict[Hashable, Value] = {}
        self.clock = Clock(self, drains=drains)
        self.history = History(self, graph)
        self._data = constant_data(graph)
        self._new: dict[Value, Value] = {}
        self._times: dict[Value, Time] = {}
        self._newest: dict[Value, Newest] = {}
        self.crops: dict[Value, Value] = {}
        """Values that hold the newest elements of a timed one, and which."""
        self._names: set[str] = set()
        self._node_names = {node.name for node in graph.nodes}
        self._origin = ""
        self.most_frames: int | None = None
        self.weights: dict[Value, Weights] = {}
        self.walked: dict[Value, Walked] = {}
        self.maxima: dict[Value, Value] = {}
        self.counted: dict[Value, tuple[Time, int, int]] = {}
        self._constants: dict[Value, Constant] = {}
        self.nodes: list[Node] = []
        self.states: list[State] = []

    def time_axis(self, value: Value) -> int | None:
        """Where time stands in a value of the sequence graph.

        Raises:
            CannotStepError: it has two time axes.
        """
        return self.axes.time_axis(value)

    def constant(self, value: Value | None) -> Array | None:
        """The data of a constant of the sequence graph."""
        return None if value is None else self._data.get(value)

    def is_reduced(self, value: Value) -> bool:
        """Whether the value is the newest frame's view of something (any-time)."""
        return value in self._newest

    def newest(self, value: Value) -> Newest | None:
        """How an any-time value stands to the frames."""
        return self._newest.get(value)

    def time_of(self, value: Value) -> Time | None:
        """How a value along time stands to the frames; None where it is not along time.

        Raises:
            CannotStepError: it repeats something so often that nobody knows at which rate.
        """
        if value in self._times:
            return self._times[value]
        axis = self.time_axis(value)
        if axis is None:
            return None
        if value.type.shape[axis] != self.steps:
            raise CannotStepError(
                f"{value.name!r} has {value.type.shape[axis]} frames of the {self.steps}, and does "
                "not come from frames"
            )
        return Time()

    def is_repeated(self, value: Value) -> bool:
        """Whether a value along time is the same in every frame, as far as its nodes tell."""
        return value not in self._times and self.time_axis(value) is not None

    def set_time(self, value: Value, time: Time) -> None:
        """Say how a value along time stands to the frames.

        Raises:
            CannotStepError: it has another number of elements than that makes.
        """
        axis = self.time_axis(value)
        assert axis is not None
        extent = value.type.shape[axis]
        if extent != time.count(self.steps) and self.steps > 1:
            raise CannotStepError(
                f"{value.name!r} has {extent} frames of {self.steps}, expected "
                f"{time.count(self.steps)}"
            )
        self._times[value] = time

    def set_newest(self, value: Value, newest: Newest) -> None:
        """Say that the value is an any-time view."""
        self._newest[value] = newest

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
        if value in self.weights:
            raise self.weights[value].refusal()
        if value in self.walked:
            row = self.walked[value].row(self, self._times[value], 1, 1)
            self.stand_for(value, row)
            return row
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

    def stand_for(self, value: Value, new: Value) -> None:
        """Let a value of the step graph be the counterpart of `value`.

        Raises:
            CannotStepError: it has another type.
        """
        if new.type != self.frame_type(value):
            raise CannotStepError(
                f"{value.name!r} is {new.type} for one frame, expected {self.frame_type(value)}"
            )
        self._new[value] = new

    def stand_for_newest(self, value: Value, new: Value, newest: Newest) -> None:
        """Let a value of the step graph be an any-time view."""
        self.stand_for(value, new)
        self.set_newest(value, newest)

    def carried_value(self, name: str, init: Array) -> Value:
        """What a state holds at the start of a step."""
        return Value(self.fresh_name(f"{name}_in"), Constant.of("", init).value.type)

    def compute(self, op: Op, *inputs: Value | None, name: str = "") -> Value:
        """The one result of a further node, which the sequence graph does not have."""
        types = op.infer([value.type if value is not None else None for value in inputs])
        base = name or f"stream.{op.kind.lower()}"
        value = Value(self.fresh_name(base), types[0])
        self.nodes.append(Node(op, inputs, (value,), self.fresh_node_name(base), self._origin))
        return value

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """A value that is computed once a step, however often it is asked for."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def choose(self, condition: Value, a: Value, b: Value) -> Value:
        """`a` where a truth value (1,) holds, else `b` of the same shape, or repeated."""
        chosen = self.compute(Where(), condition, a, b)
        return chosen if a.type.rank else self.compute(Reshape(()), chosen)

    def limit_frames(self, frames: int) -> None:
        """The stream ends behind so many frames, at the latest."""
        self.most_frames = min(frames, self.most_frames or frames)

    def begin(self, node: Node) -> None:
        """What is added now comes from this node."""
        self._origin = node.origin

    def fresh_node_name(self, name: str) -> str:
        """A name of a node that is not taken, and now is."""
        return unique_name(name, self._node_names)

    def fresh_state(self, name: str) -> str:
        """A name of a state that is not taken."""
        return unique_name(name, {state.name for state in self.states})

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
        return unique_name(name, self._names)

    def constants(self) -> tuple[Constant, ...]:
        """The constants so far."""
        return tuple(self._constants.values())
