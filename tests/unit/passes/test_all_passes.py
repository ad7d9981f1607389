"""Every pass on random graphs: the function stays, a second run changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgelstm_compiler.ir.text import print_graph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.passes.context import PassContext, run_passes
from edgelstm_compiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from edgelstm_compiler.passes.fuse_dense import fuse_dense
from edgelstm_compiler.passes.share_hidden_state import share_hidden_state
from edgelstm_compiler.passes.simplify_layout import simplify_layout
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.conftest import GoldenCheck
from tests.graphs import random_graph
from tests.unit.passes.transform import Pass, apply_pass, assert_same_function, before_and_after

ALL = (eliminate_dead_nodes, fuse_dense, share_hidden_state, simplify_layout)
SEEDS = st.integers(0, 10**6)
BEFORE = """
graph "dead"
in %x: f32[2]
const %used: f32[2] = [1.0, 2.0]
const %unused: f32[2] = [3.0, 4.0]
%y: f32[2] = Binary {"arithmetic": "add"} (%x, %used) # "y" ""
%z: f32[2] = Binary {"arithmetic": "add"} (%y, %unused) # "z" ""
out "y" = %y
"""


def test_dead_nodes_and_their_constants_go(golden: GoldenCheck) -> None:
    """The text before and after."""
    golden("eliminate_dead_nodes", before_and_after(eliminate_dead_nodes, BEFORE))


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: transform.__name__)
def test_a_pass_leaves_the_function_of_a_graph(transform: Pass) -> None:
    """On sequence graphs."""

    @given(SEEDS, st.integers(0, 12))
    def check(seed: int, size: int) -> None:
        graph = random_graph(seed, size)
        assert_same_function(graph, apply_pass(transform, graph))

    check()


@given(SEEDS, st.integers(0, 12))
def test_all_passes_leave_the_function_of_a_step(seed: int, size: int) -> None:
    """On step graphs, states included."""
    try:
        step = to_steps(random_graph(seed, size))
    except StreamabilityError:
        assume(False)
    after, _ = run_passes(step, ALL, PassContext())
    verify(after)
    assert_same_function(step, after)


@given(SEEDS, st.integers(0, 12))
def test_all_passes_leave_the_function_of_a_call(seed: int, size: int) -> None:
    """On whole calls."""
    call = whole_call(random_graph(seed, size))
    after, _ = run_passes(call, ALL, PassContext())
    assert_same_function(call, after)


@given(SEEDS)
def test_passes_do_not_change_the_graph_they_are_given(seed: int) -> None:
    """A new graph is made; the old one prints as before."""
    graph = random_graph(seed, 8)
    text = print_graph(graph)
    run_passes(graph, ALL, PassContext())
    assert print_graph(graph) == text
