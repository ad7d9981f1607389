"""to_steps: a step network fed frame by frame gives what the sequence network gives."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Concat,
    Gather,
    LayerNorm,
    LogSoftmax,
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
from tests.graphs import GraphBuilder, frame_count, random_arrays, step_through

T, B, F, H = 7, 2, 3, 4


def squeezed(b: GraphBuilder, y: Value) -> Value:
    """Y without its direction axis: (T, B, H)."""
    steps, _, batch, hidden = y.type.shape
    return b.node(Reshape((steps, batch, hidden)), y)[0]


def plain_lstm() -> Graph:
    """Time first, all three outputs."""
    b = GraphBuilder()
    y, y_h, y_c = b.cell(LSTM, b.input("x", T, B, F), H, peepholes=True)
    return b.graph(y=y, y_h=y_h, y_c=y_c)


def plain_gru() -> Graph:
    """Y and Y_h."""
    b = GraphBuilder()
    y, y_h = b.cell(GRU, b.input("x", T, B, F), H, linear_before_reset=True)
    return b.graph(y=y, y_h=y_h)


def batch_first() -> Graph:
    """As PyTorch exports it: transposes around the cell, a linear head."""
    b = GraphBuilder()
    (x,) = b.node(Transpose((1, 0, 2)), b.input("x", B, T, F))
    y, _, _ = b.cell(LSTM, x, H)
    (y,) = b.node(Transpose((2, 0, 1, 3)), y)
    (y,) = b.node(Reshape((B, T, H)), y)
    (y,) = b.node(MatMul(), y, b.random(H, 5))
    (y,) = b.node(Binary(Arithmetic.ADD), b.random(5), y)
    return b.graph(p=b.node(Softmax(2), y)[0], log=b.node(LogSoftmax(2), y)[0])


def features_before_time() -> Graph:
    """As convolutional models have it: (batch, feature, time)."""
    b = GraphBuilder()
    (x,) = b.node(Transpose((2, 0, 1)), b.input("x", B, F, T))
    y, _ = b.cell(GRU, x, H)
    (y,) = b.node(Transpose((1, 2, 3, 0)), y)
    return b.graph(y=y)


def stacked() -> Graph:
    """Three layers of different cells, normalized and added up between them."""
    b = GraphBuilder()
    y, *_ = b.cell(LSTM, b.input("x", T, B, F), H)
    first = squeezed(b, y)
    (normal,) = b.node(LayerNorm(2, 1e-5), first, b.random(H), b.random(H))
    y, _ = b.cell(GRU, normal, H)
    (total,) = b.node(Binary(Arithmetic.ADD), first, squeezed(b, y))
    y, y_h = b.cell(RNN, total, 2)
    return b.graph(y=y, y_h=y_h, total=total)


def two_branches() -> Graph:
    """Two cells on one input, joined along the features."""
    b = GraphBuilder()
    x = b.input("x", T, B, F)
    a, *_ = b.cell(LSTM, x, H)
    c, _ = b.cell(GRU, x, 2)
    (both,) = b.node(Concat(2), squeezed(b, a), squeezed(b, c))
    (both,) = b.node(Concat(2), both, x)
    y, _ = b.cell(RNN, both, 3)
    return b.graph(y=y)


def last_frame_by_gather() -> Graph:
    """A classifier on the newest frame."""
    b = GraphBuilder()
    y, *_ = b.cell(LSTM, b.input("x", T, B, F), H)
    (last,) = b.node(Gather(0), squeezed(b, y), b.constant(np.array(-1)))
    (z,) = b.node(MatMul(), last, b.random(H, 5))
    return b.graph(p=b.node(Softmax(1), z)[0], z=z)


def last_frame_in_a_list() -> Graph:
    """The index of the last frame, counted from the front, in a list: the axis stays."""
    b = GraphBuilder()
    y, *_ = b.cell(LSTM, b.input("x", T, B, F), H)
    (last,) = b.node(Gather(0), y, b.constant(np.array([T - 1])))
    return b.graph(last=last, y=y)


def last_frame_by_slice() -> Graph:
    """x[:, -1:] of batch-first data."""
    b = GraphBuilder()
    (x,) = b.node(Transpose((1, 0, 2)), b.input("x", B, T, F))
    y, _ = b.cell(GRU, x, H)
    (y,) = b.node(Transpose((2, 0, 1, 3)), y)
    (last,) = b.node(Slice(1, T - 1, 1, 1), y)
    return b.graph(last=b.node(Reshape((B, H)), last)[0])


def last_hidden_state() -> Graph:
    """A head on Y_h and Y_c."""
    b = GraphBuilder()
    _, y_h, y_c = b.cell(LSTM, b.input("x", T, B, F), H)
    (both,) = b.node(Concat(2), y_h, y_c)
    (flat,) = b.node(Reshape((B, 2 * H)), both)
    return b.graph(z=b.node(Unary(TANH), flat)[0])


def every_frame_by_slice() -> Graph:
    """A slice that takes all frames."""
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("x", T, B, F), H)
    (whole,) = b.node(Slice(0, 0, 1, T), y)
    return b.graph(whole=whole, t=b.node(Unary(TANH), whole)[0])


def part_of_the_features() -> Graph:
    """Slices and gathers along other axes than time."""
    b = GraphBuilder()
    (x,) = b.node(Slice(2, 2, -1, 3), b.input("x", T, B, 5))
    y, _ = b.cell(GRU, x, H)
    (y,) = b.node(Gather(3), y, b.constant(np.array([3, 0, -1])))
    return b.graph(y=y)


def constant_states() -> Graph:
    """Initial states that are not zero."""
    b = GraphBuilder()
    y, y_h, y_c = b.cell(LSTM, b.input("x", T, B, F), H)
    inputs = list(b.nodes[0].inputs)
    inputs[5], inputs[6] = b.random(1, B, H, scale=1.0), b.random(1, B, H, scale=1.0)
    b.nodes[0] = dataclasses.replace(b.nodes[0], inputs=tuple(inputs))
    return b.graph(y=y, y_h=y_h, y_c=y_c)


def full_lengths() -> Graph:
    """Constant sequence_lens that are the whole length."""
    b = GraphBuilder()
    y, y_h, _ = b.cell(LSTM, b.input("x", T, B, F), H)
    inputs = list(b.nodes[0].inputs)
    inputs[4] = b.constant(np.full(B, T, np.int32))
    b.nodes[0] = dataclasses.replace(b.nodes[0], inputs=tuple(inputs))
    return b.graph(y=y, y_h=y_h)


def repeated_constants() -> Graph:
    """Constants that were expanded along time, the same for every frame."""
    b = GraphBuilder()
    offset = b.rng.standard_normal((1, 1, F)).astype(np.float32)
    (x,) = b.node(
        Binary(Arithmetic.SUB),
        b.input("x", T, B, F),
        b.constant(np.broadcast_to(offset, (T, B, F))),
    )
    (scale,) = b.node(Broadcast((T, B, F)), b.random(F))
    (x,) = b.node(Binary(Arithmetic.MUL), scale, x)
    y, _ = b.cell(GRU, x, H)
    return b.graph(y=y, scale=scale)


def held_input() -> Graph:
    """An input that is not along time beside one that is."""
    b = GraphBuilder()
    x, held = b.input("x", T, B, F), b.input("held", B, 2)
    (spread,) = b.node(Broadcast((T, B, 2)), held)
    (x,) = b.node(Concat(2), x, spread)
    y, y_h = b.cell(GRU, x, H)
    return b.graph(y=y, y_h=y_h, held=held)


def two_timed_inputs() -> Graph:
    """Two inputs, one batch first, that meet behind their cells."""
    b = GraphBuilder()
    a, _ = b.cell(GRU, b.input("a", T, B, F), H)
    (x,) = b.node(Transpose((1, 0, 2)), b.input("b", B, T, 2))
    c, _ = b.cell(RNN, x, H)
    return b.graph(y=b.node(Binary(Arithmetic.MUL), a, c)[0])


def merged_single_batch() -> Graph:
    """A batch of one that Reshape takes away and puts back around a product."""
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("x", T, 1, F), H)
    (flat,) = b.node(Reshape((T, H)), y)
    (flat,) = b.node(MatMul(), flat, b.random(H, 5))
    return b.graph(y=b.node(Reshape((1, T, 5)), flat)[0])


def all_extents_equal() -> Graph:
    """Time, batch, features and hidden units are all three."""
    b = GraphBuilder()
    (x,) = b.node(Transpose((1, 0, 2)), b.input("x", 3, 3, 3))
    y, y_h = b.cell(GRU, x, 3)
    (z,) = b.node(MatMul(), squeezed(b, y), b.random(3, 3))
    (z,) = b.node(LayerNorm(2, 1e-5), z, b.random(3), None)
    return b.graph(z=b.node(Transpose((1, 2, 0)), z)[0], y_h=y_h)


def one_frame() -> Graph:
    """A model that was exported for a single frame."""
    b = GraphBuilder()
    (x,) = b.node(Transpose((1, 0, 2)), b.input("x", 1, 1, F))
    y, y_h = b.cell(GRU, x, H)
    return b.graph(y=y, y_h=y_h)


def shown_input_and_constant() -> Graph:
    """Outputs that nothing computes."""
    b = GraphBuilder()
    x = b.input("x", T, B, F)
    y, _ = b.cell(GRU, x, H)
    return b.graph(x_again=x, constant=b.random(2), y=y, y_again=y)


MODELS: tuple[Callable[[], Graph], ...] = (
    plain_lstm,
    plain_gru,
    batch_first,
    features_before_time,
    stacked,
    two_branches,
    last_frame_by_gather,
    last_frame_in_a_list,
    last_frame_by_slice,
    last_hidden_state,
    every_frame_by_slice,
    part_of_the_features,
    constant_states,
    full_lengths,
    repeated_constants,
    held_input,
    two_timed_inputs,
    merged_single_batch,
    all_extents_equal,
    one_frame,
    shown_input_and_constant,
)
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def cut(count: int, marks: list[int]) -> list[int]:
    """`count` frames in pieces that end at the marks; some may be empty."""
    ends = [0, *sorted(mark % (count + 1) for mark in marks), count]
    return [stop - start for start, stop in itertools.pairwise(ends)]


@EACH_MODEL
def test_any_chunking_equals_the_whole_sequence(model: Callable[[], Graph]) -> None:
    """Whatever the pieces, outputs along time join up, any-time outputs are the last."""
    graph = model()
    step = to_steps(graph)
    verify(step)
    inputs = random_arrays(graph)
    expected = evaluate(graph, inputs, dtype=DType.F64).outputs

    @given(st.lists(st.integers(0, 20), max_size=4))
    def check(marks: list[int]) -> None:
        pieces = cut(frame_count(graph), marks)
        found = step_through(step, inputs, pieces, DType.F64)
        assert set(found) == set(expected)
        for name, data in expected.items():
            assert found[name].shape == data.shape
            np.testing.assert_allclose(found[name], data, 0, 1e-12, err_msg=name)

    check()


@EACH_MODEL
def test_the_step_computes_in_the_types_of_the_model(model: Callable[[], Graph]) -> None:
    """In float32 the outputs agree to float32's accuracy."""
    graph = model()
    inputs = random_arrays(graph)
    expected = evaluate(graph, inputs).outputs
    found = step_through(to_steps(graph), inputs, [frame_count(graph)])
    for name, data in expected.items():
        assert found[name].dtype == data.dtype
        np.testing.assert_allclose(found[name], data, 1e-5, 1e-6, err_msg=name)


