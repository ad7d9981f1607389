"""States of a program: updated in place only where nobody misses the old value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.graph import State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Reshape, Unary
from edgelstm_compiler.ir.types import Array, Constant, Value
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from tests.graphs import GraphBuilder
from tests.unit.lowering.programs import assert_program_runs, copies

BLOCKS = pytest.mark.parametrize("unit_block", [16, None])
H = 3


class StepBuilder(GraphBuilder):
    """Builds one step with states."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[State] = []

    def state(self, name: str, *shape: int) -> Value:
        """A value that holds a state; `close` says what it becomes."""
        init = self.rng.standard_normal(shape).astype(np.float32)
        read = Constant.of(f"{name}_in", init).value
        self.states.append(State(name, read.type, frozen(init), read, read))
        return read

    def gru(self, x: Value, h: Value, y: str = "gru") -> tuple[Value, Value]:
        """A cell over one frame that starts from h."""
        w, r = self.random(1, 3 * H, x.type.shape[2]), self.random(1, 3 * H, H)
        op = self.cell_op(GRU)
        out = self.node(op, x, w, r, None, None, h, name=y)
        return out[0], out[1]

    def cell_op(self, kind: Any) -> Any:
        """The operator of a forward cell."""
        probe = GraphBuilder()
        probe.cell(kind, probe.input("x", 1, 1, 1), H)
        return probe.nodes[0].op

    def step(self, writes: dict[str, Value], **outputs: Value) -> StepGraph:
        """The legal step graph."""
        states = tuple(
            State(s.name, s.type, s.init, s.read, writes.get(s.name, s.read)) for s in self.states
        )
        graph = StepGraph(
            "m",
            "stream",
            tuple(StepInput(value) for value in self.inputs),
            tuple(StepOutput(name, value) for name, value in outputs.items()),
            tuple(self.nodes),
            tuple(self.constants),
            states,
        )
        verify(graph)
        return graph


def frozen(data: Array) -> Array:
    """Read-only."""
    return Constant.of("", data).data


def start() -> tuple[StepBuilder, Value, Value]:
    """A builder with an input frame and a state."""
    b = StepBuilder()
    return b, b.input("x", 1, 1, 2), b.state("h", 1, 1, H)


def written_by_cell(graph: StepGraph) -> list[str]:
    """Where the first cell puts its new hidden state."""
    call = assert_program_runs(graph, 16).calls[0]
    return [buffer.space.value for buffer in call.outputs[1:] if buffer is not None]


@BLOCKS
def test_a_state_is_updated_in_place(unit_block: int | None) -> None:
    """Nothing else reads it: no copy (with packed kernels)."""
    b, x, h = start()
    y, new = b.gru(x, h)
    graph = b.step({"h": new}, y=y)
    program = assert_program_runs(graph, unit_block)
    assert copies(program) == ([] if unit_block else [("scratch", "output"), ("scratch", "state")])


def test_both_states_of_an_lstm_are_updated_in_place() -> None:
    """H and c."""
    b, x, h = start()
    c = b.state("c", 1, 1, H)
    w, r = b.random(1, 4 * H, 2), b.random(1, 4 * H, H)
    _, new_h, new_c = b.node(b.cell_op(LSTM), x, w, r, None, None, h, c)
    graph = b.step({"h": new_h, "c": new_c}, y=new_h)
    assert written_by_cell(graph) == ["state", "state"]


@BLOCKS
def test_a_new_state_may_be_shown(unit_block: int | None) -> None:
    """It is updated in place, and copied to the output."""
    b, x, h = start()
    _, new = b.gru(x, h)
    assert_program_runs(b.step({"h": new}, a=new, b=new), unit_block)


@BLOCKS
def test_an_old_state_may_be_shown(unit_block: int | None) -> None:
    """The output is the state before the step: no update in place."""
    b, x, h = start()
    _, new = b.gru(x, h)
    graph = b.step({"h": new}, old=h, new=new)
    assert_program_runs(graph, unit_block)
    assert written_by_cell(graph) != ["state"]


