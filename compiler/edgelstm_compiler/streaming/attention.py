"""Self-attention over the frames: which values relate frames to frames, and how far they look.

Such a value has two time axes: queries (the frame that asks) and keys (the frames it asks). It
begins where frames meet frames, as in Q K', and ends where the keys are summed up. Between the two
stands what the mask of the model closes: how many frames are left says how many a stream keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import MatMul, Reduce, Softmax
from edgelstm_compiler.ir.types import Node, Value
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.closed_places import ClosedPlaces

_Axis = tuple[Value, int]


@dataclass(slots=True, eq=False)
class Attention:
    """Values that relate the same frames to the same frames.

    Args:
        origin: the node that weights the frames, for messages.
        behind: frames before its own that a frame sees at most.
        ahead: frames behind its own.
        frames: of the graph.
        softmax: the nodes that weight the keys, each with the axes of queries and keys.
    """

    origin: str
    behind: int = 0
    ahead: int = 0
    frames: int = 1
    is_summed: bool = False
    softmax: list[tuple[Node, int, int]] = field(default_factory=list)

    @property
    def context(self) -> int:
        """Frames that a frame sees, its own included."""
        return self.behind + 1

    def why_not(self, context: int | None) -> str | None:
        """Why a stream cannot compute it; None where it can.

        Args:
            context: frames that may be kept where the mask says nothing less; None: nobody says.
        """
        if not self.is_summed:
            return (
                "it relates all frames to all frames (attention over time), and not by weights "
                "that are summed over the frames"
            )
        if self.ahead:
            return (
                "it is attention over time: each frame sees frames that come later, which needs "
                "them all"
            )
        if context is None and self.context >= self.frames > 1:
            return (
                "it is attention over time: each frame sees all frames before it, and a stream "
                "keeps a fixed number of them"
            )
        return None


class Attentions:
    """The attention of a graph.

    Args:
        graph: a sequence network.
        axes: its axes.
    """

    def __init__(self, graph: Graph, axes: AxisClasses) -> None:
        self._axes = axes
        self._parent: dict[_Axis, _Axis] = {}
        self._keys: set[_Axis] = set()
        self._queries: set[_Axis] = set()
        for node in graph.nodes:
            self._join(node)
        ends = [end for node in graph.nodes for end in self._ends(node)]
        for _, value, axis in ends:
            self._keys.add(self._find((value, axis)))
            self._queries |= {self._find((value, a)) for a in axes.time_axes(value) if a != axis}
        self._groups: dict[_Axis, Attention] = {}
        places: ClosedPlaces | None = None
        for node, value, axis in ends:
            if self.axes_of(value) is None:
                continue
            group = self._group(value, axis, node)
            query = next(a for a in axes.time_axes(value) if a != axis)
            if isinstance(node.op, Softmax):
                group.origin = node.origin or node.name
                group.softmax.append((node, query, axis))
                continue
            places = places or ClosedPlaces(graph)
            zero = places.of(value).spread(value.type.shape).zero
            others = tuple(a for a in range(value.type.rank) if a not in (query, axis))
            is_open = ~zero.all(axis=others)
            rows, columns = np.nonzero(is_open if query < axis else is_open.T)
            group.is_summed = True
            group.behind = max(group.behind, int((rows - columns).max(initial=0)))
            group.ahead = max(group.ahead, int((columns - rows).max(initial=0)))

    def __iter__(self) -> Iterator[Attention]:
        return iter(self._groups.values())

    def relates_frames(self, value: Value) -> bool:
        """Whether a value has queries and keys."""
        return len(self._axes.time_axes(value)) > 1

    def axes_of(self, value: Value) -> tuple[int, int] | None:
        """Where queries and keys stand in a value; None where nobody tells them apart."""
        times = self._axes.time_axes(value)
        if len(times) != 2 or value.type.shape[times[0]] != value.type.shape[times[1]]:
            return None
        roots = [self._find((value, axis)) for axis in times]
        are_keys = [root in self._keys and root not in self._queries for root in roots]
        if are_keys == [False, True]:
            return times[0], times[1]
        return (times[1], times[0]) if are_keys == [True, False] else None

    def of(self, value: Value) -> Attention | None:
        """The attention that a value belongs to."""
        axes = self.axes_of(value)
        return None if axes is None else self._groups.get(self._find((value, axes[1])))

    def _group(self, value: Value, axis: int, node: Node) -> Attention:
        root = self._find((value, axis))
        if root not in self._groups:
            frames = value.type.shape[axis]
            self._groups[root] = Attention(node.origin or node.name, frames=frames)
        return self._groups[root]

    def _join(self, node: Node) -> None:
        """Axes of two such values that are one."""
        if not any(v is not None and self.relates_frames(v) for v in node.inputs):
            return
        types = [value.type if value is not None else None for value in node.inputs]
        results = [value.type for value in node.outputs]
        for tie in (*node.op.ties(types, results), *node.op.moves(types, results)):
            source = node.inputs[tie.input] if tie.input < len(node.inputs) else None
            target = node.outputs[tie.output]
            if source is None or not self.relates_frames(source) or not self.relates_frames(target):
                continue
            a, b = self._find((source, tie.input_axis)), self._find((target, tie.output_axis))
            if a != b:
                self._parent[b] = a

    def _ends(self, node: Node) -> Iterator[tuple[Node, Value, int]]:
        """Where keys are weighted or summed: the node, the value, and the axis of its keys."""
        for place, value in enumerate(node.inputs):
            if value is None or not self.relates_frames(value):
                continue
            times = self._axes.time_axes(value)
            match node.op:
                case Softmax(axis=axis) if axis in times:
                    yield node, value, axis
                case Reduce(axes=reduced) if len(set(reduced) & set(times)) == 1:
                    yield node, value, next(axis for axis in reduced if axis in times)
                case MatMul():
                    axis = value.type.rank - (1 if place == 0 else 2)
                    if axis in times and not self.relates_frames(node.outputs[0]):
                        yield node, value, axis

    def _find(self, axis: _Axis) -> _Axis:
        while axis in self._parent:
            axis = self._parent[axis]
        return axis
