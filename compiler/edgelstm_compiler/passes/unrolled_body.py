"""The body of an unrolled recurrence, and which copies it covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.graph import Graph, constant_data
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Arithmetic,
    Binary,
    Body,
    BodyNode,
    Cast,
    Compare,
    Logic,
    Not,
    Reshape,
    TopKIndices,
    Unary,
    Where,
)
from edgelstm_compiler.ir.types import Array, Node, TensorType, Value
from edgelstm_compiler.passes.copies import Copies, Place, Walked
from edgelstm_compiler.passes.sampling import SCALES, is_near, values_of

SMOOTH = frozenset(
    (Fn.SIGMOID, Fn.TANH, Fn.SOFTPLUS, Fn.EXP, Fn.ERF, Fn.NEG, Fn.AFFINE, Fn.SCALED_TANH)
)
"""Functions without bends."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a body covers.

    Args:
        start: the first frame.
        end: the one behind the last.
        initial: what it starts from; None: zeros.
        known: values of the graph that are values of the body: copy and place.
        inside: nodes that the Scan replaces.
    """

    start: int
    end: int
    initial: list[Value | None]
    known: Mapping[Value, tuple[int, Place]]
    inside: set[Node]


@dataclass(slots=True)
class Roller:
    """One unrolled recurrence on its way to a Scan."""

    graph: Graph
    copies: Copies
    data: Mapping[Value, Array] = field(init=False)
    samples: list[dict[Value, Array]] = field(init=False)
    body: Body = field(init=False)
    numbers: dict[Value, int] = field(init=False)
    sequences: list[Walked] = field(init=False)
    outside: list[Value] = field(init=False)
    _kinds: list[TensorType] = field(init=False)

    def __post_init__(self) -> None:
        self.data = constant_data(self.graph)
        self.samples = [values_of(self.graph, seed) for seed in range(len(SCALES))]

    def extent(self) -> Extent | None:
        """Which copies the body covers, or None."""
        copies = self.copies
        self._make_body()
        start, initial = self._beginning()
        first: dict[Value, Place] = {}
        if start == 0:
            found = self._first_by_nodes()
            if found is None and all(map(self._is_safe, copies.nodes[0])):
                found = self._mapped(0, self._first_values())
            if found is None or not self._is_enough(0, found):
                start, initial = 1, list(copies.carried[0])
            else:
                first = found
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
        return Extent(start, end, initial, known, inside)

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
        self._kinds = types

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
            if not all(map(is_near, following, (values[value] for value in first))):
                return 1, list(first)
        return 0, [None] * len(first)

    def _first_values(self) -> list[dict[int, Array]]:
        zeros = [np.zeros(value.type.shape) for value in self.copies.carried[0]]
        return [self._computed(0, zeros, values) for values in self.samples]

    def _first_by_nodes(self) -> dict[Value, Place] | None:
        """The first copy node by node, where what zeros make of the body was folded in it."""
        known = self._known_from_zeros()
        frames = {
            v: (sequence, v.type)
            for node, (sequence, copy) in self.copies.reads.items()
            if copy <= 1
            for v in node.outputs
        }
        counterpart: dict[Value, Value] = {}
        used: set[Node] = set()
        mapped: dict[Value, Place] = {}

        def is_it(own: Value | None, other: Value | None) -> bool:
            """Whether a node of the first copy reads what the pattern reads."""
            if own is None or other is None:
                return own is other
            if own in self.data:
                folded = known.get(self.numbers[other])
                return folded is not None and _is_folded(self.data[own], folded)
            if other in frames:
                return frames.get(own) == frames[other]
            return counterpart.get(other, other) is own

        for number, node in enumerate(self.copies.nodes[1]):
            if all(self.numbers[value] in known for value in node.outputs):
                continue
            same = next(
                (
                    each
                    for each in self.copies.nodes[0]
                    if each.op == node.op and all(map(is_it, each.inputs, node.inputs))
                ),
                None,
            )
            if same is None:
                return None
            # One node may be two of the body, which read the same zero there.
            used.add(same)
            counterpart.update(zip(node.outputs, same.outputs, strict=True))
            for k, value in enumerate(same.outputs):
                mapped.setdefault(value, Place(number, k))
        return mapped if len(used) == len(self.copies.nodes[0]) else None

    def _known_from_zeros(self) -> dict[int, Array]:
        """What the body computes from initial zeros and constants alone, by number."""
        states = len(self.copies.carried[0])
        known: dict[int, Array] = {
            number: np.zeros(kind.shape, kind.dtype.numpy)
            for number, kind in enumerate(self.body.inputs[:states])
        }
        known.update((self.numbers[v], self.data[v]) for v in self.outside if v in self.data)
        number = len(self.body.inputs)
        for node in self.body.nodes:
            given = [None if n is None else known.get(n) for n in node.inputs]
            is_known = all(n is None or n in known for n in node.inputs)
            if is_known:
                for k, array in enumerate(apply(node.op.kind, op_fields(node.op), given)):
                    known[number + k] = array
            number += len(
                node.op.infer([self._kinds[n] if n is not None else None for n in node.inputs])
            )
        return known

    def _mapped(self, copy: int, found: list[dict[int, Array]]) -> dict[Value, Place]:
        """The values of an outer copy that are values of the body, with their places."""
        mapped: dict[Value, Place] = {}
        places = (*self.copies.following, *self.places())
        for value in (v for node in self.copies.nodes[copy] for v in node.outputs):
            for place in places:
                same_type = self.copies.value(1, place).type == value.type
                if same_type and all(
                    is_near(arrays[self.number(place)], values[value])
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


def _is_folded(data: Array, wanted: Array) -> bool:
    """Whether a constant is what was folded, up to float32's rounding."""
    if data.shape != wanted.shape or data.dtype != wanted.dtype:
        return False
    return bool(np.allclose(data, wanted, 1e-5, 1e-6))
