"""Loop and Scan that walk along frames: the body imported a few times, and rolled into one Scan.

What a Loop counts with (its iteration number, counters that it carries, its condition) is known in
every turn; the turns may differ in the frames that they read, and in nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Reshape, Slice
from edgelstm_compiler.ir.types import Array, TensorType, Value
from edgelstm_compiler.onnx_import.frames import Dependence, Opaque
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.rolling import Frame, Rolled, State, roll
from edgelstm_compiler.onnx_import.sequences import Carried, TensorList
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of, type_of
from edgelstm_compiler.onnx_import.trial import Trial, find_pattern

TURNS = 3
"""Turns that are imported: three places lie on a line, or they do not."""

MAX_COUNTED = 10_000
"""Turns of a loop whose condition has to be followed."""


class Importer(Protocol):
    """Imports the body."""

    def __call__(self, given: Sequence[Carried], turn: int) -> Trial:
        """Its nodes and results in a turn, apart from the graph."""

    def count(self, given: Sequence[Carried], turn: int, places: Sequence[int]) -> list[Carried]:
        """Some of its results, from what is known alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """What a loop that walks gives.

    Args:
        rolled: its Scan.
        finish: from carried values after the last turn and rows with time in front (the Scan's,
            or others that are the same) to the results of the loop.
    """

    rolled: Rolled
    finish: Callable[[Sequence[Operand], Sequence[Operand]], list[Carried]]


def walk_loop(
    node: OnnxNode, graph: onnx.GraphProto, start: Sequence[Carried], importer: Importer
) -> Walk | None:
    """A Loop as one Scan; None where its turns differ in more than the frames they read.

    Args:
        node: its inputs are the trip count, the condition, and what the loop carries.
        graph: the body.
        start: what it carries into the first turn.
        importer: imports the body.
    """
    count = len(start)
    if len(graph.input) != 2 + count or len(graph.output) < 1 + count:
        raise ModelError(f"{node.origin}: its body does not fit what it carries")
    trips, goes_on = node.optional(0), node.optional(1)
    if not all(item is None or isinstance(item, Known) for item in (trips, goes_on)):
        return None
    limit = int(trips.trial.reshape(())) if isinstance(trips, Known) else None
    if isinstance(goes_on, Known) and not bool(goes_on.trial.reshape(())):
        return None
    if limit is not None and limit < 1:
        return None
    return _Loop(node, start, importer, limit).walk()


