"""Copies of one body in a graph that was unrolled frame by frame: which nodes belong to which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgelstm_compiler.ir.graph import Graph, constant_data, consumers, producers
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Concat,
    Dense,
    Gather,
    MatMul,
    Reshape,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.types import Array, Node, Op, Value

FEWEST = 4
"""Frames from which on copies are looked for."""

_MOVABLE: tuple[type[Op], ...] = (Dense, MatMul, Reshape, Slice, Transpose, Concat)
"""What may be computed one frame later: a product with the state, and what only moves elements."""


@dataclass(frozen=True, slots=True)
class Walked:
    """A value that is read frame by frame.

    Args:
        source: the value.
        axis: its frames.
    """

    source: Value
    axis: int


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a copy: which of its nodes gives it, as which output."""

    node: int
    output: int


@dataclass(slots=True, eq=False)
class Copies:
    """A graph in copies.

    Args:
        length: number of frames.
        is_reversed: the first copy reads the last frame.
        reads: nodes that read a frame, with sequence and copy.
        nodes: of each copy, in order.
        carried: values that each copy reads of the one before, in the order of the pattern.
        following: places in a copy of what the next one reads.
        last: values of the last copy that the others have, too, with their places.
    """

    length: int
    is_reversed: bool
    reads: dict[Node, tuple[Walked, int]]
    nodes: list[list[Node]]
    carried: list[list[Value]] = field(default_factory=list)
    following: list[Place] = field(default_factory=list)
    last: dict[Value, Place] = field(default_factory=dict)

    def value(self, copy: int, place: Place) -> Value:
        """A value of a copy in the middle."""
        return self.nodes[copy][place.node].outputs[place.output]


def find_copies(graph: Graph, *, is_reversed: bool) -> Copies | None:
    """The copies of a body, where those in the middle are all the same; None where there are none.

    Args:
        graph: the graph.
        is_reversed: look for a recurrence from the last frame to the first.
    """
    data = constant_data(graph)
    reads, length = _frame_reads(graph, data, is_reversed=is_reversed)
    if length < FEWEST:
        return None
    masks: dict[Value, int] = {}
    for node in graph.nodes:
        mask = 1 << reads[node][1] if node in reads else 0
        for value in node.inputs:
            mask |= masks.get(value, 0) if value is not None else 0
        masks.update((value, mask) for value in node.outputs)
    levels = _levels(graph, masks, reads, length)
    _move_products(graph, levels, reads, length)
    nodes: list[list[Node]] = [[] for _ in range(length)]
    for node in graph.nodes:
        if node in levels:
            nodes[levels[node]].append(node)
    copies = Copies(length, is_reversed, reads, nodes)
    return copies if _is_one_body(copies, data, masks) else None


def _frame_reads(
    graph: Graph, data: Mapping[Value, Array], *, is_reversed: bool
) -> tuple[dict[Node, tuple[Walked, int]], int]:
    """Nodes that take one place of an axis all of whose places are taken, and their number."""
    found: dict[Walked, dict[int, list[Node]]] = {}
    for node in graph.nodes:
        place = _place_of(node, data)
        if place is not None:
            sequence, index = place
            found.setdefault(sequence, {}).setdefault(index, []).append(node)
    whole = {
        sequence: places
        for sequence, places in found.items()
        if len(places) == sequence.source.type.shape[sequence.axis]
    }
    length = max((len(places) for places in whole.values()), default=0)
    reads = {
        node: (sequence, length - 1 - index if is_reversed else index)
        for sequence, places in whole.items()
        if len(places) == length
        for index, nodes in places.items()
        for node in nodes
    }
    return reads, length


def _place_of(node: Node, data: Mapping[Value, Array]) -> tuple[Walked, int] | None:
    source = node.inputs[0] if node.inputs else None
    if source is None or source in data:
        return None
    if isinstance(node.op, Slice) and node.op.count == 1:
        return Walked(source, node.op.axis), node.op.start
    if not isinstance(node.op, Gather):
        return None
    places = node.inputs[1]
    indices = None if places is None else data.get(places)
    if indices is None or indices.size != 1:
        return None
    index = int(indices.reshape(-1)[0])
    return Walked(source, node.op.axis), index % source.type.shape[node.op.axis]


def _levels(
    graph: Graph,
    masks: Mapping[Value, int],
    reads: Mapping[Node, tuple[Walked, int]],
    length: int,
) -> dict[Node, int]:
    """The copy of every node that depends on the frames 0 to t, or on frame t alone."""
    levels: dict[Node, int] = {}
    for node in graph.nodes:
        mask = masks[node.outputs[0]]
        if not mask or node in reads:
            continue
        if mask & (mask + 1) == 0 or mask & (mask - 1) == 0:
            levels[node] = mask.bit_length() - 1
    return _without_tail(graph, levels, length)


