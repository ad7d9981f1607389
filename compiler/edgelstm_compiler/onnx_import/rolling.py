"""A pattern that all turns of a loop have in common becomes one Scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.ops import Body, BodyNode, Reshape, Scan
from edgelstm_compiler.ir.types import Node, TensorType, Value
from edgelstm_compiler.onnx_import.frames import FramesDecideError, RefusedError
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, growth_of, shape_of
from edgelstm_compiler.onnx_import.trial import Pattern, Reading


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A value that a loop carries.

    Args:
        inside: what the body reads it as.
        initial: before the first turn.
        following: what the body hands on.
    """

    inside: Value
    initial: Operand
    following: Operand


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame of a sequence that the body is given.

    Args:
        inside: what the body reads it as.
        sequence: all frames, time in front.
    """

    inside: Value
    sequence: Operand


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """The Scan of a loop.

    Args:
        node: the operation.
        finals: carried values after the last turn.
        rows: results with one row a turn, time in front.
    """

    node: Node
    finals: tuple[Value, ...]
    rows: tuple[Value, ...]


def roll(
    node: OnnxNode,
    pattern: Pattern,
    states: Sequence[State],
    frames: Sequence[Frame],
    rows: Sequence[Operand],
    length: int,
) -> Rolled:
    """Emit the Scan.

    Args:
        node: the loop; receives the operation.
        pattern: what its turns have in common.
        states: what it carries.
        frames: what it is given of each sequence.
        rows: what the body gives for each turn.
        length: number of turns.

    Raises:
        FramesDecideError: it does not walk along all the frames of a stream.
    """
    maker = _BodyMaker(node, pattern, states, frames, length)
    body = maker.body([*(state.following for state in states), *rows])
    op = Scan(body, len(states), len(maker.sequences), length)
    outputs = node.emit_all(op, *(state.initial for state in states), *maker.sequences, *maker.held)
    count = len(states)
    return Rolled(node.builder.nodes[-1], outputs[:count], outputs[count:])


class _BodyMaker:
    """Numbers for the values of a body: inputs in the order of a Scan, then what its nodes give."""

    def __init__(
        self,
        node: OnnxNode,
        pattern: Pattern,
        states: Sequence[State],
        frames: Sequence[Frame],
        length: int,
    ) -> None:
        self._node, self._length = node, length
        self._trial, self._readings = pattern.trial, pattern.readings
        self._numbers: dict[Value, int] = {}
        self._known: dict[int, int] = {}
        self._types: list[TensorType] = []
        self._nodes: list[BodyNode] = []
        self._taken: dict[Reading, int] = {}
        self.sequences: list[Operand] = [frame.sequence for frame in frames]
        self.held: list[Operand] = []
        for value in (*(state.inside for state in states), *(frame.inside for frame in frames)):
            self._numbers[value] = self._new(value.type)
        self._inside = {
            *self._numbers,
            *(value for each in self._trial.nodes for value in each.outputs),
        }

    def body(self, results: Sequence[Operand]) -> Body:
        """All of it."""
        outside = self._read_from_outside(results)
        single = {
            value: reading for value in outside if (reading := self._only_frame(value)) is not None
        }
        for reading in (*self._readings.values(), *single.values()):
            self._take(reading)
        for value in outside:
            if value not in single:
                self._hold(value)
        for item in results:
            if isinstance(item, Known):
                self._hold_known(item)
        inputs = tuple(self._types)
        for value, reading in single.items():
            self._numbers[value] = self._shaped(self._taken[reading], value.type)
        for number, node in enumerate(self._trial.nodes):
            if number in self._readings:
                (output,) = node.outputs
                frame = self._taken[self._readings[number]]
                self._numbers[output] = self._shaped(frame, output.type)
                continue
            given = tuple(None if v is None else self._numbers[v] for v in node.inputs)
            self._nodes.append(BodyNode(node.op, given))
            for value in node.outputs:
                self._numbers[value] = self._new(value.type)
        outputs = tuple(
            self._known[id(item.trial)] if isinstance(item, Known) else self._numbers[item]
            for item in results
        )
        return Body(inputs, tuple(self._nodes), outputs)

    def _new(self, kind: TensorType) -> int:
        self._types.append(kind)
        return len(self._types) - 1

    def _shaped(self, number: int, kind: TensorType) -> int:
        """A frame in the shape in which the body reads it."""
        if self._types[number] == kind:
            return number
        self._nodes.append(BodyNode(Reshape(kind.shape), (number,)))
        return self._new(kind)

    def _read_from_outside(self, results: Sequence[Operand]) -> list[Value]:
        """Values that all turns share, in the order in which they are read."""
        found: dict[Value, None] = {}
        for number, node in enumerate(self._trial.nodes):
            if number not in self._readings:
                found.update((value, None) for value in node.inputs if value is not None)
        found.update((item, None) for item in results if isinstance(item, Value))
        return [value for value in found if value not in self._inside]

    def _only_frame(self, value: Value) -> Reading | None:
        """The sequence that a value of a single frame is, where the loop turns once."""
        if self._length != 1 or value in self._trial.constants:
            return None
        growth = growth_of(value, self._node.builder)
        axes = [axis for axis, grows in enumerate(growth) if grows]
        return Reading(value, axes[0], 0, 1) if len(axes) == 1 else None

    def _take(self, reading: Reading) -> None:
        """A sequence that the body reads a frame of."""
        if reading in self._taken:
            return
        source, axis = reading.source, reading.axis
        shape = source.type.shape
        frame = source.type.with_shape((*shape[:axis], *shape[axis + 1 :]))
        self._taken[reading] = self._new(frame)
        taken = _walked(self._node, reading, self._length)
        order = (axis, *(place for place in range(len(shape)) if place != axis))
        self.sequences.append(self._node.transpose(taken, order))

    def _hold(self, value: Value) -> None:
        """A value that stays the same."""
        data = self._trial.constants.get(value)
        if data is not None:
            self._numbers[value] = self._hold_known(Known(value.name, data))
        else:
            self._numbers[value] = self._new(value.type)
            self.held.append(value)

    def _hold_known(self, item: Known) -> int:
        found = self._known.get(id(item.trial))
        if found is None:
            value = self._node.value(item)
            found = self._known[id(item.trial)] = self._new(value.type)
            self.held.append(value)
        return found


def _walked(node: OnnxNode, reading: Reading, length: int) -> Operand:
    """The places that are read, in the order of the turns."""
    source, axis, step = reading.source, reading.axis, reading.step
    extent = shape_of(source)[axis]
    last = reading.start + step * (length - 1)
    if not (0 <= reading.start < extent and 0 <= last < extent):
        raise RefusedError(
            f"it reads '{source.name}' from place {reading.start} to {last}, beyond its {extent}"
        )
    count = node.extents(source)[axis]
    is_whole = length == extent and abs(step) == 1
    if count is None or (not count.is_fixed and not is_whole):
        raise FramesDecideError(
            f"it walks along some of the frames of '{source.name}', and a stream has all of them"
        )
    places = range(reading.start, last + (1 if step > 0 else -1), step)
    return take_range(node, source, axis, places, 0 if count.is_fixed else count)