class _Loop:
    """One Loop on its way to a Scan."""

    def __init__(
        self,
        node: OnnxNode,
        start: Sequence[Carried],
        importer: Importer,
        limit: int | None,
    ) -> None:
        self._node, self._start, self._importer = node, tuple(start), importer
        self._limit = limit
        self._inside: dict[int, Value] = {}
        self._same: set[int] = set()
        for place, item in enumerate(start):
            if isinstance(item, Value):
                self._inside[place] = self._placeholder(place, item.type)

    def _placeholder(self, place: int, kind: TensorType) -> Value:
        return Value(f"{self._node.name}.carried{place}", kind)

    def _given(self, known: Sequence[Carried], turn: int) -> list[Carried]:
        number = Known(f"{self._node.name}.iteration", np.asarray(turn, np.int64))
        truth = Known(f"{self._node.name}.condition", np.asarray(True))
        items = [self._inside.get(place, item) for place, item in enumerate(known)]
        return [number, truth, *items]

    def walk(self) -> Walk | None:
        """The Scan."""
        first = self._settle()
        if first is None:
            return None
        trials, counted = [first], [self._start]
        turn = 0
        while len(trials) < TURNS and self._has_another(trials[-1].results[0], turn):
            turn += 1
            counted.append(self._counters(trials[-1], counted[-1]))
            trials.append(self._importer(self._given(counted[-1], turn), turn))
        inside = set(self._inside.values())
        pattern = find_pattern(trials, range(len(trials)), inside)
        if pattern is None or not _is_settled(trials, self._start, self._inside):
            return None
        ended = not self._has_another(trials[-1].results[0], turn)
        length = self._length(trials, counted, ended=ended)
        if length is None:
            return None
        finals = self._final_counters(counted, trials[-1], length)
        if finals is None:
            return None
        rows = [
            _last(item) if isinstance(item, TensorList) else item
            for item in self._row_results(first)
        ]
        if any(row is None for row in rows):
            return None
        states = {}
        for place, value in self._inside.items():
            initial, following = self._start[place], first.results[1 + place]
            assert not isinstance(initial, TensorList)
            assert not isinstance(following, TensorList)
            states[place] = State(value, initial, following)
        if any(type_of(item.following) != item.inside.type for item in states.values()):
            return None
        given = [row for row in rows if row is not None]
        rolled = roll(self._node, pattern, list(states.values()), (), given, length)

        def finish(ends: Sequence[Operand], collected: Sequence[Operand]) -> list[Carried]:
            after = dict(zip(states, ends, strict=True))
            return self._results(first, finals, after, collected)

        return Walk(rolled, finish)

    def _settle(self) -> Trial | None:
        """The first turn, once it is clear which carried values are computed anew in each."""
        for _ in range(2 * len(self._start) + 1):
            trial = self._importer(self._given(self._start, 0), 0)
            before = set(self._inside)
            for place, item in enumerate(self._start):
                result = trial.results[1 + place]
                if place in self._inside:
                    if result is self._inside[place] and isinstance(item, Value):
                        # It never changes: the body reads the value itself.
                        del self._inside[place]
                        self._same.add(place)
                elif isinstance(item, Known) and isinstance(result, Value):
                    self._inside[place] = self._placeholder(place, _carried_type(item))
                elif place in self._same and result is not item:
                    return None
            if set(self._inside) == before:
                computed = (trial.results[1 + place] for place in self._inside)
                return None if any(isinstance(item, TensorList) for item in computed) else trial
        return None

    def _has_another(self, condition: Carried, turn: int) -> bool:
        if self._limit is not None and turn + 1 >= self._limit:
            return False
        return isinstance(condition, Known) and bool(condition.trial.reshape(()))

    def _counters(self, trial: Trial, before: Sequence[Carried]) -> tuple[Carried, ...]:
        """What is known at the start of the next turn; lists do not grow."""
        return tuple(
            before[place]
            if place in self._inside or isinstance(item, TensorList)
            else trial.results[1 + place]
            for place, item in enumerate(before)
        )

    def _length(
        self, trials: Sequence[Trial], counted: Sequence[Sequence[Carried]], *, ended: bool
    ) -> int | None:
        """How often it turns."""
        if ended:
            return len(trials)
        conditions = [trial.results[0] for trial in trials]
        known = [item.trial for item in conditions if isinstance(item, Known)]
        if len(known) < len(conditions):
            return None
        if self._limit is not None and all(data is known[0] for data in known):
            return self._limit
        places = [0, *(1 + p for p in range(len(self._start)) if p not in self._inside)]
        carried = self._counters(trials[-1], counted[-1])
        for turn in range(len(trials), min(self._limit or MAX_COUNTED, MAX_COUNTED)):
            found = dict(
                zip(
                    places,
                    self._importer.count(self._given(carried, turn), turn, places),
                    strict=True,
                )
            )
            carried = tuple(
                item if isinstance(item, TensorList) else found.get(1 + place, item)
                for place, item in enumerate(carried)
            )
            if not self._has_another(found[0], turn):
                return turn + 1
        return self._limit if self._limit is not None and self._limit <= MAX_COUNTED else None

    def _final_counters(
        self, counted: Sequence[Sequence[Carried]], last: Trial, length: int
    ) -> dict[int, Known] | None:
        """What it counted after the last turn: the same, or a line over the turns."""
        finals = {}
        trips = self._node.optional(0)
        for place, item in enumerate(self._start):
            if place in self._inside or not isinstance(item, Known):
                continue
            track = [turn[place] for turn in counted] + [last.results[1 + place]]
            data = [each.trial for each in track if isinstance(each, Known)]
            if len(data) < len(track):
                return None
            if all(_is_equal(each, data[0]) for each in data):
                finals[place] = item
                continue
            step = data[1] - data[0] if data[0].dtype.kind in "iu" else None
            if step is None or any(
                not np.array_equal(b - a, step) for a, b in itertools.pairwise(data)
            ):
                return None
            moves = isinstance(trips, Known) and trips.frames is not None
            frames: Dependence = Opaque(self._node.origin) if moves or item.frames else None
            end = np.asarray(data[0] + step * length).astype(data[0].dtype)
            finals[place] = Known(f"{self._node.name}.counted", end, frames)
        return finals

    def _row_results(self, first: Trial) -> list[Carried]:
        """What every turn adds: to what is collected, and to lists that grow."""
        grown = [
            first.results[1 + place]
            for place, item in enumerate(self._start)
            if isinstance(item, TensorList) and _grows(item, first.results[1 + place])
        ]
        return [*first.results[1 + len(self._start) :], *grown]

    def _results(
        self,
        first: Trial,
        finals: dict[int, Known],
        after: dict[int, Operand],
        rows: Sequence[Operand],
    ) -> list[Carried]:
        collected = len(first.results) - 1 - len(self._start)
        lists = iter(rows[collected:])
        results: list[Carried] = []
        for place, item in enumerate(self._start):
            if place in after:
                results.append(after[place])
            elif isinstance(item, TensorList) and _grows(item, first.results[1 + place]):
                results.append(_unstacked(self._node, item, next(lists)))
            else:
                results.append(finals.get(place, item) if isinstance(item, Known) else item)
        return [*results, *rows[:collected]]