def _without_tail(graph: Graph, levels: dict[Node, int], length: int) -> dict[Node, int]:
    """Without what stands behind the last copy: it reads copies further back, or what does."""
    level_of = {value: level for node, level in levels.items() for value in node.outputs}
    tail: set[Value] = set()
    for node in graph.nodes:
        if levels.get(node) != length - 1:
            continue
        read = [level_of[value] for value in node.inputs if value in level_of]
        if any(level < length - 2 for level in read) or not tail.isdisjoint(
            value for value in node.inputs if value is not None
        ):
            tail.update(node.outputs)
    return {node: level for node, level in levels.items() if node.outputs[0] not in tail}


def _move_products(
    graph: Graph,
    levels: dict[Node, int],
    reads: Mapping[Node, tuple[Walked, int]],
    length: int,
) -> None:
    """Products with the state that only the next copy reads belong to that copy."""
    readers, makers = consumers(graph), producers(graph)
    shown = {output.value for output in graph.outputs}
    for node in reversed(graph.nodes):
        level = levels.get(node)
        if level is None or level >= length - 1 or any(value in shown for value in node.outputs):
            continue
        is_sum = isinstance(node.op, Binary) and node.op.arithmetic is Arithmetic.ADD
        if not (is_sum or isinstance(node.op, _MOVABLE)):
            continue
        following = [reader for value in node.outputs for reader in readers.get(value, ())]
        if not following or any(levels.get(reader) != level + 1 for reader in following):
            continue
        before = [makers[value] for value in node.inputs if value in makers]
        if any(p in reads or levels.get(p, level) != level for p in before):
            continue
        levels[node] = level + 1


def _is_one_body(copies: Copies, data: Mapping[Value, Array], masks: Mapping[Value, int]) -> bool:
    """Whether the copies in the middle are the same; fills in what they carry."""
    digests: dict[Value, str] = {}
    frames = {
        value: (sequence, frame, node)
        for node, (sequence, frame) in copies.reads.items()
        for value in node.outputs
    }
    first: tuple[tuple[Op, tuple[object, ...]], ...] | None = None
    places: dict[Value, Place] = {}
    following: list[Place] | None = None
    for copy in range(1, copies.length - 1):
        before, places = places, {}
        carried: dict[Value, int] = {}
        text: list[tuple[Op, tuple[object, ...]]] = []
        for number, node in enumerate(copies.nodes[copy]):
            given = [
                _name_of(value, frames, copy, places, carried, data, masks, digests)
                for value in node.inputs
            ]
            text.append((node.op, tuple(given)))
            places.update(
                (value, Place(number, output)) for output, value in enumerate(node.outputs)
            )
        copies.carried.append(list(carried))
        form = tuple(text)
        if first is None:
            first = form
        elif form != first:
            return False
        else:
            if not all(value in before for value in carried):
                return False
            found = [before[value] for value in carried]
            if following is not None and found != following:
                return False
            following = found
    # Nothing carried: every frame by itself, as a layer that is distributed over time.
    copies.following = following or []
    assert first is not None
    _name_last(
        copies,
        first,
        lambda value, known: _name_of(
            value, frames, copies.length - 1, known, {}, data, masks, digests
        ),
    )
    return bool(copies.nodes[1])


def _name_last(
    copies: Copies,
    pattern: tuple[tuple[Op, tuple[object, ...]], ...],
    name_of: Callable[[Value | None, Mapping[Value, Place]], object],
) -> None:
    """Find the nodes of the last copy that the others have, among what stands behind them."""
    numbers = {row: number for number, row in enumerate(pattern)}
    carried = {copies.value(copies.length - 2, p): k for k, p in enumerate(copies.following)}
    for node in copies.nodes[-1]:
        given: list[object] = []
        for value in node.inputs:
            if value is not None and value in carried:
                given.append(("carried", carried[value]))
            else:
                given.append(name_of(value, copies.last))
        number = numbers.get((node.op, tuple(given)))
        if number is not None:
            copies.last.update(
                (value, Place(number, output)) for output, value in enumerate(node.outputs)
            )


def _name_of(
    value: Value | None,
    frames: Mapping[Value, tuple[Walked, int, Node]],
    copy: int,
    places: Mapping[Value, Place],
    carried: dict[Value, int],
    data: Mapping[Value, Array],
    masks: Mapping[Value, int],
    digests: dict[Value, str],
) -> object:
    """What a node of a copy reads, said so that equal copies say the same."""
    if value is None:
        return None
    if value in data:
        if value not in digests:
            array = data[value]
            head = f"{array.dtype}{array.shape}".encode()
            digests[value] = hashlib.sha256(head + array.tobytes()).hexdigest()
        return "constant", digests[value]
    if value in places:
        return places[value]
    if not masks.get(value, 0):
        return "outside", value
    if value in frames:
        sequence, frame, node = frames[value]
        return ("frame", sequence, node.op.kind, value.type) if frame == copy else ("no", node)
    return "carried", carried.setdefault(value, len(carried))


def order_nodes(nodes: Sequence[Node], known: set[Value]) -> list[Node]:
    """The nodes in an order in which every one finds what it reads."""
    ready, waiting, done = [], list(nodes), set(known)
    while waiting:
        later = []
        for node in waiting:
            if all(value is None or value in done for value in node.inputs):
                ready.append(node)
                done.update(node.outputs)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ValueError("the nodes read each other in a circle")
        waiting = later
    return ready
