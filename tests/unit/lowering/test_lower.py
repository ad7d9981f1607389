"""lower: a program computes what its step graph computes, wherever its values stand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.graph import Graph, Output, StepGraph
from edgelstm_compiler.ir.kernels import DenseKernel, OpKernel, RecurrentKernel
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, Direction, MatMul, Reshape, Unary
from edgelstm_compiler.ir.program_text import print_program
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.passes.context import PassContext, run_passes
from edgelstm_compiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from edgelstm_compiler.passes.fuse_dense import fuse_dense
from edgelstm_compiler.passes.share_hidden_state import share_hidden_state
from edgelstm_compiler.passes.simplify_layout import simplify_layout
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.graphs import GraphBuilder, random_graph
from tests.unit.lowering.programs import assert_program_runs, copies

PASSES = (fuse_dense, share_hidden_state, simplify_layout, eliminate_dead_nodes)
SEEDS = st.integers(0, 2**32 - 1)
BLOCKS = pytest.mark.parametrize("unit_block", [16, 4, None])
CELLS = pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LSTM, {}),
        (LSTM, {"peepholes": True}),
        (LSTM, {"input_forget": True, "peepholes": True}),
        (GRU, {}),
        (GRU, {"linear_before_reset": True}),
        (RNN, {}),
    ],
)


def two_layers(kind: type[LSTM] | type[GRU] | type[RNN], batch: int, **fields: bool) -> Graph:
    """Two cells of odd sizes and a head; all that can be shown is shown."""
    b = GraphBuilder()
    y, *states = b.cell(kind, b.input("x", 5, batch, 3), 7, **fields)
    (frames,) = b.node(Reshape((5, batch, 7)), y)
    z, *more = b.cell(kind, frames, 5, **fields)
    (p,) = b.node(Dense(SIGMOID), z, b.random(5, 2), b.random(2))
    shown = {f"s{index}": value for index, value in enumerate((*states, *more))}
    return b.graph(y=y, p=p, **shown)


def call_of(*outputs: str, **given: object) -> StepGraph:
    """A graph of one call."""
    b = GraphBuilder()
    values = {"x": b.input("x", 2, 3), "c": b.random(2, 3)}
    (values["sum"],) = b.node(Binary(Arithmetic.ADD), values["x"], values["c"])
    (values["flat"],) = b.node(Reshape((6,)), values["sum"])
    (values["flat_x"],) = b.node(Reshape((6,)), values["x"])
    (values["flat_c"],) = b.node(Reshape((6,)), values["c"])
    (values["tanh"],) = b.node(Unary(TANH), values["flat"])
    results = tuple(Output(f"out{i}", values[name]) for i, name in enumerate(outputs))
    graph = Graph("m", tuple(b.inputs), results, tuple(b.nodes), tuple(b.constants))
    return whole_call(graph)


def is_for_target(graph: StepGraph, unit_block: int | None) -> bool:
    """Packed kernels refuse weights that are computed."""
    try:
        lower(graph, unit_block)
    except CapabilityError:
        return False
    return True


@CELLS
@BLOCKS
@pytest.mark.parametrize("batch", [1, 3])
def test_a_stream_of_two_layers(
    kind: type[LSTM] | type[GRU] | type[RNN],
    fields: dict[str, bool],
    unit_block: int | None,
    batch: int,
) -> None:
    """Every cell, packed and not, before and after the passes."""
    step = to_steps(two_layers(kind, batch, **fields))
    assert_program_runs(step, unit_block)
    assert_program_runs(run_passes(step, PASSES, PassContext())[0], unit_block)


@CELLS
@BLOCKS
@pytest.mark.parametrize("direction", Direction)
def test_a_call_over_a_sequence(
    kind: type[LSTM] | type[GRU] | type[RNN],
    fields: dict[str, bool],
    unit_block: int | None,
    direction: Direction,
) -> None:
    """All frames at once, in every direction, with lengths and initial states as inputs."""
    b = GraphBuilder()
    outputs = b.cell(kind, b.input("x", 5, 2, 3), 7, direction, **fields)
    lengths = b.constant(np.array([3, 5], np.int32))
    initial = [b.input(f"s{i}", *value.type.shape) for i, value in enumerate(outputs[1:])]
    node = b.nodes.pop()
    inputs = [*node.inputs[:4], lengths, *initial, *([None] * (2 - len(initial))), node.inputs[7]]
    outputs = b.node(node.op, *inputs)
    shown = {f"out{index}": value for index, value in enumerate(outputs)}
    assert_program_runs(whole_call(b.graph(**shown)), unit_block)


@BLOCKS
def test_random_streams(unit_block: int | None) -> None:
    """Whatever can be stepped can be lowered."""

    @given(SEEDS, st.integers(0, 14), st.booleans())
    def check(seed: int, size: int, has_passes: bool) -> None:
        try:
            step = to_steps(random_graph(seed, size))
        except StreamabilityError:
            assume(False)
        if has_passes:
            step, _ = run_passes(step, PASSES, PassContext())
        if is_for_target(step, unit_block):
            assert_program_runs(step, unit_block)

    check()


@BLOCKS
def test_random_calls(unit_block: int | None) -> None:
    """Every graph can be lowered as a call."""

    @given(SEEDS, st.integers(0, 14), st.booleans())
    def check(seed: int, size: int, has_passes: bool) -> None:
        call = whole_call(random_graph(seed, size))
        if has_passes:
            call, _ = run_passes(call, PASSES, PassContext())
        if is_for_target(call, unit_block):
            assert_program_runs(call, unit_block)

    check()


@BLOCKS
@pytest.mark.parametrize(
    "outputs",
    [
        ("x",),
        ("c",),
        ("flat_x", "flat_c"),
        ("sum", "sum"),
        ("sum", "flat"),
        ("flat", "sum", "tanh", "flat"),
        ("tanh", "x", "tanh", "c", "x"),
    ],
)
def test_outputs_may_show_anything(unit_block: int | None, outputs: tuple[str, ...]) -> None:
    """Inputs, constants, reshapes of them, one value several times."""
    assert_program_runs(call_of(*outputs), unit_block)


def test_a_result_is_computed_where_the_caller_wants_it() -> None:
    """No copy for an output that a kernel gives."""
    assert copies(assert_program_runs(call_of("tanh", "sum"), 16)) == []
    assert copies(assert_program_runs(call_of("flat"), 16)) == []
    assert copies(assert_program_runs(call_of("sum", "sum"), 16)) == [("output", "output")]
    assert copies(assert_program_runs(call_of("x", "c"), 16)) == [
        ("input", "output"),
        ("weights", "output"),
    ]


def test_reshapes_cost_nothing() -> None:
    """With packed kernels they are another view of the same buffer."""
    program = assert_program_runs(call_of("tanh"), 16)
    assert [call.kernel.kind for call in program.calls] == ["OpKernel", "OpKernel"]


def test_kernels_are_packed_where_weights_are_constant() -> None:
    """Others stay operators."""
    b = GraphBuilder()
    x = b.input("x", 4, 1, 3)
    y, _ = b.cell(GRU, x, 5)
    (p,) = b.node(Dense(None), y, b.random(5, 2), None)
    (q,) = b.node(MatMul(), p, b.input("w", 2, 2))
    graph = whole_call(b.graph(q=q))
    kernels = [type(call.kernel) for call in assert_program_runs(graph, 16).calls]
    assert kernels == [RecurrentKernel, DenseKernel, OpKernel]
    assert {type(call.kernel) for call in lower(graph, None).calls if call.name != "copy_0"} == {
        OpKernel
    }


def test_weights_of_other_types_are_refused_by_packed_kernels() -> None:
    """They compute in float32; the reference target takes any type."""
    b = GraphBuilder()
    x = b.input("x", 2, 3, dtype=np.float64)
    (y,) = b.node(Dense(None), x, b.constant(np.ones((3, 4))), b.constant(np.ones(4)))
    graph = whole_call(b.graph(y=y))
    with pytest.raises(CapabilityError, match="Dense 'dense0': its weights 'c0' are f64"):
        lower(graph, 16)
    assert_program_runs(graph, None)


def test_computed_weights_are_refused_by_packed_kernels() -> None:
    """They cannot be packed ahead of time; the reference target takes them."""
    b = GraphBuilder()
    (y,) = b.node(Dense(None), b.input("x", 2, 3), b.input("w", 3, 4), None)
    graph = whole_call(b.graph(y=y))
    with pytest.raises(CapabilityError, match="'w' are computed at run time"):
        lower(graph, 16)
    assert_program_runs(graph, None)


def test_packed_weights_leave_the_originals_away() -> None:
    """A weight stands in the blob once."""
    b = GraphBuilder()
    (y,) = b.node(Dense(None), b.input("x", 16), b.random(16, 16), None)
    assert len(lower(whole_call(b.graph(y=y)), 16).weights) == (16 + 1) * 16 * 4


def test_equal_constants_stand_in_the_blob_once() -> None:
    """Also where they are two values of the graph."""
    b = GraphBuilder()
    (y,) = b.node(Binary(Arithmetic.ADD), b.input("x", 4), b.constant(np.ones(4, np.float32)))
    (y,) = b.node(Binary(Arithmetic.MUL), y, b.constant(np.ones(4, np.float32)))
    assert len(lower(whole_call(b.graph(y=y)), 16).weights) == 64


def test_a_sequence_output_that_nobody_reads_is_not_written() -> None:
    """Y of a cell of which only the state is used."""
    b = GraphBuilder()
    _, y_h = b.cell(GRU, b.input("x", 4, 1, 3), 5)
    (call,) = assert_program_runs(whole_call(b.graph(h=y_h)), 16).calls
    assert call.outputs[0] is None


def test_macs_are_those_of_the_products() -> None:
    """Per step: rows times inputs of every product."""
    program = lower(to_steps(two_layers(GRU, 1)), 16)
    assert program.macs == 3 * 7 * (3 + 7) + 3 * 5 * (7 + 5) + 5 * 2


def test_lowering_twice_gives_the_same_program() -> None:
    """Artifacts are byte-identical."""
    first, second = (lower(to_steps(two_layers(LSTM, 1)), 16) for _ in range(2))
    assert print_program(first) == print_program(second)
    assert first.weights == second.weights