def _carried_type(item: Known) -> TensorType:
    """The type in which a known value is carried once it is computed."""
    kind = type_of(item)
    if kind is not None and not kind.dtype.is_float:
        return kind
    return TensorType.of(np.zeros(item.shape, np.float32))


def _is_settled(
    trials: Sequence[Trial], start: Sequence[Carried], inside: dict[int, Value]
) -> bool:
    """Whether what the turns know of their results is the same, counters aside."""
    count = len(start)
    for place, results in enumerate(zip(*(trial.results for trial in trials), strict=True)):
        is_counter = place == 0 or (place <= count and (place - 1) not in inside)
        known = [item.trial for item in results if isinstance(item, Known)]
        if is_counter and len(known) == len(results):
            continue
        if not all(_is_equal(data, known[0]) for data in known):
            return False
    for place, item in enumerate(start):
        result = trials[0].results[1 + place]
        if isinstance(item, TensorList):
            same = isinstance(result, TensorList) and result.items == item.items
            if not (same or _grows(item, result)):
                return False
    return True


def _grows(item: TensorList, result: Carried) -> bool:
    """Whether a list has one tensor more at its end."""
    if not isinstance(result, TensorList) or len(result.items) != len(item.items) + 1:
        return False
    return all(a is b for a, b in zip(item.items, result.items, strict=False))


def _last(item: TensorList) -> Operand | None:
    return item.items[-1] if item.items else None


def _is_equal(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b))


def _unstacked(node: OnnxNode, before: TensorList, rows: Operand) -> TensorList:
    """A list of the rows, which remembers that they stand in one tensor."""
    length, *shape = shape_of(rows)
    items = []
    for turn in range(length):
        row = node.emit(Slice(0, turn, 1, 1), rows)
        items.append(node.emit(Reshape(tuple(shape)), row))
    stacked = rows if not before.items else None
    return TensorList(before.name, (*before.items, *items), stacked=stacked)


