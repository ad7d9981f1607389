"""A chunk with frames ahead: the sequence where it sees all of it, or refused by node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.dtypes import DType
from edgelstm.signature import THERE
from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import GRU, LSTM
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.ir.ops import (
    Concat,
    Direction,
    LayerNorm,
    MatMul,
    Recurrent,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.text import graph_data, parse_graph, print_graph
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.lookahead import Span, chunk_ahead, looks_back
from edgelstm_compiler.streaming.refusal import OtherModeError, StreamabilityError
from tests.graphs import GraphBuilder, random_arrays, random_graph

T, F, H = 6, 3, 4
Build = Callable[[GraphBuilder, Value], Value]


def bidirectional(build: Build) -> Graph:
    """A bidirectional GRU over x (T, 1, F), and what is built on its output (T, 1, 2H)."""
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("x", T, 1, F), H, Direction.BIDIRECTIONAL)
    (moved,) = b.node(Transpose((0, 2, 1, 3)), y)
    (frames,) = b.node(Reshape((T, 1, 2 * H)), moved)
    return b.graph(y=build(b, frames))


def first_frames(graph: Graph, steps: StepGraph, chunk: int, given: dict[str, Array]) -> None:
    """The chunk from the first states on, beside the beginning of the sequence."""
    axes = AxisClasses(graph)
    wanted = evaluate(graph, given, dtype=DType.F64).outputs
    inputs = {
        item.value.name: given[item.value.name].reshape(item.value.type.shape)
        for item in steps.inputs
    }
    found = evaluate(steps, inputs, dtype=DType.F64).outputs
    for output in graph.outputs:
        (axis,) = axes.time_axes(output.value)
        expected = np.take(wanted[output.name], np.arange(chunk), axis)
        assert np.allclose(found[output.name], expected, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_what_sees_the_whole_sequence_is_the_sequence(seed: int, size: int) -> None:
    """Random graphs: N frames and the others ahead, from fresh states, whatever is accepted."""
    graph = random_graph(seed, size)
    if not any(looks_back(node) for node in graph.nodes):
        with pytest.raises(OtherModeError, match="--mode stream"):
            chunk_ahead(graph, Span(1, 1), "")
        return
    given_arrays = random_arrays(graph)
    axes = AxisClasses(graph)
    lengths = {v.type.shape[a] for v in graph.inputs for a in axes.time_axes(v)[:1]}
    frames = max(lengths, default=1)
    for chunk in {1, frames - 1, frames} - {0}:
        try:
            steps = chunk_ahead(graph, Span(chunk, frames - chunk), "")
        except StreamabilityError:
            return
        verify(steps)
        first_frames(graph, steps, chunk, given_arrays)


def test_what_needs_no_frame_ahead_sees_none() -> None:
    """The last layer's forward half and the operators behind run on N frames."""

    def build(b: GraphBuilder, frames: Value) -> Value:
        y, _, _ = b.cell(LSTM, frames, H, Direction.BIDIRECTIONAL)
        (moved,) = b.node(Transpose((0, 2, 1, 3)), y)
        (flat,) = b.node(Reshape((T, 1, 2 * H)), moved)
        return b.node(Unary(TANH), flat)[0]

    steps = chunk_ahead(bidirectional(build), Span(2, 3), "")
    layers = {node.name: node for node in steps.nodes if isinstance(node.op, Recurrent)}
    frames = {name: node.outputs[0].type.shape[0] for name, node in layers.items()}
    assert frames == {
        "gru0.forward": 5,
        "gru0.backward": 5,
        "lstm3.forward": 2,
        "lstm3.backward": 5,
    }
    kept = {name: node.op.kept for name, node in layers.items() if isinstance(node.op, Recurrent)}
    assert kept == {
        "gru0.forward": 2,
        "gru0.backward": None,
        "lstm3.forward": None,
        "lstm3.backward": None,
    }
    assert steps.nodes[-1].outputs[0].type.shape == (2, 1, 2 * H)
    assert [state.name for state in steps.states] == [
        "gru0.forward.h",
        "lstm3.forward.h",
        "lstm3.forward.c",
        THERE,
    ]


def test_the_text_of_a_chunk_parses_back() -> None:
    """With the frames after which states are kept."""
    steps = chunk_ahead(bidirectional(lambda b, frames: frames), Span(2, 0), "")
    assert '"kept"' not in print_graph(steps)
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("x", T, 1, F), H)
    back, _ = b.cell(GRU, b.node(Reshape((T, 1, H)), y)[0], H, Direction.REVERSE)
    steps = chunk_ahead(b.graph(y=back), Span(2, 3), "")
    text = print_graph(steps)
    assert '"kept": 2' in text
    assert print_graph(parse_graph(text, graph_data(steps))) == text


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (GRU(H, Direction.FORWARD, (TANH, TANH), None, False, kept=T), "kept after 6 frames of 6"),
        (GRU(H, Direction.REVERSE, (TANH, TANH), None, False, kept=2), "kept after 2 frames of 6"),
    ],
    ids=["all frames", "backward"],
)
def test_states_are_kept_of_some_frames_of_a_forward_layer(op: GRU, reason: str) -> None:
    """Anything else is a broken graph."""
    b = GraphBuilder()
    with pytest.raises(ValueError, match=reason):
        b.node(op, b.input("x", T, 1, F), b.random(1, 3 * H, F), b.random(1, 3 * H, H))


REFUSED: dict[str, tuple[Build, str, str]] = {}


def refused(name: str, origin: str, reason: str) -> Callable[[Build], Build]:
    """A model on the bidirectional layer that is refused at this node for this reason."""

    def add(build: Build) -> Build:
        REFUSED[name] = (build, origin, reason)
        return build

    return add


@refused("attention", "MatMul 'scores'", "relates all frames to all frames")
def _(b: GraphBuilder, frames: Value) -> Value:
    (q,) = b.node(Transpose((1, 0, 2)), frames)
    (k,) = b.node(Transpose((1, 2, 0)), frames)
    (scores,) = b.node(MatMul(), q, k, name="scores")
    (p,) = b.node(Softmax(2), scores)
    return b.node(MatMul(), p, q)[0]


@refused("softmax over time", "Softmax 'softmax3'", "softmax over time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Softmax(0), frames)[0]


@refused("normalization over time", "LayerNorm 'layernorm3'", "normalizes over time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(LayerNorm(0, 1e-5), frames, b.random(T, 1, 2 * H), None)[0]


@refused("the last frame", "Slice 'last'", "mixes frames along time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Slice(0, T - 1, 1, 1), frames, name="last")[0]


@refused("padding along time", "Concat 'pad'", "mixes frames along time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Concat(0), b.random(1, 1, 2 * H), frames, name="pad")[0]


@refused("a final state", "output 'y'", "one for all frames")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.cell(GRU, frames, H)[1]


@refused("a layer on a final state", "Unary 'unary4'", "final state of \"GRU 'gru3'\"")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Unary(TANH), b.cell(GRU, frames, H)[1])[0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_all_frames_is_refused_by_node(name: str) -> None:
    """A look-ahead of some frames would be another function without saying so."""
    build, origin, reason = REFUSED[name]
    with pytest.raises(StreamabilityError, match="bounded look-ahead") as caught:
        chunk_ahead(bidirectional(build), Span(2, 2), "")
    ((found, why), *_) = caught.value.reasons
    assert found == origin
    assert reason in why
