"""Cells written as flat lists of calls: once a layer, and with the weights that are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.numerics import layer as layer_module
from edgelstm.numerics import tape
from edgelstm.numerics.layer import LAYERS, RecurrentLayer
from edgelstm_compiler.ir.fields import executed
from edgelstm_compiler.ir.ops.recurrent import Recurrent
from tests.models import CellCase, cell_model
from tests.quantized_models import step_graph

HIDDEN, FEATURES = 5, 3
RNG = np.random.default_rng(8)


def layer_of(op: str, **more: Any) -> RecurrentLayer:
    """A layer as the reference engine binds it."""
    case = CellCase(op=op, hidden=HIDDEN, features=FEATURES, steps=None, **more)
    (found,) = (n.op for n in step_graph(cell_model(case)).nodes if isinstance(n.op, Recurrent))
    kind, fields = executed(found, [])
    return LAYERS[kind](fields)


def operands(op: str, frames: int = 1, *, is_constant: bool = True) -> list[Any]:
    """X, W, R, B."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    shapes = [(frames, 1, FEATURES), (1, gates * HIDDEN, FEATURES), (1, gates * HIDDEN, HIDDEN)]
    made = [RNG.standard_normal(s).astype(np.float32) for s in (*shapes, (1, 2 * gates * HIDDEN))]
    for array in made[1:]:
        array.setflags(write=not is_constant)
    return made


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_steps_are_written_once(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of frames writes nothing after the first, and makes no weights ready again."""
    layer, given = layer_of(op), operands(op)
    layer(given)
    monkeypatch.setattr(tape, "write_step", None)
    monkeypatch.setattr(layer_module, "FloatWeights", None)
    layer([given[0] + 1, *given[1:]])


def test_weights_that_change_are_read_again() -> None:
    """Arrays that may be written are no constants: a layer sees what stands in them now."""
    layer, given = layer_of("LSTM"), operands("LSTM", is_constant=False)
    layer(given)
    given[1] *= -1
    np.testing.assert_array_equal(layer(given)[0], layer_of("LSTM")(given)[0])


def test_other_weights_are_other_weights() -> None:
    """The same layer on other constants gives what a new one gives."""
    layer, first, second = layer_of("GRU"), operands("GRU"), operands("GRU")
    layer(first)
    np.testing.assert_array_equal(layer(second)[0], layer_of("GRU")(second)[0])
    np.testing.assert_array_equal(layer(first)[0], layer_of("GRU")(first)[0])


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_frame_alone_is_the_first_of_many(op: str, dtype: type) -> None:
    """Bit for bit, in type and shape: steps of a stream have no arrays to gather frames in."""
    given = [each.astype(dtype) for each in operands(op, frames=4)]
    whole, *_ = layer_of(op)(given)
    states: list[Any] = [None, None]
    for t in range(4):
        y, *states = layer_of(op)([given[0][t : t + 1], *given[1:], None, *states])
        np.testing.assert_array_equal(y, whole[t : t + 1])
        assert y.dtype == whole.dtype
        assert all(s.shape == (1, 1, HIDDEN) and s.dtype == dtype for s in states)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_an_observed_frame_is_the_same_frame(op: str) -> None:
    """Looking inside changes nothing; every sum, node and new state is seen once, in order."""
    layer, given = layer_of(op, clip=0.5), operands(op, frames=2)
    seen: list[tuple[str, Any]] = []
    observed = layer(given, lambda name, value: seen.append((name, value)))
    for found, expected in zip(observed, layer(given), strict=True):
        np.testing.assert_array_equal(found, expected)
    cell = layer.fields["cell"]
    names = [name for name, _ in seen]
    half = len(names) // 2
    assert names[:half] == names[half:]
    assert len(set(names[:half])) == half
    assert {total.name for total in cell.sums} <= set(names)
    (h,) = (value for name, value in seen[half:] if name == cell.state_names[0])
    np.testing.assert_array_equal(h, observed[1][0])
