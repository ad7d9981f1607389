"""What cannot be stepped is refused, with the node and the reason."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Concat,
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
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.graphs import GraphBuilder

T, F, H = 6, 3, 4
Build = Callable[[GraphBuilder, Value], Value]
CASES: dict[str, tuple[Build, str, str]] = {}


def refused(name: str, origin: str, reason: str) -> Callable[[Build], Build]:
    """A model on the (T, 1, H) output of a GRU that is refused at this node for this reason."""

    def add(build: Build) -> Build:
        CASES[name] = (build, origin, reason)
        return build

    return add


def model(build: Build) -> Graph:
    """A GRU over x (T, 1, F), and what is built on its output."""
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("x", T, 1, F), H)
    (frames,) = b.node(Reshape((T, 1, H)), y)
    return b.graph(y=build(b, frames))


def rewired(b: GraphBuilder, **inputs: Value) -> None:
    """Give the last node other inputs, by place."""
    node = b.nodes.pop()
    # What the inputs are computed by stands before the node.
    new = list(node.inputs)
    for place, value in inputs.items():
        new[int(place.removeprefix("at"))] = value
    b.nodes.append(dataclasses.replace(node, inputs=tuple(new)))


@refused("a backward layer", "LSTM 'lstm2'", "it runs reverse, from the last frame back")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.cell(LSTM, frames, 2, Direction.REVERSE)[0]


@refused("a bidirectional layer", "GRU 'gru2'", "it runs bidirectional")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.cell(GRU, frames, 2, Direction.BIDIRECTIONAL)[0]


@refused("self-attention", "Softmax 'softmax5'", "sees frames that come later")
def _(b: GraphBuilder, frames: Value) -> Value:
    (q,) = b.node(Transpose((1, 0, 2)), frames)
    (k,) = b.node(Transpose((1, 2, 0)), frames)
    (scores,) = b.node(MatMul(), q, k, name="scores")
    (p,) = b.node(Softmax(2), scores)
    return b.node(MatMul(), p, q)[0]


@refused("attention of the last frame", "MatMul 'pool'", "multiplies frames with frames")
def _(b: GraphBuilder, frames: Value) -> Value:
    (flat,) = b.node(Reshape((T, H)), frames)
    return b.node(MatMul(), b.random(1, T), flat, name="pool")[0]


@refused("softmax over time", "Softmax 'softmax2'", "softmax over time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Softmax(0), frames)[0]


@refused("normalization over time", "LayerNorm 'layernorm2'", "normalizes over time")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(LayerNorm(0, 1e-5), frames, b.random(T, 1, H), None)[0]


@refused("flatten", "Reshape 'reshape2'", "merges the time axis with another")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Reshape((1, T * H)), frames)[0]


@refused("the first frame", "Gather 'gather2'", "takes frames by index")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Gather(0), frames, b.constant(np.array(0)))[0]


@refused("the first frame by slice", "Slice 'slice2'", "takes the frame 0: ")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Slice(0, 0, 1, 1), frames)[0]


@refused("two of the frames", "Slice 'slice2'", "takes the frames 1 to -3, every 2.: ")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Slice(0, 1, 2, 2), frames)[0]


@refused("reversed frames", "Slice 'slice2'", "takes the frames -1 (the newest) to 0: ")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Slice(0, T - 1, -1, T), frames)[0]


@refused(
    "reversed frames that meet others", "Slice 'slice2'", "takes the frames -1 (the newest) to 0: "
)
def _(b: GraphBuilder, frames: Value) -> Value:
    (back,) = b.node(Slice(0, T - 1, -1, T), frames)
    return b.node(Binary(Arithmetic.ADD), back, frames)[0]


@refused("frames by several indices", "Gather 'gather2'", "takes frames by index")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Gather(0), frames, b.constant(np.array([2, -1])))[0]


@refused("the last frame several times", "Gather 'gather2'", "takes frames by index")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Gather(0), frames, b.constant(np.array([-1] * T)))[0]


@refused("an index beyond the end", "Gather 'gather2'", "takes frames by index")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Gather(0), frames, b.constant(np.array(2 * T - 1)))[0]


@refused("an index from an input", "Gather 'gather2'", "takes frames by index")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Gather(0), frames, b.input("at", dtype=np.int64))[0]


@refused("sequence_lens as an input", "RNN 'rnn2'", "sequence_lens are an input")
def _(b: GraphBuilder, frames: Value) -> Value:
    y, _ = b.cell(RNN, frames, 2)
    rewired(b, at4=b.input("lens", 1, dtype=np.int32))
    return y


@refused("short sequence_lens", "RNN 'rnn2'", "sequence_lens [4] end before the 6 frames")
def _(b: GraphBuilder, frames: Value) -> Value:
    y, _ = b.cell(RNN, frames, 2)
    rewired(b, at4=b.constant(np.array([4], np.int32)))
    return y


@refused("an initial state from an input", "RNN 'rnn2'", "its initial state 'h0' is computed")
def _(b: GraphBuilder, frames: Value) -> Value:
    y, _ = b.cell(RNN, frames, 2)
    rewired(b, at5=b.input("h0", 1, 1, 2))
    return y


@refused("an encoder and a decoder", "Broadcast 'broadcast3'", "known only after the last")
def _(b: GraphBuilder, frames: Value) -> Value:
    (last,) = b.node(Gather(0), frames, b.constant(np.array([-1])))
    (again,) = b.node(Broadcast((T, 1, H)), last)
    return b.cell(LSTM, again, 2)[0]


@refused("the last frame taken off all", "Binary 'binary3'", "known only after the last")
def _(b: GraphBuilder, frames: Value) -> Value:
    (last,) = b.node(Gather(0), frames, b.constant(np.array([-1])))
    return b.node(Binary(Arithmetic.SUB), frames, last)[0]


@refused("a cell that starts where another ends", "GRU 'gru4'", "its initial state")
def _(b: GraphBuilder, frames: Value) -> Value:
    (last,) = b.node(Slice(0, T - 1, 1, 1), frames)
    (state,) = b.node(Reshape((1, 1, H)), last)
    y, _ = b.cell(GRU, frames, H)
    rewired(b, at5=state)
    return y


@refused("weights from the frames", "RNN 'rnn4'", "its weights 'reshape3:0' are computed")
def _(b: GraphBuilder, frames: Value) -> Value:
    (last,) = b.node(Slice(0, T - 1, 1, 1), frames)
    (bias,) = b.node(Reshape((1, H)), last)
    y, _ = b.cell(RNN, frames, 2)
    rewired(b, at3=bias)
    return y


@refused("joined along time", "Concat 'concat2'", "puts one sequence behind another")
def _(b: GraphBuilder, frames: Value) -> Value:
    return b.node(Concat(0), frames, frames)[0]


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_stepped_is_refused(name: str) -> None:
    """With the node it comes from, why, and what to do instead."""
    build, origin, reason = CASES[name]
    graph = model(build)
    verify(graph)
    with pytest.raises(StreamabilityError) as caught:
        to_steps(graph)
    assert isinstance(caught.value, ModelError)
    found = dict(caught.value.reasons)
    assert origin in found, found
    assert any(reason in given for given in found.values()), found
    assert "--mode call" in str(caught.value)


def test_every_reason_is_listed_at_once() -> None:
    """Not one after the other, by repair and try again."""

    def build(b: GraphBuilder, frames: Value) -> Value:
        back, *_ = b.cell(LSTM, frames, H, Direction.REVERSE)
        (p,) = b.node(Softmax(0), frames)
        (flat,) = b.node(Reshape((T, 1, H)), back)
        return b.node(Binary(Arithmetic.MUL), p, flat)[0]

    with pytest.raises(StreamabilityError) as caught:
        to_steps(model(build))
    assert [origin for origin, _ in caught.value.reasons] == ["LSTM 'lstm2'", "Softmax 'softmax3'"]
    for origin, reason in caught.value.reasons:
        assert f"\n  {origin}: {reason}" in str(caught.value)


def test_a_model_without_cells_is_refused() -> None:
    """Nothing is carried; there is no time axis either."""
    b = GraphBuilder()
    (y,) = b.node(Unary(TANH), b.input("x", T, 1, F))
    with pytest.raises(StreamabilityError, match="no LSTM, GRU or RNN layer"):
        to_steps(b.graph(y=y))


def test_an_unrolled_recurrence_is_recognized() -> None:
    """One product with the same weights for every frame: what to export is said."""
    b = GraphBuilder()
    x, w, r = b.input("x", T, 1, F), b.random(F, H), b.random(H, H)
    h = b.random(1, 1, H)
    for frame in range(T):
        (now,) = b.node(Slice(0, frame, 1, 1), x)
        (wx,), (rh,) = b.node(MatMul(), now, w), b.node(MatMul(), h, r)
        (h,) = b.node(Unary(TANH), b.node(Binary(Arithmetic.ADD), wx, rh)[0])
    with pytest.raises(StreamabilityError, match="unrolled frame by frame") as caught:
        to_steps(b.graph(h=h))
    assert f"{T} products share their weights" in str(caught.value)
    assert "nn.LSTM, nn.GRU or nn.RNN in place of a loop" in str(caught.value)


def test_layers_of_different_length_are_refused() -> None:
    """A stream has one clock."""
    b = GraphBuilder()
    first, _ = b.cell(GRU, b.input("a", T, 1, F), H)
    second, _ = b.cell(GRU, b.input("b", T + 1, 1, F), H)
    with pytest.raises(StreamabilityError, match="different lengths: 6, 7"):
        to_steps(b.graph(first=first, second=second))


def test_an_input_with_two_time_axes_is_refused() -> None:
    """Cells along both axes of an image: neither is the stream's."""
    b = GraphBuilder()
    x = b.input("x", T, T, F)
    (turned,) = b.node(Transpose((1, 0, 2)), x)
    first, _ = b.cell(GRU, x, H)
    second, _ = b.cell(GRU, turned, H)
    with pytest.raises(StreamabilityError, match="input 'x': it has more than one time axis"):
        to_steps(b.graph(first=first, second=second))


