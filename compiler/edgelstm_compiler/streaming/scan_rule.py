"""A Scan in a stream: its body is the step, what it carries are states."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.graph import State
from edgelstm_compiler.ir.ops import Reshape, Scan
from edgelstm_compiler.ir.time import Time, aligned, newest_of
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.refusal import CannotStepError
from edgelstm_compiler.streaming.tables import table_of


def step_scan(node: Node, builder: StepBuilder) -> None:
    """The body for one frame, laid out as nodes of the step.

    Raises:
        CannotStepError: it does not walk along time, or what it starts from or holds is computed
            from frames.
    """
    op = node.op
    assert isinstance(op, Scan)
    count, behind = op.states, op.states + op.sequences
    for value in node.inputs[count:behind]:
        assert value is not None
        if builder.time_axis(value) not in (0, None):
            raise CannotStepError("what it walks along is not the model's time axis")
        if builder.is_reduced(value) and builder.steps > 1:
            raise CannotStepError("it walks along the last frame's result")
    if all(builder.time_axis(value) is None for value in node.inputs[count:behind] if value):
        raise CannotStepError("what it walks along is not the model's time axis")
    for value in node.inputs[behind:]:
        if value is not None and (
            builder.is_reduced(value) or builder.time_axis(value) is not None
        ):
            raise CannotStepError(
                f"it reads all of {value.name!r} in every frame, and a stream never has all frames"
            )
    sequences = [value for value in node.inputs[count:behind] if value is not None]
    time = _together(sequences, builder)
    has = None if time is None else builder.clock.has(time)
    layout = _Layout(node, builder)
    values: list[Value] = []
    carried = []
    for place, value in enumerate(node.inputs[:count]):
        kind = op.body.inputs[place]
        read = Value(builder.fresh_name(f"{node.name}.state{place}_in"), kind)
        values.append(read)
        carried.append((f"{node.name}.state{place}", read, _initial(value, kind, builder)))
    for value in sequences:
        frame = _frame(value, time, builder)
        values.append(layout.add(Reshape(frame.type.shape[1:]), (frame,))[0])
    for value in node.inputs[behind:]:
        held = builder.use(value)
        assert held is not None
        values.append(held)
    for each in op.body.nodes:
        given = tuple(None if number is None else values[number] for number in each.inputs)
        values += layout.add(each.op, given)
    results = [values[number] for number in op.body.outputs]
    finals = []
    for (name, read, init), new in zip(carried, results[:count], strict=True):
        write = new if has is None else builder.choose(has, new, read)
        builder.states.append(State(name, read.type, init, read, write))
        finals.append(write)
    for output, final in zip(node.outputs[:count], finals, strict=True):
        builder.stand_for_newest(output, final, newest_of(time or Time()))
    for output, row in zip(node.outputs[count:], results[count:], strict=True):
        framed = layout.add(Reshape((1, *row.type.shape)), (row,))[0]
        builder.stand_for(output, framed)
        if time is not None:
            builder.set_time(output, time.remembering())


def _together(sequences: list[Value], builder: StepBuilder) -> Time | None:
    """When a frame of each sequence is there, and no step before the first; None: they repeat."""
    times = [
        builder.time_of(value)
        for value in sequences
        if builder.constant(value) is None and not builder.is_repeated(value)
    ]
    moving = [time for time in times if time is not None]
    if not moving:
        return None
    found = aligned(moving)
    if found is None:
        raise CannotStepError("it walks along sequences of different rates")
    return found.fed()


def _frame(value: Value, time: Time | None, builder: StepBuilder) -> Value:
    is_still = builder.constant(value) is not None or builder.is_repeated(value)
    if time is not None and not is_still and builder.steps > 1:
        return builder.history.lagged(value, time.delay)
    table = table_of(value, builder)
    if table is not None and time is not None and builder.steps > 1:
        return table.row(builder, time)
    frame = builder.use(value)
    assert frame is not None
    return frame


class _Layout:
    """The nodes of a body among those of the step."""

    def __init__(self, node: Node, builder: StepBuilder) -> None:
        self._node, self._builder = node, builder
        self._count = 0

    def add(self, op: Op, inputs: tuple[Value | None, ...]) -> tuple[Value, ...]:
        """A node of the step; returns what it gives."""
        types = op.infer([None if value is None else value.type for value in inputs])
        name = f"{self._node.name}.{self._count}"
        self._count += 1
        outputs = tuple(
            Value(self._builder.fresh_name(f"{name}.{op.kind.lower()}"), kind) for kind in types
        )
        self._builder.nodes.append(Node(op, inputs, outputs, name, self._node.origin))
        return outputs


def _initial(value: Value | None, kind: TensorType, builder: StepBuilder) -> Array:
    if value is None:
        return Constant.of("", np.zeros(kind.shape, kind.dtype.numpy)).data
    data = builder.constant(value)
    if data is not None:
        return Constant.of("", data).data
    if builder.is_reduced(value) or builder.time_axis(value) is not None:
        raise CannotStepError(
            f"its initial value {value.name!r} is computed from the frames, as a decoder starts "
            "where its encoder ended: it is known only after the last frame, and a stream has none"
        )
    raise CannotStepError(
        f"its initial value {value.name!r} is computed from an input: a stream carries the value "
        "itself. Export the model with zero or constant initial values"
    )
