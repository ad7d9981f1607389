"""AxisClasses: which axes are time and batch, followed through the operators."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import LSTM, RNN
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Gather,
    MatMul,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from edgelstm_compiler.streaming.axes import AxisClasses
from tests.graphs import GraphBuilder


def test_time_and_batch_are_read_off_the_cell() -> None:
    """Axis 0 and 1 of what it reads, 0 and 2 of Y, batch only in the states."""
    b = GraphBuilder()
    x = b.input("x", 5, 2, 3)
    y, y_h, y_c = b.cell(LSTM, x, 4)
    axes = AxisClasses(b.graph(y=y))
    assert (axes.time_axes(x), axes.batch_axis(x)) == ((0,), 1)
    assert (axes.time_axes(y), axes.batch_axis(y)) == ((0,), 2)
    assert (axes.time_axes(y_h), axes.batch_axis(y_h)) == ((), 1)
    assert (axes.time_axes(y_c), axes.batch_axis(y_c)) == ((), 1)


def test_time_is_followed_backward_to_the_input() -> None:
    """Through a transpose (batch first) and what stands before it."""
    b = GraphBuilder()
    x = b.input("x", 2, 5, 3)
    (t,) = b.node(Unary(TANH), x)
    (t,) = b.node(Transpose((1, 0, 2)), t)
    b.cell(RNN, t, 4)
    axes = AxisClasses(b.graph())
    assert axes.time_axes(x) == (1,)
    assert axes.batch_axis(x) == 0


def test_equal_extents_do_not_make_axes_equal() -> None:
    """Time, batch and features of extent 3 stay apart."""
    b = GraphBuilder()
    x = b.input("x", 3, 3, 3)
    y, y_h = b.cell(RNN, x, 3)
    (m,) = b.node(MatMul(), y, b.random(3, 3))
    axes = AxisClasses(b.graph(m=m))
    assert axes.time_axes(x) == (0,)
    assert axes.time_axes(y_h) == ()
    assert axes.time_axes(m) == (0,)


def test_time_ends_where_a_frame_is_taken() -> None:
    """One frame has no time axis, also if it keeps an axis of extent 1."""
    b = GraphBuilder()
    x = b.input("x", 5, 1, 3)
    y, _ = b.cell(RNN, x, 4)
    (last,) = b.node(Gather(0), y, b.constant(np.array(-1)))
    (kept,) = b.node(Slice(0, 4, 1, 1), y)
    axes = AxisClasses(b.graph(last=last, kept=kept))
    assert axes.time_axes(last) == ()
    assert axes.time_axes(kept) == ()


def test_time_goes_through_a_slice_of_everything() -> None:
    """It leaves every frame where it is."""
    b = GraphBuilder()
    y, _ = b.cell(RNN, b.input("x", 5, 1, 3), 4)
    (whole,) = b.node(Slice(0, 0, 1, 5), y)
    assert AxisClasses(b.graph(y=whole)).time_axes(whole) == (0,)


def test_a_second_input_is_timed_where_it_is_joined() -> None:
    """An operand that is added frame by frame has the same time axis."""
    b = GraphBuilder()
    x, other, held = b.input("x", 5, 1, 3), b.input("other", 5, 1, 3), b.input("held", 3)
    (z,) = b.node(Binary(Arithmetic.ADD), x, other)
    (z,) = b.node(Binary(Arithmetic.ADD), z, held)
    b.cell(RNN, z, 4)
    axes = AxisClasses(b.graph())
    assert axes.time_axes(other) == (0,)
    assert axes.time_axes(held) == ()


def test_frames_against_frames_have_two_time_axes() -> None:
    """The scores of an attention."""
    b = GraphBuilder()
    x = b.input("x", 5, 1, 3)
    y, _ = b.cell(RNN, x, 4)
    (q,) = b.node(Reshape((5, 4)), y)
    (k,) = b.node(Transpose((1, 0)), q)
    (scores,) = b.node(MatMul(), q, k)
    assert AxisClasses(b.graph(scores=scores)).time_axes(scores) == (0, 1)


def test_a_graph_without_cells_has_no_time() -> None:
    """Nothing says which axis it would be."""
    b = GraphBuilder()
    x = b.input("x", 5, 1, 3)
    axes = AxisClasses(b.graph(x=x))
    assert axes.time_axes(x) == ()
    assert axes.batch_axis(x) is None


def test_two_batch_axes_are_none() -> None:
    """Streams against streams have no single batch axis."""
    b = GraphBuilder()
    x = b.input("x", 5, 2, 3)
    b.cell(RNN, x, 4)
    (t,) = b.node(Transpose((0, 2, 1)), x)
    (pairs,) = b.node(MatMul(), x, t)
    assert AxisClasses(b.graph(pairs=pairs)).batch_axis(pairs) is None
