"""The law: every breach of it is found, and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.dtypes import DType
from edgelstm.errors import InvalidGraphError
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM
from edgelstm_compiler.ir.graph import Graph, Output, State, StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Concat,
    Dense,
    Direction,
    Gather,
    LayerNorm,
    MatMul,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.streaming.convert import to_steps
from tests.graphs import GraphBuilder, random_graph

Mutation = Callable[[Any], Any]
replace = dataclasses.replace


def sequence() -> Graph:
    """Nodes: an LSTM, a reshape of its Y, a softmax."""
    b = GraphBuilder()
    y, _, y_c = b.cell(LSTM, b.input("x", 4, 2, 3), 5, peepholes=True)
    (flat,) = b.node(Reshape((4, 2, 5)), y)
    (p,) = b.node(Softmax(2), flat)
    return b.graph(p=p, c=y_c)


def step() -> StepGraph:
    """The same for one frame, with states."""
    return to_steps(sequence())


def with_node(graph: Any, index: int, **changes: Any) -> Any:
    """One node changed."""
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


def with_input(graph: Graph, place: int, value: Value | None) -> Graph:
    """Another input of the LSTM."""
    inputs = list(graph.nodes[0].inputs)
    inputs[place] = value
    return with_node(graph, 0, inputs=tuple(inputs))


def with_constant(graph: Any, data: Array, value: Value | None = None) -> Any:
    """One more constant."""
    new = Constant(value or Value("extra", TensorType.of(data)), data)
    return replace(graph, constants=(*graph.constants, new))


def retyped(graph: Graph, index: int, tensor: TensorType) -> Graph:
    """A node whose first output says that it is something else."""
    node = graph.nodes[index]
    return with_node(graph, index, outputs=(Value("other", tensor), *node.outputs[1:]))


def frozen(*shape: int, dtype: type = np.float32) -> Array:
    """Read-only zeros."""
    return Constant.of("", np.zeros(shape, dtype)).data


def misnamed(graph: Graph) -> Graph:
    """A node that gives a value of a name that is taken."""
    outputs = (replace(graph.nodes[2].outputs[0], name="x"),)
    graph = with_node(graph, 2, outputs=outputs)
    return replace(graph, outputs=(Output("p", outputs[0]),))


class StrangeOp(Op):
    """An operator that nobody knows."""


SEQUENCE_BREACHES: dict[str, tuple[Mutation, str]] = {
    "a node name used twice": (
        lambda g: with_node(g, 2, name=g.nodes[1].name),
        "name is used twice",
    ),
    "a value name used twice": (misnamed, "'x' is defined twice"),
    "a value computed twice": (
        lambda g: replace(g, nodes=(*g.nodes, replace(g.nodes[2], name="again"))),
        "is defined twice",
    ),
    "two inputs of one name": (
        lambda g: replace(g, inputs=(*g.inputs, Value("x", g.inputs[0].type))),
        "'x' is defined twice",
    ),
    "an input named like a constant": (
        lambda g: replace(g, inputs=(*g.inputs, Value("c0", g.inputs[0].type))),
        "'c0' is defined twice",
    ),
    "an unknown operator": (lambda g: with_node(g, 2, op=StrangeOp()), "not an operator"),
    "a value read before it is computed": (
        lambda g: replace(g, nodes=g.nodes[::-1]),
        "before it is computed",
    ),
    "a value of nowhere": (
        lambda g: with_node(g, 2, inputs=(Value("ghost", g.nodes[1].outputs[0].type),)),
        "reads 'ghost'",
    ),
    "an output of nowhere": (
        lambda g: replace(g, outputs=(Output("p", Value("ghost", g.inputs[0].type)),)),
        "'ghost' is not computed",
    ),
    "two outputs of one name": (
        lambda g: replace(g, outputs=(g.outputs[0], g.outputs[0])),
        "output 'p' is shown twice",
    ),
    "a wrong output shape": (
        lambda g: retyped(g, 2, TensorType(DType.F32, (4, 2, 6))),
        "its outputs say",
    ),
    "a wrong output type": (
        lambda g: retyped(g, 2, TensorType(DType.F16, (4, 2, 5))),
        "its outputs say",
    ),
    "too few outputs": (
        lambda g: with_node(g, 0, outputs=g.nodes[0].outputs[:2]),
        "its outputs say",
    ),
    "no inputs": (lambda g: with_node(g, 1, inputs=()), "reshape1"),
    "a missing input": (lambda g: with_node(g, 1, inputs=(None,)), "input is missing"),
    "an empty input": (
        lambda g: replace(g, inputs=(*g.inputs, Value("void", TensorType(DType.F32, (0, 3))))),
        "'void' is empty",
    ),
    "an empty constant": (lambda g: with_constant(g, frozen(2, 0)), "'extra' is empty"),
    "a constant of another type": (
        lambda g: with_constant(g, frozen(2), Value("extra", TensorType(DType.I32, (2,)))),
        "data of 'extra' is",
    ),
    "a writeable constant": (
        lambda g: with_constant(g, np.zeros(2, np.float32)),
        "'extra' is writeable",
    ),
    "missing weights": (lambda g: with_input(g, 1, None), "W is missing"),
    "weights of another shape": (
        lambda g: with_input(g, 1, g.nodes[0].inputs[2]),
        "W has shape",
    ),
    "a bias where lengths belong": (
        lambda g: with_input(g, 4, g.nodes[0].inputs[3]),
        "sequence_lens has shape",
    ),
    "another number of activations": (
        lambda g: with_node(g, 0, op=replace(g.nodes[0].op, activations=(SIGMOID,))),
        "1 activations, expected 3",
    ),
    "two directions on weights of one": (
        lambda g: with_node(g, 0, op=replace(g.nodes[0].op, direction=Direction.BIDIRECTIONAL)),
        "W has shape",
    ),
    "an axis beyond the rank": (lambda g: with_node(g, 2, op=Softmax(3)), "axis 3"),
    "a negative axis": (lambda g: with_node(g, 2, op=Softmax(-1)), "axis -1"),
    "a reshape to another size": (lambda g: with_node(g, 1, op=Reshape((4, 2, 4))), "elements"),
    "a reshape to negative extents": (
        lambda g: with_node(g, 1, op=Reshape((-4, -2, 5))),
        "below one",
    ),
}


@pytest.mark.parametrize("name", SEQUENCE_BREACHES)
def test_a_breach_in_a_graph_is_caught(name: str) -> None:
    """Whatever is changed for the worse, the message says where."""
    mutate, message = SEQUENCE_BREACHES[name]
    verify(sequence())
    with pytest.raises(InvalidGraphError, match=message):
        verify(mutate(sequence()))


def with_state(graph: StepGraph, **changes: Any) -> StepGraph:
    """The first state changed."""
    return replace(graph, states=(replace(graph.states[0], **changes), *graph.states[1:]))


def two_frames(graph: StepGraph) -> StepGraph:
    """A chunk of two frames."""
    b = GraphBuilder()
    x = b.input("x", 2, 1, 3)
    item = replace(graph.inputs[0], value=x, time_axis=0)
    return StepGraph("s", "stream", (item,), (), (), ())


def backward(graph: StepGraph) -> StepGraph:
    """The cell reads from the end."""
    op = graph.nodes[0].op
    return with_node(graph, 0, op=replace(op, direction=Direction.REVERSE))


STEP_BREACHES: dict[str, tuple[Mutation, str]] = {
    "two states of one name": (
        lambda g: replace(g, states=(g.states[0], replace(g.states[1], name=g.states[0].name))),
        "state 'lstm0.h' is defined twice",
    ),
    "one value read as two states": (
        lambda g: replace(g, states=(g.states[0], replace(g.states[1], read=g.states[0].read))),
        "is defined twice",
    ),
    "an initial value of another shape": (
        lambda g: with_state(g, init=frozen(1, 2, 6)),
        "data of 'lstm0.h' is",
    ),
    "a writeable initial value": (
        lambda g: with_state(g, init=np.zeros((1, 2, 5), np.float32)),
        "is writeable",
    ),
    "a state that writes another type": (
        lambda g: with_state(g, write=g.inputs[0].value),
        "and writes",
    ),
    "a state that writes a value of nowhere": (
        lambda g: with_state(g, write=Value("ghost", g.states[0].type)),
        "'ghost' is not computed",
    ),
    "a call with states": (lambda g: replace(g, mode="call"), "carries no state"),
    "a cell that runs backward": (backward, "carries a state backward"),
    "more than one frame": (two_frames, "more than one frame"),
    "a time axis beyond the rank": (
        lambda g: replace(g, inputs=(replace(g.inputs[0], time_axis=3),)),
        "no axis 3",
    ),
    "a batch axis beyond the rank": (
        lambda g: replace(g, outputs=(replace(g.outputs[0], batch_axis=-1),)),
        "no axis -1",
    ),
}


@pytest.mark.parametrize("name", STEP_BREACHES)
def test_a_breach_in_a_step_graph_is_caught(name: str) -> None:
    """States, modes and axes have a law of their own."""
    mutate, message = STEP_BREACHES[name]
    verify(step())
    with pytest.raises(InvalidGraphError, match=message):
        verify(mutate(step()))


F, I = DType.F32, DType.I64  # noqa: E741
ILL_TYPED: list[tuple[Op, list[tuple[DType, tuple[int, ...]] | None]]] = [
    (MatMul(), [(F, (2, 3)), (F, (2, 3))]),
    (MatMul(), [(F, (2, 3)), (I, (3, 2))]),
    (MatMul(), [(F, (2, 3)), (F, ())]),
    (MatMul(), [(F, (2, 3))]),
    (Dense(None), [(F, (2, 3)), (I, (3, 2)), None]),
    (Dense(None), [(F, (2, 3)), (F, (3, 2)), (F, (3,))]),
    (Dense(None), [(F, (2, 3)), (F, (3, 2)), (I, (2,))]),
    (Dense(None), [(F, (2, 3)), (F, (1, 3, 2)), None]),
    (Binary(Arithmetic.ADD), [(F, (2,)), (F, (3,))]),
    (Binary(Arithmetic.ADD), [(F, (2,)), (I, (2,))]),
    (Binary(Arithmetic.ADD), [(F, (2,)), None]),
    (Unary(TANH), [None]),
    (LayerNorm(1, 1e-5), [(F, (4, 3)), (F, (4, 3)), None]),
    (LayerNorm(1, 1e-5), [(F, (4, 3)), (F, (3,)), (F, (1,))]),
    (LayerNorm(2, 1e-5), [(F, (4, 3)), (F, (3,)), None]),
    (Transpose((0, 0)), [(F, (4, 3))]),
    (Transpose((0,)), [(F, (4, 3))]),
    (Slice(0, 0, 1, 5), [(F, (4, 3))]),
    (Slice(0, 4, 1, 1), [(F, (4, 3))]),
    (Slice(0, 3, -2, 3), [(F, (4, 3))]),
    (Slice(0, 0, 0, 1), [(F, (4, 3))]),
    (Slice(0, 0, 1, 0), [(F, (4, 3))]),
    (Gather(0), [(F, (4, 3)), (F, (1,))]),
    (Gather(2), [(F, (4, 3)), (I, (1,))]),
    (Concat(0), []),
    (Concat(0), [(F, (4, 3)), (F, (4, 2))]),
    (Concat(0), [(F, (4, 3)), (I, (4, 3))]),
    (Concat(2), [(F, (4, 3))]),
    (
        GRU(2, Direction.FORWARD, (SIGMOID, TANH), None),
        [(F, (4, 1, 3)), (F, (1, 6, 3)), (F, (1, 6, 2)), None, None, None, (F, (1, 1, 2))],
    ),
]


@pytest.mark.parametrize("index", range(len(ILL_TYPED)))
def test_operands_that_do_not_fit_are_caught(index: int) -> None:
    """Every operator refuses operands of the wrong number, shape or type."""
    op, operands = ILL_TYPED[index]
    values = [
        None if item is None else Value(f"v{place}", TensorType(*item))
        for place, item in enumerate(operands)
    ]
    node = Node(op, tuple(values), (Value("y", TensorType(F, (1,))),), "n")
    graph = Graph("g", tuple(v for v in values if v is not None), (), (node,), ())
    with pytest.raises(InvalidGraphError, match=r"^node 'n' \(") as caught:
        verify(graph)
    assert "its outputs say" not in str(caught.value)


@given(st.integers(0, 10**6), st.integers(0, 10))
def test_legal_graphs_pass(seed: int, size: int) -> None:
    """The law allows what evaluates."""
    verify(random_graph(seed, size))


def test_a_state_that_writes_what_it_reads_is_legal() -> None:
    """It never changes, which is not forbidden."""
    read = Value("s", TensorType(DType.F32, (2,)))
    state = State("s", read.type, frozen(2), read, read)
    verify(StepGraph("g", "stream", (), (), (), (), (state,)))
