"""Local rewriting: replacements, aliases, fresh names, dead code."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import RELU, TANH
from edgelstm_compiler.ir.cells import RNN
from edgelstm_compiler.ir.graph import Graph, Output, StepGraph
from edgelstm_compiler.ir.ops import Reshape, Unary
from edgelstm_compiler.ir.rewrite import Replacement, Scope, eliminate_unused, rewrite
from edgelstm_compiler.ir.types import Node, Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.streaming.convert import to_steps
from tests.graphs import GraphBuilder, random_graph


def chain(length: int) -> Graph:
    """Tanh after tanh."""
    b = GraphBuilder()
    value = b.input("x", 2)
    for _ in range(length):
        (value,) = b.node(Unary(TANH), value)
    return b.graph(y=value)


def leave_alone(node: Node, scope: Scope) -> None:
    """Change nothing."""


def skip_tanh(node: Node, scope: Scope) -> Replacement | None:
    """Let the input stand for every tanh of it."""
    if node.op != Unary(TANH) or node.inputs[0] is None:
        return None
    return Replacement(values={node.outputs[0]: node.inputs[0]})


def grow_forever(node: Node, scope: Scope) -> Replacement | None:
    """Never be content."""
    return Replacement((dataclasses.replace(node, origin=node.origin + "+"),))


def split_relu(node: Node, scope: Scope) -> Replacement | None:
    """Two nodes for one."""
    if node.op != Unary(RELU) or node.origin == "split":
        return None
    (y,) = node.outputs
    middle = Value(scope.fresh_name(y.name), y.type)
    first = scope.fresh_node_name(node.name)
    return Replacement(
        (
            Node(node.op, node.inputs, (middle,), first, "split"),
            Node(node.op, (middle,), (y,), node.name, "split"),
        )
    )


@given(st.integers(0, 10**6))
def test_nothing_to_do_gives_the_same_object(seed: int) -> None:
    """Callers see by identity that nothing changed."""
    graph = random_graph(seed, 6)
    assert rewrite(graph, leave_alone) is graph


def test_chains_of_aliases_end_at_their_source() -> None:
    """Each node is looked at with its inputs already replaced."""
    graph = rewrite(chain(5), skip_tanh)
    assert not graph.nodes
    assert graph.outputs[0].value is graph.inputs[0]


def test_states_follow_a_replaced_value() -> None:
    """What a state writes is a result like an output."""
    b = GraphBuilder()
    y, y_h = b.cell(RNN, b.input("x", 3, 1, 2), 2)
    step = to_steps(b.graph(y=y))
    (reshaped,) = b.node(Reshape(y_h.type.shape), step.states[0].write)
    state = dataclasses.replace(step.states[0], write=reshaped)
    step = dataclasses.replace(step, nodes=(*step.nodes, b.nodes[-1]), states=(state,))
    verify(step)

    def skip(node: Node, scope: Scope) -> Replacement | None:
        if not isinstance(node.op, Reshape) or node.inputs[0] is None:
            return None
        return Replacement(values={node.outputs[0]: node.inputs[0]})

    after = rewrite(step, skip)
    verify(after)
    assert isinstance(after, StepGraph)
    assert after.states[0].write is after.nodes[0].outputs[1]


def test_new_names_avoid_those_that_are_taken() -> None:
    """Also where the model has names like ours."""
    b = GraphBuilder()
    x = b.input("relu:0", 2)
    (a,) = b.node(Unary(RELU), x, name="relu")
    b.nodes[-1] = dataclasses.replace(b.nodes[-1], outputs=(Value("y", a.type),))
    (z,) = b.node(Unary(RELU), b.nodes[-1].outputs[0], name="relu.2")
    graph = rewrite(b.graph(z=z), split_relu)
    verify(graph)
    assert len(graph.nodes) == 4


def test_a_rule_that_never_ends_is_stopped() -> None:
    """Better an error than a compiler that hangs."""
    with pytest.raises(RuntimeError, match="grow_forever does not come to an end"):
        rewrite(chain(1), grow_forever)


def test_unused_nodes_and_constants_go() -> None:
    """Also chains of them; inputs stay, they are the model's."""
    b = GraphBuilder()
    x = b.input("x", 2)
    b.input("unused", 2)
    (y,) = b.node(Unary(TANH), x)
    (dead,) = b.node(Unary(RELU), x)
    b.node(Unary(RELU), dead)
    b.random(3)
    graph = eliminate_unused(b.graph(y=y))
    assert [node.name for node in graph.nodes] == ["unary0"]
    assert not graph.constants
    assert [value.name for value in graph.inputs] == ["x", "unused"]


def test_a_node_with_one_used_output_stays() -> None:
    """A cell whose Y nobody reads still gives its state."""
    b = GraphBuilder()
    _, y_h = b.cell(RNN, b.input("x", 3, 1, 2), 2)
    graph = b.graph(y=y_h)
    assert eliminate_unused(graph) is graph


def test_uses_count_results() -> None:
    """A value that is shown twice and read once has three uses."""
    graph = chain(2)
    middle = graph.nodes[0].outputs[0]
    outputs = (Output("a", middle), Output("b", middle), *graph.outputs)
    scope = Scope(dataclasses.replace(graph, outputs=outputs))
    assert scope.uses(middle) == 3
    assert not scope.is_private(middle)
    assert scope.is_private(graph.outputs[0].value)
