"""share_hidden_state: Y of one frame is Y_h, unless something says otherwise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops import Direction, Unary
from edgelstm_compiler.passes.share_hidden_state import share_hidden_state
from edgelstm_compiler.streaming.convert import to_steps
from tests.conftest import GoldenCheck
from tests.graphs import GraphBuilder
from tests.unit.passes.transform import apply_pass, assert_same_function, before_and_after, kinds

BEFORE = """
step "cell" mode=stream
in %x: f32[1,1,2] time=0 batch=1
const %w: f32[1,2,2] = [0.1, 0.2, 0.3, 0.4]
const %r: f32[1,2,2] = [0.5, 0.6, 0.7, 0.8]
state rnn.h: f32[1,1,2] init=[0.0, 0.0] read=%h_in write=%h_out
%y: f32[1,1,1,2], %h_out: f32[1,1,2] = RNN {"activations": [
  {"alpha": 0.0, "beta": 0.0, "fn": "tanh"}], "clip": null, "direction": "forward", "hidden": 2}
  (%x, %w, %r, -, -, %h_in, -, -) # "rnn" "RNN 'rnn'"
out "y" = %y time=0 batch=2
""".replace("\n  ", " ")


def test_the_sequence_output_shows_the_state(golden: GoldenCheck) -> None:
    """The text before and after."""
    golden("share_hidden_state", before_and_after(share_hidden_state, BEFORE))


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_cell_shares_its_state(kind: type[LSTM] | type[GRU] | type[RNN], batch: int) -> None:
    """With any batch."""
    b = GraphBuilder()
    y, *states = b.cell(kind, b.input("x", 4, batch, 3), 5)
    step = to_steps(b.graph(y=y, state=states[-1]))
    after = apply_pass(share_hidden_state, step)
    assert kinds(after) == [kind.__name__, "Reshape"]
    assert_same_function(step, after)


def test_a_reverse_cell_over_one_frame_shares_too() -> None:
    """One frame has no order (call mode)."""
    b = GraphBuilder()
    y, _ = b.cell(RNN, b.input("x", 1, 2, 3), 4, Direction.REVERSE)
    graph = b.graph(y=y)
    after = apply_pass(share_hidden_state, graph)
    assert kinds(after) == ["RNN", "Reshape"]
    assert_same_function(graph, after)


@pytest.mark.parametrize(
    ("steps", "direction"), [(2, Direction.FORWARD), (1, Direction.BIDIRECTIONAL)]
)
def test_several_frames_or_directions_stay(steps: int, direction: Direction) -> None:
    """Y has more in it than Y_h, or in another order."""
    b = GraphBuilder()
    y, _ = b.cell(RNN, b.input("x", steps, 2, 3), 4, direction)
    graph = b.graph(y=y)
    assert share_hidden_state(graph, None) is graph  # type: ignore[arg-type]


def test_lengths_keep_the_sequence_output() -> None:
    """Beyond a length Y is zero and Y_h is not."""
    b = GraphBuilder()
    y, _ = b.cell(RNN, b.input("x", 1, 2, 3), 4)
    lengths = b.constant(np.array([0, 1], np.int32))
    inputs = (*b.nodes[0].inputs[:4], lengths)
    b.nodes[0] = dataclasses.replace(b.nodes[0], inputs=inputs)
    graph = b.graph(y=y)
    assert share_hidden_state(graph, None) is graph  # type: ignore[arg-type]


def test_a_sequence_output_that_nobody_reads_stays() -> None:
    """There is nothing to share."""
    b = GraphBuilder()
    _, y_h = b.cell(RNN, b.input("x", 1, 1, 3), 4)
    graph = b.graph(y=y_h)
    assert share_hidden_state(graph, None) is graph  # type: ignore[arg-type]


def test_new_nodes_avoid_names_that_are_taken() -> None:
    """A model may have a node of the name that we would give."""
    b = GraphBuilder()
    y, _ = b.cell(RNN, b.input("x", 1, 1, 3), 4)
    (z,) = b.node(Unary(TANH), y, name="rnn0.frame")
    assert kinds(apply_pass(share_hidden_state, b.graph(z=z))) == ["RNN", "Reshape", "Unary"]
