"""The graph with one Scan in place of the copies of a body."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.ops import (
    Body,
    Concat,
    Reshape,
    Scan,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.rewrite import eliminate_unused
from edgelstm_compiler.ir.types import Constant, Node, Op, TensorType, Value
from edgelstm_compiler.passes.copies import Place, Walked, order_nodes
from edgelstm_compiler.passes.unrolled_body import Extent, Roller


@dataclass(slots=True)
class RolledGraph:
    """The graph with a Scan in place of copies."""

    roller: Roller
    extent: Extent
    nodes: list[Node] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    taken: dict[Value, Value] = field(default_factory=dict)
    rows: dict[Place, Value] = field(default_factory=dict)
    count: int = 0

    def graph(self) -> Graph | None:
        """All of it."""
        graph = self.roller.graph
        joins = {node: places for node in graph.nodes if (places := self._joined(node))}
        needed = {
            value
            for node in graph.nodes
            if node not in self.extent.inside and node not in joins
            for value in node.inputs
            if value is not None and value in self.extent.known
        } | {output.value for output in graph.outputs if output.value in self.extent.known}
        if needed and not self.roller.copies.following:
            return None  # Frames that are used one by one gain nothing.
        finals = self._scan(
            {place for place, _ in joins.values()}
            | {self.extent.known[value][1] for value in needed if not self._is_final(value)}
        )
        for value in needed:
            copy, place = self.extent.known[value]
            if self._is_final(value):
                self.taken[value] = finals[self.roller.copies.following.index(place)]
            else:
                at = copy - self.extent.start
                row = self._add(Slice(0, at, 1, 1), self.rows[place])
                self.taken[value] = self._add(Reshape(value.type.shape), row)
        for node in graph.nodes:
            if node in joins:
                place, turns = joins[node]
                self.taken[node.outputs[0]] = self._join(node, place, turns=turns)
        kept = [
            node for node in graph.nodes if node not in self.extent.inside and node not in joins
        ]
        for node in kept:
            inputs = tuple(None if v is None else self.taken.get(v, v) for v in node.inputs)
            self.nodes.append(Node(node.op, inputs, node.outputs, node.name, node.origin))
        constants = (*graph.constants, *self.constants)
        known = {*graph.inputs, *(constant.value for constant in constants)}
        outputs = tuple(
            Output(output.name, self.taken.get(output.value, output.value))
            for output in graph.outputs
        )
        ordered = order_nodes(self.nodes, known)
        return eliminate_unused(Graph(graph.name, graph.inputs, outputs, tuple(ordered), constants))

    def _is_final(self, value: Value) -> bool:
        copy, place = self.extent.known[value]
        return copy == self.extent.end - 1 and place in self.roller.copies.following

    def _joined(self, node: Node) -> tuple[Place, bool] | None:
        """The place whose value of every copy a Concat joins, and whether the last comes first."""
        if (
            not isinstance(node.op, Concat)
            or len(node.inputs) != self.extent.end - self.extent.start
        ):
            return None
        found = [self.extent.known.get(value) for value in node.inputs if value is not None]
        if len(found) < len(node.inputs) or any(item is None for item in found):
            return None
        pairs = [item for item in found if item is not None]
        copies = [copy for copy, _ in pairs]
        if len({place for _, place in pairs}) > 1:
            return None
        forward = list(range(self.extent.start, self.extent.end))
        if copies not in (forward, forward[::-1]):
            return None
        return pairs[0][1], copies != forward

    def _scan(self, places: set[Place]) -> tuple[Value, ...]:
        """The Scan with rows of these places; returns what it carries in the end."""
        roller = self.roller
        shown = sorted(places, key=lambda place: (place.node, place.output))
        body = roller.body
        results = (*body.outputs, *(roller.number(place) for place in shown))
        length = self.extent.end - self.extent.start
        initial = [
            value if value is not None else self._zeros(kind)
            for value, kind in zip(self.extent.initial, body.inputs, strict=False)
        ]
        sequences = [self._walked(sequence) for sequence in roller.sequences]
        op = Scan(Body(body.inputs, body.nodes, results), len(initial), len(sequences), length)
        outputs = self._add_all(op, *initial, *sequences, *roller.outside)
        self.rows = dict(zip(shown, outputs[len(initial) :], strict=True))
        return outputs[: len(initial)]

    def _walked(self, sequence: Walked) -> Value:
        """The frames of the Scan, in the order of its turns and in front."""
        copies = self.roller.copies
        source, axis = sequence.source, sequence.axis
        extent = source.type.shape[axis]
        step = -1 if copies.is_reversed else 1
        first = extent - 1 - self.extent.start if copies.is_reversed else self.extent.start
        length = self.extent.end - self.extent.start
        value = source
        if (first, step, length) != (0, 1, extent):
            value = self._add(Slice(axis, first, step, length), value)
        order = (axis, *(a for a in range(source.type.rank) if a != axis))
        return value if axis == 0 else self._add(Transpose(order), value)

    def _join(self, node: Node, place: Place, *, turns: bool) -> Value:
        """What a Concat of the same value of every copy gives, from the rows."""
        assert isinstance(node.op, Concat)
        rows, (result,) = self.rows[place], node.outputs
        if turns:
            rows = self._add(Slice(0, rows.type.shape[0] - 1, -1, rows.type.shape[0]), rows)
        order = list(range(1, rows.type.rank))
        order.insert(node.op.axis, 0)
        if order != list(range(rows.type.rank)):
            rows = self._add(Transpose(tuple(order)), rows)
        return self._add(Reshape(result.type.shape), rows)

    def _zeros(self, kind: TensorType) -> Value:
        constant = Constant.of(self._name("zeros"), np.zeros(kind.shape, kind.dtype.numpy))
        self.constants.append(constant)
        return constant.value

    def _name(self, what: str) -> str:
        self.count += 1
        direction = "backward" if self.roller.copies.is_reversed else "forward"
        first = self.roller.copies.nodes[1][0].name
        return f"{first}.{direction}.{self.count}.{what}"

    def _add(self, op: Op, *inputs: Value) -> Value:
        return self._add_all(op, *inputs)[0]

    def _add_all(self, op: Op, *inputs: Value) -> tuple[Value, ...]:
        name = self._name(op.kind.lower())
        kinds = op.infer([value.type for value in inputs])
        outputs = tuple(Value(f"{name}:{k}", kind) for k, kind in enumerate(kinds))
        origin = self.roller.copies.nodes[1][0].origin
        self.nodes.append(Node(op, inputs, outputs, name, origin))
        return outputs
