"""Limits of inputs that keep a stream finite, and ranges of integers used as indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import RELU, SIGMOID, TANH, Activation, Fn
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Cast,
    Direction,
    Gather,
    LayerNorm,
    Reshape,
    Slice,
    Unary,
)
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.lowering.bounds.check import find_bounds
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.fuzz.artifacts import steps_or_call
from tests.graphs import GraphBuilder

HIDDEN, FEATURES = 4, 3


def one_layer(op: Any, scale: float = 0.5) -> StepGraph:
    """A layer over frames of three features, as steps."""
    b = GraphBuilder()
    x = b.input("x", 2, 1, FEATURES)
    w = b.random(1, op.gates * HIDDEN, FEATURES, scale=scale)
    r = b.random(1, op.gates * HIDDEN, HIDDEN, scale=scale)
    y, *_ = b.node(op, x, w, r)
    return to_steps(b.graph(y=y))


def carried(b: GraphBuilder, state: Value, write: Value, *inputs: Value) -> StepGraph:
    """A step graph with one state that it shows."""
    init = np.zeros(state.type.shape, state.type.dtype.numpy)
    return StepGraph(
        "hand",
        "stream",
        tuple(StepInput(value) for value in inputs),
        (StepOutput("y", write),),
        tuple(b.nodes),
        tuple(b.constants),
        (State("s", state.type, init, state, write),),
    )


def lstm(activations: Sequence[Activation] = (SIGMOID, TANH, TANH), **fields: Any) -> LSTM:
    return LSTM(HIDDEN, Direction.FORWARD, tuple(activations), fields.pop("clip", None), **fields)


@pytest.mark.parametrize(
    "op",
    [
        lstm(),
        lstm(input_forget=True),
        lstm((Activation(Fn.HARD_SIGMOID, 0.2, 0.5), TANH, RELU)),
        lstm((RELU, RELU, RELU), clip=0.9),
        GRU(HIDDEN, Direction.FORWARD, (SIGMOID, TANH), None),
        GRU(HIDDEN, Direction.FORWARD, (SIGMOID, TANH), None, linear_before_reset=True),
        RNN(HIDDEN, Direction.FORWARD, (TANH,), None),
    ],
    ids=str,
)
def test_bounded_cells_have_a_limit_and_need_no_check(op: Any) -> None:
    """For |x| up to more than 1e36 nothing overflows, ever."""
    limits = find_bounds(one_layer(op)).limits
    assert not limits.checks_states
    assert 1e36 < limits.limits[0] < 3.4e38


@pytest.mark.parametrize(
    "op",
    [
        lstm((SIGMOID, RELU, RELU)),
        lstm((RELU, TANH, TANH)),
        GRU(HIDDEN, Direction.FORWARD, (SIGMOID, RELU), None),
        RNN(HIDDEN, Direction.FORWARD, (RELU,), None),
        RNN(HIDDEN, Direction.FORWARD, (Activation(Fn.SOFTPLUS),), None),
    ],
    ids=str,
)
def test_cells_that_may_grow_are_checked(op: Any) -> None:
    """An unbounded activation that feeds back has no limit that would do."""
    limits = find_bounds(one_layer(op, scale=1.5)).limits
    assert limits.checks_states
    assert limits.state_limit < 1e38


def test_a_relu_cell_that_contracts_has_a_limit() -> None:
    """Rows of R with a sum of magnitudes below one: h stays bounded."""
    limits = find_bounds(one_layer(RNN(HIDDEN, Direction.FORWARD, (RELU,), None), scale=0.05))
    assert not limits.limits.checks_states


def test_a_running_sum_has_a_limit() -> None:
    """Beyond 2^24 terms float32 absorbs what is added."""
    b = GraphBuilder()
    x, s = b.input("x", 1, 3), b.input("s", 1, 3)
    (total,) = b.node(Binary(Arithmetic.ADD), s, x)
    limits = find_bounds(carried(b, s, total, x)).limits
    assert not limits.checks_states
    assert 1e28 < limits.limits[0] < 1e33


def test_a_geometric_state_is_checked() -> None:
    """S' = 1.01 s + x leaves every bound."""
    b = GraphBuilder()
    x, s = b.input("x", 1, 3), b.input("s", 1, 3)
    (grown,) = b.node(Binary(Arithmetic.MUL), s, b.constant(np.full((1, 3), 1.01, np.float32)))
    (total,) = b.node(Binary(Arithmetic.ADD), grown, x)
    assert find_bounds(carried(b, s, total, x)).limits.checks_states


