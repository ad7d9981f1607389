"""Ties: axes that an operator says it leaves unmixed are unmixed in what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import (
    Broadcast,
    Concat,
    Gather,
    MatMul,
    Recurrent,
    Reshape,
    Scan,
    Slice,
    Transpose,
)
from edgelstm_compiler.ir.ops.layout import equal_axes
from edgelstm_compiler.ir.types import Node, Op, Tie, Value
from tests.graphs import GraphBuilder, random_graph


def ties_of(node: Node) -> tuple[Tie, ...]:
    """The ties that a node's operator names."""
    types = [None if value is None else value.type for value in node.inputs]
    return node.op.ties(types, [value.type for value in node.outputs])


def pairs(op: Op, *shapes: tuple[int, ...]) -> set[tuple[int, int, int]]:
    """(input, its axis, output axis) of every tie of an operator on operands of these shapes."""
    b = GraphBuilder()
    b.node(op, *(b.input(f"x{index}", *shape) for index, shape in enumerate(shapes)))
    return {(tie.input, tie.input_axis, tie.output_axis) for tie in ties_of(b.nodes[0])}


def alone(node: Node) -> Graph:
    """The node as a graph of its own."""
    inputs = tuple(dict.fromkeys(value for value in node.inputs if value is not None))
    return Graph("alone", inputs, (), (node,), ())


@given(st.integers(0, 10**6), st.data())
def test_a_change_along_a_tied_axis_stays_in_its_slice(seed: int, data: st.DataObject) -> None:
    """Change one slice of an input: along the tied axis only that slice of the output changes."""
    node = data.draw(st.sampled_from(random_graph(seed, 8).nodes))
    known = {
        value: (
            np.random.default_rng(1).integers(0, 1, value.type.shape, value.type.dtype.numpy)
            if not value.type.dtype.is_float
            else np.random.default_rng(seed).standard_normal(value.type.shape).astype(np.float32)
        )
        for value in node.inputs
        if value is not None
    }
    graph = alone(node)
    before = run(graph, node, known)
    for tie in ties_of(node):
        value = node.inputs[tie.input]
        if value is None or not value.type.dtype.is_float:
            continue
        if isinstance(node.op, Recurrent) and tie.output_axis == 0 and tie.output == 0:
            continue  # frame t of Y is that of X, but knows the frames before it
        if isinstance(node.op, Scan) and tie.output_axis == 0 and tie.output >= node.op.states:
            continue  # so does a row of a Scan
        if node.inputs.count(value) > 1:
            continue
        for place in range(value.type.shape[tie.input_axis]):
            changed = known[value].copy()
            np.moveaxis(changed, tie.input_axis, 0)[place] += 1
            after = run(graph, node, {**known, value: changed})
            old = np.delete(before[tie.output], place, tie.output_axis)
            new = np.delete(after[tie.output], place, tie.output_axis)
            np.testing.assert_array_equal(new, old, err_msg=f"{node.op}: {tie}")


def run(graph: Graph, node: Node, known: dict[Value, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a node."""
    inputs = {value.name: data for value, data in known.items()}
    values = evaluate(graph, inputs, keep=True).values
    return [values[output.name] for output in node.outputs]


@given(st.integers(0, 10**6))
def test_tied_axes_have_the_same_extent(seed: int) -> None:
    """Frame t of one needs a frame t of the other."""
    for node in random_graph(seed, 8).nodes:
        for tie in ties_of(node):
            value = node.inputs[tie.input] if tie.input < len(node.inputs) else None
            if value is not None:
                output = node.outputs[tie.output]
                assert value.type.shape[tie.input_axis] == output.type.shape[tie.output_axis]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((4, 1, 2, 3), (4, 2, 3), [(0, 0), (2, 1), (3, 2)]),
        ((4, 2, 3), (8, 3), [(2, 1)]),
        ((4, 1, 3), (4, 3), [(0, 0), (2, 1)]),
        ((4, 4), (16,), []),
        ((2, 2, 2), (2, 4), [(0, 0)]),
        ((2, 3), (3, 2), []),
        ((4, 1, 1, 3), (4, 1, 3), [(0, 0), (2, 1), (3, 2)]),
        ((4, 1, 3), (4, 1, 1, 3), [(0, 0), (1, 2), (2, 3)]),
        ((), (1,), []),
    ],
)
def test_equal_axes(a: tuple[int, ...], b: tuple[int, ...], expected: list[object]) -> None:
    """Same extent and as many elements behind; ones match from the right."""
    assert equal_axes(a, b) == expected


def test_a_broadcast_axis_is_not_tied() -> None:
    """What is repeated is no longer that axis."""
    assert pairs(Broadcast((2, 4, 3)), (1, 3)) == {(0, 1, 2)}


def test_a_reversed_axis_is_not_tied() -> None:
    """Frame t would be frame T-1-t."""
    assert pairs(Slice(0, 3, -1, 4), (4, 2)) == {(0, 1, 1)}


def test_an_axis_taken_as_a_whole_is_tied() -> None:
    """A slice that leaves nothing away moves nothing."""
    assert pairs(Slice(0, 0, 1, 4), (4, 2)) == {(0, 0, 0), (0, 1, 1)}


def test_the_axis_of_a_concat_is_not_tied() -> None:
    """Its elements move."""
    assert pairs(Concat(1), (4, 2), (4, 3)) == {(0, 0, 0), (1, 0, 0)}


def test_axes_behind_a_gathered_one_move_by_the_rank_of_the_indices() -> None:
    """A scalar takes the axis away, a matrix puts two in its place."""
    b = GraphBuilder()
    x = b.input("x", 2, 5, 3)
    b.node(Gather(1), x, b.constant(np.array(4)))
    b.node(Gather(1), x, b.constant(np.zeros((6, 7), np.int64)))
    found = [{(t.input, t.input_axis, t.output_axis) for t in ties_of(n)} for n in b.nodes]
    assert found == [{(0, 0, 0), (0, 2, 1)}, {(0, 0, 0), (0, 2, 3), (1, 0, 1), (1, 1, 2)}]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((5, 2, 3), (3, 4), {(0, 0, 0), (0, 1, 1), (1, 1, 2)}),
        ((5, 2, 3), (5, 3, 4), {(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 2, 2)}),
        ((2, 3), (5, 3, 4), {(0, 0, 1), (1, 0, 0), (1, 2, 2)}),
        ((3,), (5, 3, 4), {(1, 0, 0), (1, 2, 1)}),
        ((5, 2, 3), (3,), {(0, 0, 0), (0, 1, 1)}),
        ((3,), (3,), set()),
        ((1, 2, 3), (5, 3, 4), {(0, 1, 1), (1, 0, 0), (1, 2, 2)}),
    ],
)
def test_ties_of_a_product(
    a: tuple[int, ...], b: tuple[int, ...], expected: set[tuple[int, int, int]]
) -> None:
    """Rows, columns and batch axes pass, the contracted axis does not."""
    assert pairs(MatMul(), a, b) == expected


def test_operators_that_name_a_shape_are_resized() -> None:
    """Reshape and Broadcast for another number of frames; others do not care."""
    assert Reshape((4, 2, 3)).resized(0, 1) == Reshape((1, 2, 3))
    assert Broadcast((4, 2, 3)).resized(0, 1) == Broadcast((1, 2, 3))
    assert Transpose((1, 0)).resized(0, 1) == Transpose((1, 0))