def walk_scan(node: OnnxNode, graph: onnx.GraphProto, importer: Importer) -> Walk | None:
    """Scan-9 and later as one Scan of ours; None where the body is no plain one.

    Args:
        node: its inputs are the states, then the sequences.
        graph: the body.
        importer: imports the body.
    """
    given = node.integer("num_scan_inputs", 0)
    count = len(node.inputs) - given
    if given < 1 or count < 0 or len(graph.input) != len(node.inputs):
        raise ModelError(f"{node.origin}: its body does not fit its inputs")
    axes = _listed(node, "scan_input_axes", given)
    directions = _listed(node, "scan_input_directions", given)
    sequences = [
        _time_first(node, node.operand(count + place), axes[place], bool(directions[place]))
        for place in range(given)
    ]
    return _walked_scan(node, importer, [node.operand(k) for k in range(count)], sequences)


def _walked_scan(
    node: OnnxNode,
    importer: Importer,
    states: Sequence[Operand],
    sequences: Sequence[Operand],
) -> Walk | None:
    count = len(states)
    lengths = {shape_of(item)[0] for item in sequences}
    if len(lengths) != 1:
        raise ModelError(f"{node.origin}: its sequences have the lengths {sorted(lengths)}")
    (length,) = lengths
    inside = [Value(f"{node.name}.state{k}", _value_type(item)) for k, item in enumerate(states)]
    frames = []
    for place, sequence in enumerate(sequences):
        kind = _value_type(sequence)
        frame = Value(f"{node.name}.frame{place}", kind.with_shape(kind.shape[1:]))
        frames.append(Frame(frame, sequence))
    trial = importer([*inside, *(frame.inside for frame in frames)], 0)
    pattern = find_pattern([trial], [0], {*inside, *(frame.inside for frame in frames)})
    results = [item for item in trial.results if not isinstance(item, TensorList)]
    if pattern is None or len(results) < len(trial.results):
        return None
    pattern.readings.clear()
    carried = [
        State(value, initial, following)
        for value, initial, following in zip(inside, states, results, strict=False)
    ]
    if any(_value_type(item.following) != item.inside.type for item in carried):
        raise ShapeError(f"{node.origin}: its body changes the shape or type of what it carries")
    rolled = roll(node, pattern, carried, frames, results[count:], length)
    rows = len(results) - count
    axes = _listed(node, "scan_output_axes", rows)
    directions = _listed(node, "scan_output_directions", rows)

    def finish(ends: Sequence[Operand], collected: Sequence[Operand]) -> list[Carried]:
        turned = (
            _from_time_first(node, row, axis, bool(direction))
            for row, axis, direction in zip(collected, axes, directions, strict=True)
        )
        return [*ends, *turned]

    return Walk(rolled, finish)


def _listed(node: OnnxNode, name: str, count: int) -> tuple[int, ...]:
    found = node.int_list(name) or (0,) * count
    if len(found) != count:
        raise ModelError(f"{node.origin}: {len(found)} {name} for {count}")
    return found


def _value_type(item: Operand) -> TensorType:
    return item.type if isinstance(item, Value) else _carried_type(item)


def _time_first(node: OnnxNode, x: Operand, axis: int, is_reversed: bool) -> Operand:
    """A sequence with its frames in front, in the order in which they are read."""
    rank = len(shape_of(x))
    axis = node.axis(axis, rank)
    if is_reversed:
        x = _turned(node, x, axis)
    return node.transpose(x, (axis, *(place for place in range(rank) if place != axis)))


def _from_time_first(node: OnnxNode, rows: Operand, axis: int, is_reversed: bool) -> Operand:
    """Rows along an axis, the last one first where that is asked for."""
    rank = len(shape_of(rows))
    axis = node.axis(axis, rank)
    if is_reversed:
        rows = _turned(node, rows, 0)
    order = [*range(1, rank)]
    order.insert(axis, 0)
    return node.transpose(rows, order)


def _turned(node: OnnxNode, x: Operand, axis: int) -> Operand:
    extent = shape_of(x)[axis]
    count = node.extents(x)[axis]
    grows = None if count is None else 0 if count.is_fixed else count
    return take_range(node, x, axis, range(extent - 1, -1, -1), grows)