def places(step: StepGraph) -> dict[str, tuple[int | None, int | None]]:
    """Time and batch axis of every input and output by name."""
    found = {item.value.name: (item.time_axis, item.batch_axis) for item in step.inputs}
    found.update({item.name: (item.time_axis, item.batch_axis) for item in step.outputs})
    return found


def test_axes_of_inputs_and_outputs_are_declared() -> None:
    """So that a caller knows where frames and streams stand."""
    assert places(to_steps(plain_lstm())) == {
        "x": (0, 1),
        "y": (0, 2),
        "y_h": (None, 1),
        "y_c": (None, 1),
    }
    assert places(to_steps(batch_first()))["x"] == (1, 0)
    assert places(to_steps(features_before_time()))["y"] == (3, 1)
    assert places(to_steps(held_input()))["held"] == (None, 0)


def test_any_time_outputs_have_no_time_axis() -> None:
    """The newest frame is no sequence; a slice of all frames is one."""
    assert places(to_steps(last_frame_by_gather()))["p"][0] is None
    assert places(to_steps(last_frame_in_a_list()))["last"][0] is None
    assert places(to_steps(every_frame_by_slice()))["whole"][0] == 0


def test_every_cell_has_its_states() -> None:
    """Named after the node, zero unless the model says otherwise."""
    step = to_steps(stacked())
    assert [state.name for state in step.states] == ["lstm0.h", "lstm0.c", "gru3.h", "rnn6.h"]
    assert all(not state.init.any() for state in step.states)