@BLOCKS
def test_an_old_state_may_be_read_later(unit_block: int | None) -> None:
    """A node behind the cell takes the difference: no update in place."""
    b, x, h = start()
    _, new = b.gru(x, h)
    (change,) = b.node(Binary(Arithmetic.SUB), new, h)
    graph = b.step({"h": new}, change=change)
    assert_program_runs(graph, unit_block)
    assert written_by_cell(graph) == ["scratch"]


@BLOCKS
def test_an_old_state_may_be_read_later_through_a_reshape(unit_block: int | None) -> None:
    """A view of the state is the state."""
    b, x, h = start()
    (view,) = b.node(Reshape((H,)), h)
    y, new = b.gru(x, h)
    (change,) = b.node(Binary(Arithmetic.SUB), y, view)
    assert_program_runs(b.step({"h": new}, change=change, view=view), unit_block)


@BLOCKS
def test_a_state_may_be_the_frame_too(unit_block: int | None) -> None:
    """A cell that reads its state also as its input cannot update it in place."""
    b = StepBuilder()
    h = b.state("h", 1, 1, H)
    y, new = b.gru(h, h)
    graph = b.step({"h": new}, y=y)
    assert_program_runs(graph, unit_block)
    assert written_by_cell(graph) != ["state"]


@BLOCKS
def test_two_cells_may_read_one_state(unit_block: int | None) -> None:
    """Only one of them writes it."""
    b, x, h = start()
    _, new = b.gru(x, h, "first")
    y, _ = b.gru(x, h, "second")
    assert_program_runs(b.step({"h": new}, y=y), unit_block)


@BLOCKS
def test_two_states_may_be_swapped(unit_block: int | None) -> None:
    """Neither is lost on the way."""
    b, x, h = start()
    g = b.state("g", 1, 1, H)
    y, _ = b.gru(x, h)
    assert_program_runs(b.step({"h": g, "g": h}, y=y, h=h, g=g), unit_block)


@BLOCKS
def test_three_states_may_be_rotated(unit_block: int | None) -> None:
    """A delay line of the input behind them."""
    b = StepBuilder()
    x = b.input("x", 2)
    a, c, d = b.state("a", 2), b.state("c", 2), b.state("d", 2)
    graph = b.step({"a": x, "c": a, "d": c}, oldest=d, newest=x)
    program = assert_program_runs(graph, unit_block)
    assert copies(program).count(("scratch", "state")) == 2


@BLOCKS
def test_a_delay_line_may_follow_a_cell(unit_block: int | None) -> None:
    """The cell's old state is the next value of another one."""
    b, x, h = start()
    before = b.state("before", 1, 1, H)
    y, new = b.gru(x, h)
    graph = b.step({"h": new, "before": h}, y=y, before=before)
    assert_program_runs(graph, unit_block)
    assert written_by_cell(graph) == ["scratch"]


@BLOCKS
def test_two_states_may_write_the_same_value(unit_block: int | None) -> None:
    """One in place, the other by way of a copy."""
    b, x, h = start()
    twin = b.state("twin", 1, 1, H)
    y, new = b.gru(x, h)
    assert_program_runs(b.step({"h": new, "twin": new}, y=y, twin=twin), unit_block)


@BLOCKS
def test_states_may_cross_two_cells(unit_block: int | None) -> None:
    """What one cell starts from the other cell has written."""
    b, x, h = start()
    g = b.state("g", 1, 1, H)
    _, first = b.gru(x, h, "first")
    y, second = b.gru(x, g, "second")
    assert_program_runs(b.step({"h": second, "g": first}, y=y, h=first), unit_block)


@BLOCKS
def test_a_state_may_write_a_reshape(unit_block: int | None) -> None:
    """Of what a node computes, or of another state."""
    b = StepBuilder()
    x, s, t = b.input("x", 2, 3), b.state("s", 6), b.state("t", 2, 3)
    (total,) = b.node(Binary(Arithmetic.ADD), x, t)
    (flat,) = b.node(Reshape((6,)), total)
    (square,) = b.node(Reshape((2, 3)), s)
    graph = b.step({"s": flat, "t": square}, y=total, square=square, flat=flat)
    assert_program_runs(graph, unit_block)