@pytest.mark.parametrize("fn", [Fn.EXP, Fn.LOG, Fn.RECIPROCAL])
def test_functions_that_overflow_in_front_of_a_state_are_checked(fn: Fn) -> None:
    """exp(100) is infinite: a limit of 88 would refuse real data, so the states are looked at."""
    b = GraphBuilder()
    x, s = b.input("x", 1, 3), b.input("s", 1, 3)
    (y,) = b.node(Unary(Activation(fn)), x)
    (half,) = b.node(Binary(Arithmetic.MUL), s, b.constant(np.full((1, 3), 0.5, np.float32)))
    (total,) = b.node(Binary(Arithmetic.ADD), half, y)
    limits = find_bounds(carried(b, s, total, x)).limits
    assert limits.checks_states
    assert math.isinf(limits.limits[0])


def test_functions_behind_the_states_are_no_matter() -> None:
    """An Exp of the output may overflow; it is gone with the next frame."""
    b = GraphBuilder()
    x = b.input("x", 2, 1, FEATURES)
    y, *_ = b.cell(LSTM, x, HIDDEN)
    (sums,) = b.node(Binary(Arithmetic.MUL), y, b.constant(np.full((1,), 1e3, np.float32)))
    (z,) = b.node(Unary(Activation(Fn.EXP)), sums)
    limits = find_bounds(to_steps(b.graph(z=z))).limits
    assert not limits.checks_states
    assert limits.limits[0] > 1e36


def test_layer_norm_squares_its_input() -> None:
    """The limit is near the root of the largest number."""
    b = GraphBuilder()
    x = b.input("x", 2, 1, FEATURES)
    scale, bias = b.random(FEATURES), b.random(FEATURES)
    (n,) = b.node(LayerNorm(2, 1e-5), x, scale, bias)
    y, *_ = b.cell(GRU, n, HIDDEN)
    limits = find_bounds(to_steps(b.graph(y=y))).limits
    assert 1e17 < limits.limits[0] < 1e20


@pytest.mark.parametrize("seed", range(60))
def test_within_the_limits_random_graphs_stay_finite(seed: int) -> None:
    """Frames at the limits, in float32 and step by step; where states are checked, one step."""
    graph = steps_or_call(seed, 4 + seed % 6)
    bounds = find_bounds(graph)
    rng = np.random.default_rng(seed)
    states = {state.name: state.init for state in graph.states}
    for _ in range(1 if bounds.limits.checks_states else 30):
        inputs = {}
        for item, limit in zip(graph.inputs, bounds.limits.limits, strict=True):
            kind = item.value.type
            if kind.dtype.is_float:
                top = min(limit, float(np.finfo(kind.dtype.numpy.name).max))
                values = rng.choice([-top, top, 0.0, 1.0], kind.shape)
            else:
                low, high = bounds.ranges.get(item.value, (np.int64(0), np.int64(5)))
                values = rng.integers(low, high + 1, kind.shape)
            inputs[item.value.name] = values.astype(kind.dtype.numpy)
        with np.errstate(all="ignore"):
            found = evaluate(graph, inputs, states=states)
        states = found.states
        finite = [np.isfinite(data).all() for data in states.values() if data.dtype.kind == "f"]
        assert all(finite)


