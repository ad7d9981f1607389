"""A recurrence that an exporter unrolled becomes one Scan again, checked by evaluation.

The copies in the middle have to be the same node by node, and the last one has the same nodes in
front of what stands behind it. The first may have been folded, from initial values of zero: whether
the body gives its values, too, is found by computing both on random input. What is made is compared
with the graph as it was; where it is not the same, the graph stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.graph import Graph, Output, constant_data
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Arithmetic,
    Binary,
    Body,
    BodyNode,
    Cast,
    Compare,
    Concat,
    Logic,
    Not,
    Reshape,
    Scan,
    Slice,
    TopKIndices,
    Transpose,
    Unary,
    Where,
)
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.passes.copies import Copies, Place, Walked, find_copies, order_nodes

TOLERANCE = 1e-9

SCALES = (1.0, 5.0, 0.2)
"""Of the random inputs on which copies are compared."""

SMOOTH = frozenset(
    (Fn.SIGMOID, Fn.TANH, Fn.SOFTPLUS, Fn.EXP, Fn.ERF, Fn.NEG, Fn.AFFINE, Fn.SCALED_TANH)
)
"""Functions without bends."""

MOST_LAYERS = 16
"""Recurrences that are rolled in one graph."""


def roll_copies(graph: Graph, ctx: PassContext) -> Graph:
    """Scans in place of unrolled recurrences, one for each direction."""
    del ctx
    for _ in range(MOST_LAYERS):
        rolled = next(_ways(graph), None)
        if rolled is None:
            break
        graph = rolled
    return graph


def _ways(graph: Graph) -> Iterator[Graph]:
    """The graph with one more Scan: recurrences before layers that carry nothing."""
    for is_reversed, carries in ((False, True), (True, True), (False, False)):
        copies = find_copies(graph, is_reversed=is_reversed)
        if copies is None or bool(copies.following) is not carries:
            continue
        try:
            rolled = _Roller(graph, copies).rolled()
            is_right = rolled is not None and _is_the_same(graph, rolled)
        except (ValueError, EdgeLSTMError):
            continue
        if rolled is not None and is_right:
            yield rolled


@dataclass(slots=True)
class _Roller:
    """One unrolled recurrence on its way to a Scan."""

    graph: Graph
    copies: Copies
    data: Mapping[Value, Array] = field(init=False)
    samples: list[dict[Value, Array]] = field(init=False)
    body: Body = field(init=False)
    numbers: dict[Value, int] = field(init=False)
    sequences: list[Walked] = field(init=False)
    outside: list[Value] = field(init=False)

    def __post_init__(self) -> None:
        self.data = constant_data(self.graph)
        self.samples = [_values_of(self.graph, seed) for seed in range(len(SCALES))]

    def rolled(self) -> Graph | None:
        """The graph with the Scan, or None."""
        copies = self.copies
        self._make_body()
        start, initial = self._beginning()
        first = self._mapped(0, self._first_values()) if start == 0 else {}
        is_smooth = all(self._is_safe(node) for node in copies.nodes[0])
        if start == 0 and not (is_smooth and self._is_enough(0, first)):
            start, initial, first = 1, list(copies.carried[0]), {}
        last = copies.last
        inside = {node for copy in range(start, copies.length - 1) for node in copies.nodes[copy]}
        ending = [n for n in copies.nodes[-1] if all(value in last for value in n.outputs)]
        end = copies.length if ending else copies.length - 1
        inside.update(ending)
        if end - start < 2:
            return None
        known: dict[Value, tuple[int, Place]] = {
            value: (0, place) for value, place in first.items()
        }
        for copy in range(max(start, 1), copies.length - 1):
            for number, node in enumerate(copies.nodes[copy]):
                known.update(
                    (value, (copy, Place(number, k))) for k, value in enumerate(node.outputs)
                )
        if ending:
            known.update((value, (copies.length - 1, p)) for value, p in last.items())
        return _Writer(self, start, end, initial, known, inside).graph()

    def _is_safe(self, node: Node) -> bool:
        """Whether a node of the first copy that agrees on random numbers agrees everywhere.

        Products, sums and smooth functions do. What has a bend has to be in the other copies, too.
        """
        op = node.op
        if isinstance(op, Binary):
            return op.arithmetic not in (Arithmetic.MIN, Arithmetic.MAX)
        if isinstance(op, Unary) and op.activation.fn not in SMOOTH:
            return any(op == other.op for other in self.copies.nodes[1])
        return not isinstance(op, (Compare, Logic, Not, Where, ArgReduce, TopKIndices, Cast))

    def _make_body(self) -> None:
        """The pattern, from the second copy."""
        copies = self.copies
        copy = 1
        carried, nodes = copies.carried[0], copies.nodes[copy]
        made = {value for node in nodes for value in node.outputs}
        frames = {v: (node, seq) for node, (seq, k) in copies.reads.items() for v in node.outputs}
        types: list[TensorType] = [value.type for value in carried]
        numbers = {value: k for k, value in enumerate(carried)}
        read = list(dict.fromkeys(v for node in nodes for v in node.inputs if v is not None))
        self.sequences = list(dict.fromkeys(frames[v][1] for v in read if v in frames))
        slots = {}
        for sequence in self.sequences:
            slots[sequence] = len(types)
            shape = list(sequence.source.type.shape)
            del shape[sequence.axis]
            types.append(sequence.source.type.with_shape(shape))
        self.outside = [v for v in read if v not in made and v not in frames and v not in numbers]
        for value in self.outside:
            numbers[value] = len(types)
            types.append(value.type)
        inputs = tuple(types)
        body: list[BodyNode] = []
        for value in read:
            if value in frames:
                slot = slots[frames[value][1]]
                if types[slot] != value.type:
                    body.append(BodyNode(Reshape(value.type.shape), (slot,)))
                    slot = len(types)
                    types.append(value.type)
                numbers[value] = slot
        for node in nodes:
            given = tuple(None if v is None else numbers[v] for v in node.inputs)
            body.append(BodyNode(node.op, given))
            for value in node.outputs:
                numbers[value] = len(types)
                types.append(value.type)
        following = tuple(numbers[copies.value(copy, place)] for place in copies.following)
        self.body, self.numbers = Body(inputs, tuple(body), following), numbers

    def number(self, place: Place) -> int:
        """The number of a value of the body."""
        return self.numbers[self.copies.value(1, place)]

    def places(self) -> Iterator[Place]:
        """All values that the nodes of a copy give."""
        for number, node in enumerate(self.copies.nodes[1]):
            for output in range(len(node.outputs)):
                yield Place(number, output)

    def _beginning(self) -> tuple[int, list[Value | None]]:
        """The first frame that the body gives, and what it starts from (None: zeros)."""
        first = self.copies.carried[0]
        for found, values in zip(self._first_values(), self.samples, strict=True):
            following = [found[self.number(place)] for place in self.copies.following]
            if not all(map(_is_near, following, (values[value] for value in first))):
                return 1, list(first)
        return 0, [None] * len(first)

    def _first_values(self) -> list[dict[int, Array]]:
        zeros = [np.zeros(value.type.shape) for value in self.copies.carried[0]]
        return [self._computed(0, zeros, values) for values in self.samples]

    def _mapped(self, copy: int, found: list[dict[int, Array]]) -> dict[Value, Place]:
        """The values of an outer copy that are values of the body, with their places."""
        mapped: dict[Value, Place] = {}
        places = (*self.copies.following, *self.places())
        for value in (v for node in self.copies.nodes[copy] for v in node.outputs):
            for place in places:
                same_type = self.copies.value(1, place).type == value.type
                if same_type and all(
                    _is_near(arrays[self.number(place)], values[value])
                    for arrays, values in zip(found, self.samples, strict=True)
                ):
                    mapped[value] = place
                    break
        return mapped

    def _is_enough(self, copy: int, mapped: Mapping[Value, Place]) -> bool:
        """Whether all that others read of a copy is among its mapped values."""
        made = {value for node in self.copies.nodes[copy] for value in node.outputs}
        inside = {node for nodes in self.copies.nodes[:-1] for node in nodes}
        read = {
            value for node in self.graph.nodes if node not in inside for value in node.inputs
        } | {output.value for output in self.graph.outputs}
        return all(value in mapped for value in made & read)

    def _computed(
        self, copy: int, states: list[Array], values: Mapping[Value, Array]
    ) -> dict[int, Array]:
        """All values of the body in a frame, by number."""
        index = self.copies.length - 1 - copy if self.copies.is_reversed else copy
        frames = [np.take(values[s.source], index, s.axis) for s in self.sequences]
        held = [values[value] for value in self.outside]
        found: list[Array] = [*states, *frames, *held]
        for node in self.body.nodes:
            given = [None if n is None else found[n] for n in node.inputs]
            found += apply(node.op.kind, op_fields(node.op), given)
        return dict(enumerate(found))


@dataclass(slots=True)
class _Writer:
    """The graph with a Scan in place of copies."""

    roller: _Roller
    start: int
    end: int
    initial: list[Value | None]
    known: Mapping[Value, tuple[int, Place]]
    inside: set[Node]
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
            if node not in self.inside and node not in joins
            for value in node.inputs
            if value is not None and value in self.known
        } | {output.value for output in graph.outputs if output.value in self.known}
        if needed and not self.roller.copies.following:
            return None  # Frames that are used one by one gain nothing.
        finals = self._scan(
            {place for place, _ in joins.values()}
            | {self.known[value][1] for value in needed if not self._is_final(value)}
        )
        for value in needed:
            copy, place = self.known[value]
            if self._is_final(value):
                self.taken[value] = finals[self.roller.copies.following.index(place)]
            else:
                at = copy - self.start
                row = self._add(Slice(0, at, 1, 1), self.rows[place])
                self.taken[value] = self._add(Reshape(value.type.shape), row)
        for node in graph.nodes:
            if node in joins:
                place, turns = joins[node]
                self.taken[node.outputs[0]] = self._join(node, place, turns=turns)
        kept = [node for node in graph.nodes if node not in self.inside and node not in joins]
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
        live = _live(ordered, outputs)
        return Graph(graph.name, graph.inputs, outputs, live, constants)

    def _is_final(self, value: Value) -> bool:
        copy, place = self.known[value]
        return copy == self.end - 1 and place in self.roller.copies.following

    def _joined(self, node: Node) -> tuple[Place, bool] | None:
        """The place whose value of every copy a Concat joins, and whether the last comes first."""
        if not isinstance(node.op, Concat) or len(node.inputs) != self.end - self.start:
            return None
        found = [self.known.get(value) for value in node.inputs if value is not None]
        if len(found) < len(node.inputs) or any(item is None for item in found):
            return None
        pairs = [item for item in found if item is not None]
        copies = [copy for copy, _ in pairs]
        if len({place for _, place in pairs}) > 1:
            return None
        forward = list(range(self.start, self.end))
        if copies not in (forward, forward[::-1]):
            return None
        return pairs[0][1], copies != forward

    def _scan(self, places: set[Place]) -> tuple[Value, ...]:
        """The Scan with rows of these places; returns what it carries in the end."""
        roller, copies = self.roller, self.roller.copies
        shown = sorted(places, key=lambda place: (place.node, place.output))
        body = roller.body
        results = (*body.outputs, *(roller.number(place) for place in shown))
        length = self.end - self.start
        initial = [
            value if value is not None else self._zeros(kind)
            for value, kind in zip(self.initial, body.inputs, strict=False)
        ]
        sequences = [self._walked(sequence) for sequence in roller.sequences]
        op = Scan(Body(body.inputs, body.nodes, results), len(initial), len(sequences), length)
        outputs = self._add_all(op, *initial, *sequences, *roller.outside)
        self.rows = dict(zip(shown, outputs[len(initial) :], strict=True))
        del copies
        return outputs[: len(initial)]

    def _walked(self, sequence: Walked) -> Value:
        """The frames of the Scan, in the order of its turns and in front."""
        copies = self.roller.copies
        source, axis = sequence.source, sequence.axis
        extent = source.type.shape[axis]
        step = -1 if copies.is_reversed else 1
        first = extent - 1 - self.start if copies.is_reversed else self.start
        length = self.end - self.start
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


def _live(nodes: list[Node], outputs: tuple[Output, ...]) -> tuple[Node, ...]:
    """The nodes that the outputs need."""
    needed = {output.value for output in outputs}
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(value for value in node.inputs if value is not None)
    return tuple(kept[::-1])


def _values_of(graph: Graph, seed: int) -> dict[Value, Array]:
    """Every value of the graph on random input, in float64."""
    found = evaluate(graph, _random_inputs(graph, seed), dtype=DType.F64, keep=True).values
    every = (
        *graph.inputs,
        *(constant.value for constant in graph.constants),
        *(value for node in graph.nodes for value in node.outputs),
    )
    return {value: found[value.name] for value in every}


def _random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    scale = SCALES[seed % len(SCALES)]
    return {
        value.name: scale * rng.standard_normal(value.type.shape)
        if value.type.dtype.is_float
        else np.zeros(value.type.shape, value.type.dtype.numpy)
        for value in graph.inputs
    }


def _is_the_same(before: Graph, after: Graph) -> bool:
    """Whether both compute the same on other random input."""
    for seed in range(len(SCALES), 2 * len(SCALES)):
        inputs = _random_inputs(before, seed)
        wanted = evaluate(before, inputs, dtype=DType.F64).outputs
        found = evaluate(after, inputs, dtype=DType.F64).outputs
        if not all(_is_near(found[name], data) for name, data in wanted.items()):
            return False
    return True


def _is_near(found: Array, wanted: Array) -> bool:
    if found.shape != wanted.shape or not np.isfinite(np.asarray(wanted, np.float64)).all():
        return False
    bound = TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    return bool(np.abs(found.astype(np.float64) - wanted).max(initial=0.0) <= bound)