def test_initial_states_are_those_of_the_model() -> None:
    """Constants become what the states start from."""
    graph = constant_states()
    step = to_steps(graph)
    data = {constant.value: constant.data for constant in graph.constants}
    for state, value in zip(step.states, graph.nodes[0].inputs[5:7], strict=True):
        assert value is not None
        np.testing.assert_array_equal(state.init, data[value])


def test_every_input_holds_one_frame() -> None:
    """The rest of its shape is the model's."""
    step = to_steps(features_before_time())
    assert step.inputs[0].value.type.shape == (B, F, 1)


def test_names_and_origins_stay() -> None:
    """Messages about the step speak of the model's nodes."""
    graph = stacked()
    step = to_steps(graph)
    assert [item.value.name for item in step.inputs] == ["x"]
    assert [item.name for item in step.outputs] == ["y", "y_h", "total"]
    assert [(n.name, n.origin) for n in step.nodes] == [(n.name, n.origin) for n in graph.nodes]


def test_a_value_named_like_a_state_does_no_harm() -> None:
    """New names avoid those of the model."""
    b = GraphBuilder()
    y, _ = b.cell(GRU, b.input("gru0.h_in", T, B, F), H)
    (z,) = b.node(Unary(TANH), y, name="gru0.h_in")
    graph = b.graph(z=z)
    step = to_steps(graph)
    verify(step)
    assert step.inputs[0].value.name == "gru0.h_in"