def test_time_that_a_reshape_makes_is_refused() -> None:
    """A flat window is no stream of frames."""
    b = GraphBuilder()
    (x,) = b.node(Reshape((T, 1, F)), b.input("x", 1, T * F))
    y, _ = b.cell(GRU, x, H)
    with pytest.raises(StreamabilityError, match="Reshape 'reshape0': it merges the time axis"):
        to_steps(b.graph(y=y))


def test_softmax_over_time_before_the_cell_is_refused() -> None:
    """Its axis becomes time only behind it."""
    b = GraphBuilder()
    (x,) = b.node(Softmax(0), b.input("x", T, 1, F))
    y, _ = b.cell(GRU, x, H)
    with pytest.raises(StreamabilityError, match="Softmax 'softmax0': it is a softmax over time"):
        to_steps(b.graph(y=y))


def test_a_layer_over_the_last_frame_is_refused() -> None:
    """A sequence of one frame beside a stream of them."""

    def build(b: GraphBuilder, frames: Value) -> Value:
        (last,) = b.node(Slice(0, T - 1, 1, 1), frames)
        return b.cell(LSTM, last, 2)[0]

    with pytest.raises(StreamabilityError, match="reads the last frame's result as its sequence"):
        to_steps(model(build))


@pytest.mark.parametrize("extent", [1, T])
def test_a_layer_over_the_units_of_a_state_is_refused(extent: int) -> None:
    """The units are no frames, as many as there may be."""
    b = GraphBuilder()
    _, y_h = b.cell(GRU, b.input("x", extent, 1, F), extent)
    (units,) = b.node(Transpose((2, 1, 0)), y_h)
    y, _ = b.cell(LSTM, units, 2)[:2]
    with pytest.raises(StreamabilityError):
        to_steps(b.graph(y=y))


def test_the_error_can_be_pickled() -> None:
    """It crosses process borders in test runs and servers."""
    with pytest.raises(StreamabilityError) as caught:
        to_steps(model(CASES["flatten"][0]))
    again: Any = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.reasons == caught.value.reasons