def embedding(
    *, dtype: type = np.int64, split: bool = False, shift: int = 0, factor: int = 1
) -> StepGraph:
    """Rows of tables at ids, into a cell."""
    b = GraphBuilder()
    ids = b.input("ids", 2, 1, 2, dtype=dtype)
    parts = []
    for index, rows in enumerate((7, 3) if split else (7,)):
        (part,) = b.node(Slice(2, index, 1, 1), ids)
        if factor != 1:
            (part,) = b.node(Binary(Arithmetic.MUL), part, b.constant(np.array(factor, dtype)))
        if shift:
            (part,) = b.node(Binary(Arithmetic.ADD), part, b.constant(np.array(shift, dtype)))
        (row,) = b.node(Gather(0), b.random(rows, FEATURES), part)
        parts.append(row)
    (total,) = b.node(Binary(Arithmetic.ADD), *parts) if split else (parts[0],)
    (flat,) = b.node(Slice(2, 0, 1, 1), total)
    (x,) = b.node(Reshape((2, 1, FEATURES)), flat)
    y, *_ = b.cell(GRU, x, HIDDEN)
    return to_steps(b.graph(y=y))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ((1, -7, 6), (1, -(2**63), 2**63 - 1))),
        ({"dtype": np.int32}, ((1, -7, 6), (1, -(2**31), 2**31 - 1))),
        ({"split": True}, ((1, -7, 6), (1, -3, 2))),
        ({"shift": 2}, ((1, -9, 4), (1, -(2**63), 2**63 - 1))),
        ({"factor": -2, "shift": 1}, ((1, -2, 4), (1, -(2**63), 2**63 - 1))),
    ],
)
def test_ranges_of_each_element(options: Any, expected: Any) -> None:
    """An element may hold what is an index where it is used, through moves, sums and factors."""
    signature = lower(embedding(**options), 16).signature
    assert signature.inputs[0].ranges == expected


def computed_index(*, scaled: bool = False, clipped: bool = False) -> StepGraph:
    """An index that is computed in floating point."""
    b = GraphBuilder()
    x = b.input("x", 2, 1)
    value = x
    if scaled:
        (value,) = b.node(Binary(Arithmetic.MUL), x, b.constant(np.array([2.5], np.float32)))
    if clipped:
        (value,) = b.node(Unary(Activation(Fn.CLIP, 0.0, 6.0)), x)
    (index,) = b.node(Cast(DType.I64), value)
    (row,) = b.node(Gather(0), b.random(7, FEATURES), index)
    y, *_ = b.cell(GRU, row, HIDDEN)
    return to_steps(b.graph(y=y))


def test_computed_indices_that_nothing_bounds_are_refused() -> None:
    """Compiled code does not look at them; the reference engine does."""
    with pytest.raises(CapabilityError, match=r"within -7 and 6.*Clip.*--target reference"):
        lower(computed_index(scaled=True), 16)
    assert lower(computed_index(scaled=True), None).signature.inputs[0].ranges == ()


def test_ids_in_floating_point_have_ranges() -> None:
    """All numbers that are rounded towards zero to an index, and no others."""
    ((count, low, high),) = lower(computed_index(), 16).signature.inputs[0].ranges
    assert count == 1
    assert np.trunc(np.float32(low)) == -7
    assert np.trunc(np.nextafter(np.float32(low), np.float32(-np.inf))) == -8
    assert np.trunc(np.float32(high)) == 6
    assert np.trunc(np.nextafter(np.float32(high), np.float32(np.inf))) == 7


def test_computed_indices_behind_a_clip_are_fine() -> None:
    """The clip says what they can be."""
    assert lower(computed_index(clipped=True), 16).signature.inputs[0].ranges == ()


def test_lengths_have_ranges() -> None:
    """sequence_lens lies within 0 and the number of frames."""
    b = GraphBuilder()
    x, lens = b.input("x", 6, 2, FEATURES), b.input("lens", 2, dtype=np.int32)
    op = GRU(HIDDEN, Direction.FORWARD, (SIGMOID, TANH), None)
    w, r = b.random(1, 3 * HIDDEN, FEATURES), b.random(1, 3 * HIDDEN, HIDDEN)
    y, *_ = b.node(op, x, w, r, None, lens)
    signature = lower(whole_call(b.graph(y=y)), 16).signature
    assert signature.inputs[1].ranges == ((2, 0, 6),)
