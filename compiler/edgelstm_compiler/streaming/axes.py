"""Which axes of a graph are one and the same axis, and which of them are time and batch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from edgelstm_compiler.ir.graph import Graph, constant_data
from edgelstm_compiler.ir.ops import (
    Binary,
    Broadcast,
    CumSum,
    Gather,
    Recurrent,
    Scan,
    Softmax,
    Windows,
)
from edgelstm_compiler.ir.ops.recurrent import X
from edgelstm_compiler.ir.types import Array, Node, Op, Tie, Value
from edgelstm_compiler.ir.walks import walk_of
from edgelstm_compiler.streaming.refusal import CannotStepError

_Axis = tuple[Value, int]


def walked_values(graph: Graph, cells: Container[str] | None = None) -> list[Value]:
    """What recurrent layers and Scans walk along, time in front.

    Args:
        graph: whose.
        cells: names of those that count; None: all of them.
    """
    found: list[Value] = []
    for node in graph.nodes:
        if cells is not None and node.name not in cells:
            continue
        if isinstance(node.op, Recurrent):
            found += [value for value in node.inputs[X : X + 1] if value is not None]
        elif isinstance(node.op, Scan):
            behind = node.op.states + node.op.sequences
            found += [v for v in node.inputs[node.op.states : behind] if v is not None]
    return found


def _unbatched(graph: Graph) -> set[Value]:
    """Sequences of Scans whose second axis is no batch."""
    return {
        value
        for node in graph.nodes
        if isinstance(node.op, Scan)
        for place, value in enumerate(node.inputs[node.op.states :])
        if value is not None and (place > 0 or not node.op.counts_streams())
    }


def walked_axes(
    graph: Graph, cells: Container[str] | None = None
) -> tuple[list[_Axis], list[_Axis]]:
    """Axes that are time for sure, and beside them batch.

    Recurrent layers and Scans say it; where there are none, what moves along a single axis:
    convolutions and pooling over one spatial axis, running sums.
    """
    frames = walked_values(graph, cells)
    if frames or cells is not None:
        unbatched = _unbatched(graph)
        batch = [(value, 1) for value in frames if value not in unbatched]
        return [(value, 0) for value in frames], batch
    frames = [value for value in _read_by(graph, Windows) if value.type.rank == 3]
    if frames:
        return [(value, 2) for value in frames], [(value, 0) for value in frames]
    return [
        (x, node.op.axis)
        for node in graph.nodes
        if isinstance(node.op, CumSum)
        for x in node.inputs[:1]
        if x is not None
    ], []


def _read_by(graph: Graph, kind: type[Op]) -> list[Value]:
    first = [node.inputs[0] for node in graph.nodes if isinstance(node.op, kind)]
    return [value for value in first if value is not None]


def _walked(node: Node, data: Mapping[Value, Array]) -> tuple[Tie, ...]:
    """The axis that a Gather walks along, with more at its ends."""
    if not isinstance(node.op, Gather):
        return ()
    x, places = node.inputs
    assert x is not None
    assert places is not None
    if places not in data or walk_of(data[places], x.type.shape[node.op.axis]) is None:
        return ()
    return (Tie(0, node.op.axis, 0, node.op.axis),)


class AxisClasses:
    """Axes joined by the ties of the operators they run through (union-find).

    Args:
        graph: whose.
        cells: names of the recurrent layers whose sequence is time; None: all of them.
    """

    def __init__(self, graph: Graph, cells: Container[str] | None = None) -> None:
        self._parent: dict[_Axis, _Axis] = {}
        data = constant_data(graph)
        for node in graph.nodes:
            types = [value.type if value is not None else None for value in node.inputs]
            results = [value.type for value in node.outputs]
            moves = (*node.op.moves(types, results), *_walked(node, data)) if cells is None else ()
            for tie in (*node.op.ties(types, results), *moves):
                source = node.inputs[tie.input] if tie.input < len(node.inputs) else None
                if source is not None:
                    self._join(
                        (source, tie.input_axis), (node.outputs[tie.output], tie.output_axis)
                    )
        time, batch = walked_axes(graph, cells)
        if not time and cells is None:
            time, batch = self._attended(graph)
        self._time = self._roots(time)
        self._batch = self._roots(batch) - self._time

    def _attended(self, graph: Graph) -> tuple[list[_Axis], list[_Axis]]:
        """Where nothing walks along time, what attention relates to itself; the first is batch."""
        found = [
            (x, node.op.axis)
            for node in graph.nodes
            if isinstance(node.op, Softmax)
            for x in node.inputs[:1]
            if x is not None and len(self.axes_like(x, x, node.op.axis)) > 1
        ]
        time = self._roots(found)
        batch = [
            (value, 0)
            for value in graph.inputs
            if value.type.rank > 1 and any(axis > 0 for axis in self._members(value, time))
        ]
        return found, batch

    def time_axes(self, value: Value) -> tuple[int, ...]:
        """Axes of the value that run along time (more than one: frames against frames)."""
        return self._members(value, self._time)

    def time_axis(self, value: Value) -> int | None:
        """The axis of the value that runs along time, if there is one.

        Raises:
            CannotStepError: it has two.
        """
        axes = self.time_axes(value)
        if len(axes) > 1:
            raise CannotStepError(
                f"{value.name!r} relates all frames to all frames (attention over time)"
            )
        return axes[0] if axes else None

    def axes_like(self, value: Value, other: Value, axis: int) -> tuple[int, ...]:
        """Axes of the value that are one with an axis of another value."""
        return self._members(value, {self._find((other, axis))})

    def batch_axis(self, value: Value) -> int | None:
        """The axis of the value that counts independent streams, if it has just one."""
        axes = self._members(value, self._batch)
        return axes[0] if len(axes) == 1 else None

    def are_one(self, a: _Axis, b: _Axis) -> bool:
        """Whether two axes are one and the same."""
        return self._find(a) == self._find(b)

    def is_spread_over_time(self, value: Value, axis: int, graph: Graph) -> bool:
        """Whether the axis, of extent one, is repeated for every frame somewhere."""
        root = self._find((value, axis))
        for node in graph.nodes:
            if not isinstance(node.op, (Binary, Broadcast)):
                continue
            (result,) = node.outputs
            for operand in (item for item in node.inputs if item is not None):
                shift = result.type.rank - operand.type.rank
                for place, extent in enumerate(operand.type.shape):
                    is_it = extent == 1 and self._find((operand, place)) == root
                    if is_it and place + shift in self.time_axes(result):
                        return True
        return False

    def _members(self, value: Value, classes: set[_Axis]) -> tuple[int, ...]:
        return tuple(
            axis for axis in range(value.type.rank) if self._find((value, axis)) in classes
        )

    def _roots(self, axes: Iterable[_Axis]) -> set[_Axis]:
        return {self._find(axis) for axis in axes}

    def _find(self, axis: _Axis) -> _Axis:
        root = axis
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while axis != root:
            axis, self._parent[axis] = self._parent.get(axis, root), root
        return root

    def _join(self, a: _Axis, b: _Axis) -> None:
        first, second = self._find(a), self._find(b)
        if first != second:
            self._parent[second] = first