@BLOCKS
def test_a_state_may_write_an_input_or_a_constant(unit_block: int | None) -> None:
    """They are copied."""
    b = StepBuilder()
    x, s, t = b.input("x", 2), b.state("s", 2), b.state("t", 2)
    (y,) = b.node(Binary(Arithmetic.ADD), s, t)
    assert_program_runs(b.step({"s": x, "t": b.random(2)}, y=y), unit_block)


@BLOCKS
def test_a_state_may_stay_as_it_is(unit_block: int | None) -> None:
    """It writes what it reads: nothing to do."""
    b = StepBuilder()
    x, s = b.input("x", 2), b.state("s", 2)
    (y,) = b.node(Binary(Arithmetic.ADD), s, x)
    program = assert_program_runs(b.step({}, y=y), unit_block)
    assert all(target != "state" for _, target in copies(program))


@BLOCKS
def test_a_new_state_may_feed_the_next_layer(unit_block: int | None) -> None:
    """Read from where it stands, after the update."""
    b, x, h = start()
    g = b.state("g", 1, 1, H)
    _, new = b.gru(x, h, "first")
    (warm,) = b.node(Unary(TANH), new)
    _, top = b.gru(warm, g, "second")
    _, third = b.gru(new, g, "third")
    assert_program_runs(b.step({"h": new, "g": top}, y=third), unit_block)


def test_the_state_block_starts_from_the_initial_values() -> None:
    """Each at its place, zeros between them."""
    b = StepBuilder()
    x, s, t = b.input("x", 2), b.state("s", 2), b.state("t", 3)
    graph = b.step({"s": x}, s=s, t=t)
    program = lower(graph, 16)
    places = {spec.name: spec.offset_bytes for spec in program.signature.states}
    assert places == {"s": 0, "t": 64}
    block = np.frombuffer(program.state_init, np.float32)
    np.testing.assert_array_equal(block[:2], graph.states[0].init)
    np.testing.assert_array_equal(block[16:19], graph.states[1].init)
    assert block.size == 32
    assert not block[2:16].any()


def test_runners_do_not_share_their_states() -> None:
    """Each starts from the initial values."""
    b, x, h = start()
    y, new = b.gru(x, h)
    program = lower(b.step({"h": new}, y=y), 16)
    frame = {"x": np.ones((1, 1, 2), np.float32)}
    first = ProgramRunner(program)
    before = first.step(frame)["y"]
    first.step(frame)
    np.testing.assert_array_equal(ProgramRunner(program).step(frame)["y"], before)


def test_cells_of_every_kind_know_their_states() -> None:
    """An RNN has one, too."""
    b, x, h = start()
    w, r = b.random(1, H, 2), b.random(1, H, H)
    y, new = b.node(b.cell_op(RNN), x, w, r, None, None, h)
    assert written_by_cell(b.step({"h": new}, y=y)) == ["state"]


@given(st.data())
def test_any_wiring_of_states_and_outputs(data: st.DataObject) -> None:
    """Cells read and states write whatever there is, in any order."""
    b = StepBuilder()
    pool = [b.input("x", 1, 1, H)]
    count = data.draw(st.integers(1, 3))
    pool += [b.state(f"s{index}", 1, 1, H) for index in range(count)]

    def some() -> Value:
        return data.draw(st.sampled_from(pool))

    for number in range(data.draw(st.integers(0, 3))):
        match data.draw(st.integers(0, 3)):
            case 0:
                pool += b.node(Binary(Arithmetic.SUB), some(), some())
            case 1:
                (flat,) = b.node(Reshape((H, 1)), some())
                pool += b.node(Reshape((1, 1, H)), flat)
            case _:
                pool.append(b.gru(some(), some(), f"gru{number}")[1])
    writes = {f"s{index}": some() for index in range(count)}
    shown = {f"o{index}": some() for index in range(data.draw(st.integers(1, 3)))}
    graph = b.step(writes, **shown)
    for unit_block in (4, None):
        assert_program_runs(graph, unit_block)
