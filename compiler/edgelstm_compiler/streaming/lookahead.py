"""Sequence graph -> a chunk of it with bounded look-ahead (latency-controlled recurrence).

A chunk is N frames and L further ones. Forward halves begin with the state that the chunk before
had after its own N frames, backward halves afresh with the last frame of all; so L is total for all
layers of a stack. What needs no frame behind the N is computed on those alone.

Source: Zhang et al. 2016, Highway LSTM RNNs for distant speech recognition (LC-BLSTM); Xue and Yan
2017, Improving latency-controlled BLSTM acoustic models for online speech recognition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.signature import THERE
from edgelstm_compiler.ir.graph import (
    Graph,
    Output,
    State,
    StepGraph,
    StepInput,
    StepOutput,
    constant_data,
)
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.ops import Concat, Direction, Recurrent, Reshape, Scan, Slice
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, SEQUENCE_LENS, B, P, R, W, X
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.streaming.axes import AxisClasses, walked_values
from edgelstm_compiler.streaming.frame_rules import expect_unmixed
from edgelstm_compiler.streaming.recurrent_rule import expect_whole
from edgelstm_compiler.streaming.refusal import CannotStepError, OtherModeError, Way, refuse

CANNOT = "be computed with a bounded look-ahead"


@dataclass(frozen=True, slots=True)
class Span:
    """The frames of a chunk.

    Args:
        chunk: N, those that are answered.
        ahead: L, those that are only seen.
    """

    chunk: int
    ahead: int

    @property
    def total(self) -> int:
        """All that are seen."""
        return self.chunk + self.ahead


def looks_back(node: Node) -> bool:
    """Whether the node is a layer with a backward half."""
    return isinstance(node.op, Recurrent) and node.op.direction is not Direction.FORWARD


def chunk_ahead(graph: Graph, span: Span, advice: str) -> StepGraph:
    """One chunk, the states of the forward halves carried to the next.

    Its inputs hold all frames of the chunk behind an axis of one, its outputs the first N. The
    state `THERE` tells how many of the frames are there: backward halves begin with the last one.

    Args:
        graph: the network over some number of frames.
        span: how many a chunk has.
        advice: what the error says to do.

    Raises:
        StreamabilityError: naming every node that cannot be computed so, and why.
        OtherModeError: nothing looks ahead.
    """
    if not any(looks_back(node) for node in graph.nodes):
        raise OtherModeError(
            "no layer of the model runs backward, so none gains by a look-ahead: --mode stream "
            "answers at once",
            (Way("stream", (), "each answer comes with its frame"),),
        )
    return _Chunk(graph, span, advice).build()


class _Chunk:
    """The chunk while it is built.

    Attributes:
        steps: frames of the sequence graph.
    """

    def __init__(self, graph: Graph, span: Span, advice: str) -> None:
        self._graph, self._span, self._advice = graph, span, advice
        self._axes = AxisClasses(graph)
        self._data = constant_data(graph)
        self.steps: int = self._sequence_length()
        self._needs = self._frames_needed()
        self._frames: dict[Value, int] = {}
        self._new: dict[tuple[Value, int], Value] = {}
        self._finals: dict[Value, str] = {}
        self._constants: dict[Value, Constant] = {}
        self._nodes: list[Node] = []
        self._states: list[State] = []
        self._there: State | None = None
        self._names = {value.name for value in graph.inputs}
        self._node_names = {node.name for node in graph.nodes}
        self._origin = ""

    def build(self) -> StepGraph:
        """The chunk."""
        reasons: list[tuple[str, str]] = []
        failed: set[Value] = set()
        inputs = []
        for value in self._graph.inputs:
            if len(self._axes.time_axes(value)) > 1:
                reasons.append((f"input {value.name!r}", "it has more than one time axis"))
            else:
                inputs.append(self._input(value))
        if reasons:
            raise refuse(reasons, self._advice, CANNOT)
        for node in self._graph.nodes:
            if any(value in failed for value in node.inputs):
                failed.update(node.outputs)
                continue
            self._origin = node.origin
            try:
                self._add(node)
            except CannotStepError as error:
                reasons.append((error.origin or node.origin or node.name, str(error)))
                failed.update(node.outputs)
        outputs = []
        for output in self._graph.outputs:
            if output.value in failed:
                continue
            try:
                outputs.append(self._output(output))
            except CannotStepError as error:
                reasons.append((error.origin or f"output {output.name!r}", str(error)))
        if reasons:
            raise refuse(reasons, self._advice, CANNOT)
        there = () if self._there is None else (self._there,)
        return StepGraph(
            self._graph.name,
            "stream",
            tuple(inputs),
            tuple(outputs),
            tuple(self._nodes),
            tuple(self._constants.values()),
            (*self._states, *there),
        )

    def time_axis(self, value: Value) -> int | None:
        """Where time stands in a value of the sequence graph.

        Raises:
            CannotStepError: it has two time axes.
        """
        return self._axes.time_axis(value)

    def _sequence_length(self) -> int:
        lengths = {
            value.type.shape[axis]
            for value in (*self._graph.inputs, *walked_values(self._graph))
            for axis in self._axes.time_axes(value)[:1]
        }
        if len(lengths) == 1 and lengths != {1}:
            return lengths.pop()
        found = ", ".join(map(str, sorted(lengths)))
        reason = f"its inputs and recurrent layers run over different lengths: {found}"
        if lengths == {1}:
            reason = "it holds one frame, so nothing tells its time from its other axes: export it "
            reason += "with a dynamic time axis, or with more frames"
        if not lengths:
            reason = "no recurrent layer walks along time"
        raise refuse([("the model", reason)], self._advice, CANNOT)

    def _frames_needed(self) -> dict[Value, int]:
        """Of each value how many frames of the chunk are read."""
        needs = {output.value: self._span.chunk for output in self._graph.outputs}
        for node in reversed(self._graph.nodes):
            frames = max(needs.get(value, self._span.chunk) for value in node.outputs)
            if looks_back(node):
                frames = self._span.total
            for value in node.inputs:
                if value is not None:
                    needs[value] = max(needs.get(value, 0), frames)
        return needs

    def _input(self, value: Value) -> StepInput:
        axis, batch = self.time_axis(value), self._axes.batch_axis(value)
        if axis is None:
            self._new[value, 0] = value
            return StepInput(value, None, batch)
        tensor = self._type(value, self._span.total)
        framed = Value(value.name, tensor.with_shape((1, *tensor.shape)))
        new = self._compute(Reshape(tensor.shape), framed, name=f"{value.name}.frames")
        self._define(value, new, self._span.total)
        return StepInput(framed, 0, None if batch is None else batch + 1)

    def _output(self, output: Output) -> StepOutput:
        if self.time_axis(output.value) is None:
            raise CannotStepError(
                "it is one for all frames, known only after the last one: --mode window answers "
                "for whole windows"
            )
        new = self._use(output.value, self._span.chunk)
        return StepOutput(output.name, new, None, self._axes.batch_axis(output.value))

    def _type(self, value: Value, frames: int) -> TensorType:
        """The type of a value over some frames.

        Raises:
            CannotStepError: it has not as many as the input.
        """
        axis = self.time_axis(value)
        if axis is None:
            return value.type
        if value.type.shape[axis] != self.steps:
            raise CannotStepError(
                f"{value.name!r} has {value.type.shape[axis]} frames of the {self.steps}"
            )
        extents = enumerate(value.type.shape)
        return value.type.with_shape([frames if a == axis else e for a, e in extents])

    def _define(self, value: Value, new: Value, frames: int) -> None:
        """Let a value of the chunk be the counterpart of `value` over its first frames."""
        self._frames[value] = frames
        self._new[value, frames] = new

    def _use(self, value: Value, frames: int) -> Value:
        """The first frames of a value, or what has no time.

        Raises:
            CannotStepError: it is known only after the last frame, or a table of frames.
        """
        if value in self._finals:
            raise CannotStepError(
                f"it reads the final state of {self._finals[value]!r}, which is known only after "
                "the last frame"
            )
        axis = self.time_axis(value)
        key = (value, 0 if axis is None else frames)
        if key not in self._new:
            data = self._data.get(value)
            if data is not None:
                self._new[key] = self._constant(value.name, self._cut(value, data, axis, frames))
            else:
                assert axis is not None
                source = self._new[value, self._frames[value]]
                self._new[key] = self._slice(source, axis, frames)
        return self._new[key]

    def _cut(self, value: Value, data: Array, axis: int | None, frames: int) -> Array:
        """A constant for so many frames."""
        if axis is None:
            return data
        first = np.take(data, [0], axis)
        if np.broadcast_to(first, data.shape).tobytes() != data.tobytes():
            raise CannotStepError(f"the constant {value.name!r} differs from frame to frame")
        return np.repeat(first, frames, axis)

    def _slice(self, source: Value, axis: int, frames: int) -> Value:
        if source.type.shape[axis] == frames:
            return source
        return self._compute(Slice(axis, 0, 1, frames), source, name=f"{source.name}.first")

    def _constant(self, name: str, data: Array) -> Value:
        constant = Constant.of(self._fresh(name), data)
        self._constants[constant.value] = constant
        return constant.value

    def _compute(self, op: Op, *inputs: Value | None, name: str) -> Value:
        """The one result of a node that the sequence graph does not have."""
        (tensor,) = op.infer([value.type if value is not None else None for value in inputs])
        value = Value(self._fresh(name), tensor)
        self._nodes.append(Node(op, inputs, (value,), self._fresh_node(name), self._origin))
        return value

    def _add(self, node: Node) -> None:
        """The counterpart of a node.

        Raises:
            CannotStepError: there is none.
        """
        if isinstance(node.op, Recurrent):
            self._add_layer(node, node.op)
            return
        axes = {value: self.time_axis(value) for value in node.outputs}
        if isinstance(node.op, Scan) and any(axis is not None for axis in axes.values()):
            raise CannotStepError(
                "it is a Scan or Loop of its own, and a look-ahead is for LSTM, GRU and RNN layers"
            )
        expect_unmixed(node, self, axes)
        frames = max(self._needs.get(value, self._span.chunk) for value in node.outputs)
        op = node.op
        for axis in axes.values():
            if axis is not None:
                op = op.resized(axis, frames)
        inputs = tuple(None if value is None else self._use(value, frames) for value in node.inputs)
        self._emit(node, op, inputs, frames)

    def _emit(self, node: Node, op: Op, inputs: tuple[Value | None, ...], frames: int) -> None:
        try:
            types = op.infer([value.type if value is not None else None for value in inputs])
        except ValueError as error:
            raise CannotStepError(f"it cannot be computed for {frames} frames: {error}") from error
        outputs = tuple(
            Value(self._fresh(old.name), tensor)
            for old, tensor in zip(node.outputs, types, strict=True)
        )
        for old, new in zip(node.outputs, outputs, strict=True):
            if new.type != self._type(old, frames):
                raise CannotStepError(
                    f"{old.name!r} is {new.type} for {frames} frames, expected "
                    f"{self._type(old, frames)}"
                )
            if self.time_axis(old) is None:
                self._new[old, 0] = new
            else:
                self._define(old, new, frames)
        self._nodes.append(Node(op, inputs, outputs, node.name, node.origin))

    def _add_layer(self, node: Node, op: Recurrent) -> None:
        """Its halves as layers of their own: one carries its state, the other begins afresh."""
        padded = (*node.inputs, *([None] * (8 - len(node.inputs))))
        frames, lengths = padded[X], padded[SEQUENCE_LENS]
        assert frames is not None
        if frames in self._finals or self.time_axis(frames) != 0:
            raise CannotStepError("its sequence axis is not the model's time axis")
        if lengths is not None:
            expect_whole(self._data.get(lengths), frames.type.shape[0])
        y, *finals = node.outputs
        self._finals.update(dict.fromkeys(finals, node.origin or node.name))
        count = op.direction.count
        needed = self._needs.get(y, self._span.chunk)
        halves: list[Value] = []
        if op.direction is not Direction.REVERSE:
            halves.append(self._forward(node, op, padded, needed))
        if op.direction is not Direction.FORWARD:
            back = self._backward(node, op, padded, count - 1)
            halves.append(self._slice(back, 0, needed) if count == 2 else back)
        if count == 1:
            self._define(y, halves[0], halves[0].type.shape[0])
        else:
            self._define(y, self._compute(Concat(1), *halves, name=y.name), needed)

    def _forward(
        self, node: Node, op: Recurrent, given: tuple[Value | None, ...], frames: int
    ) -> Value:
        chunk = self._span.chunk
        name = f"{node.name}.forward" if op.direction.count == 2 else node.name
        inputs = self._half(node, op, given, 0, frames)
        reads = []
        for place, state in enumerate(op.cell().state_names, start=INITIAL_H):
            tensor = node.outputs[1].type
            shape = (1, *tensor.shape[1:])
            init = self._initial(given[place], 0, op)
            if init is None:
                init = np.zeros(shape, tensor.dtype.numpy)
            read = Value(self._fresh(f"{name}.{state}_in"), tensor.with_shape(shape))
            inputs[place] = read
            reads.append((f"{name}.{state}", read, init))
        kept = chunk if frames > chunk else None
        half = replace(self._of_half(op, 0), direction=Direction.FORWARD, kept=kept)
        y, *finals = self._add_half(node, half, inputs, name)
        for (state, read, init), write in zip(reads, finals, strict=True):
            data = Constant.of("", init).data
            self._states.append(State(state, read.type, data, read, write))
        return y

    def _backward(
        self, node: Node, op: Recurrent, given: tuple[Value | None, ...], d: int
    ) -> Value:
        name = f"{node.name}.backward" if op.direction.count == 2 else node.name
        inputs = self._half(node, op, given, d, self._span.total)
        for place in range(INITIAL_H, INITIAL_H + op.state_count):
            init = self._initial(given[place], d, op)
            if init is not None:
                inputs[place] = self._constant(f"{name}.initial", init)
        x = inputs[X]
        assert x is not None
        inputs[SEQUENCE_LENS] = self._frames_there(x.type.shape[1])
        half = replace(self._of_half(op, d), direction=Direction.REVERSE)
        return self._add_half(node, half, inputs, name)[0]

    def _of_half(self, op: Recurrent, d: int) -> Recurrent:
        functions = op.activations[d * op.functions : (d + 1) * op.functions]
        return replace(op, activations=functions)

    def _half(
        self, node: Node, op: Recurrent, given: tuple[Value | None, ...], d: int, frames: int
    ) -> list[Value | None]:
        """X over some frames, and the weights of one direction."""
        inputs: list[Value | None] = [None] * 8
        x = given[X]
        assert x is not None
        inputs[X] = self._use(x, frames)
        for place in (W, R, B, P):
            value = given[place]
            if value is None:
                continue
            if value in self._finals or self.time_axis(value) is not None:
                raise CannotStepError(f"its weights {value.name!r} are computed from the frames")
            if op.direction.count == 1:
                inputs[place] = self._use(value, frames)
                continue
            data = self._data.get(value)
            if data is None:
                raise CannotStepError(
                    f"its weights {value.name!r} are computed: only constants of the file are "
                    "told apart by direction"
                )
            inputs[place] = self._constant(f"{value.name}.{d}", data[d : d + 1])
        return inputs

    def _initial(self, value: Value | None, d: int, op: Recurrent) -> Array | None:
        if value is None:
            return None
        data = self._data.get(value)
        if data is None:
            raise CannotStepError(
                f"its initial state {value.name!r} is computed from the frames or from an input: "
                "export the model with zero or constant initial states"
            )
        return data[d : d + 1] if op.direction.count == 2 else data

    def _add_half(
        self, node: Node, op: Recurrent, inputs: list[Value | None], name: str
    ) -> tuple[Value, ...]:
        while inputs and inputs[-1] is None:
            inputs.pop()
        types = op.infer([value.type if value is not None else None for value in inputs])
        labels = ("y", *op.cell().state_names)
        values = tuple(
            Value(self._fresh(f"{name}.{label}"), tensor)
            for label, tensor in zip(labels, types, strict=True)
        )
        self._node_names.discard(node.name)
        new = Node(op, tuple(inputs), values, self._fresh_node(name), node.origin)
        self._nodes.append(new)
        return values

    def _frames_there(self, batch: int) -> Value:
        """How many frames of the chunk there are, for each stream of a batch."""
        if self._there is None:
            read = Value(self._fresh(f"{THERE}_in"), TensorType(DType.I32, (batch,)))
            init = Constant.of("", np.full(batch, self._span.total, np.int32)).data
            self._there = State(THERE, read.type, init, read, read)
        if self._there.type.shape != (batch,):
            raise CannotStepError("it has another batch than the layers before it")
        return self._there.read

    def _fresh(self, name: str) -> str:
        return unique_name(name, self._names)

    def _fresh_node(self, name: str) -> str:
        return unique_name(name, self._node_names)
