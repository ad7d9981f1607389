"""to_steps on random graphs: what is not refused computes what the sequence computes."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.text import print_graph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.graphs import frame_count, random_arrays, random_graph, step_through

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=max(400, settings().max_examples))
@given(SEEDS, st.integers(0, 14))
def test_a_step_graph_computes_the_sequence_or_is_refused(seed: int, size: int) -> None:
    """Never a silently different number, however alike the extents of the axes are."""
    graph = random_graph(seed, size)
    try:
        step = to_steps(graph)
    except StreamabilityError:
        assume(False)
    verify(step)
    inputs = random_arrays(graph)
    expected = evaluate(graph, inputs, dtype=DType.F64).outputs
    found = step_through(step, inputs, [frame_count(graph)], DType.F64)
    for name, data in expected.items():
        assert found[name].shape == data.shape, print_graph(graph)
        np.testing.assert_allclose(found[name], data, 1e-6, 1e-9, err_msg=print_graph(graph))


@given(SEEDS, st.integers(0, 14))
def test_the_conversion_leaves_the_graph_alone(seed: int, size: int) -> None:
    """It can be converted again, and called as a whole."""
    graph = random_graph(seed, size)
    text = print_graph(graph)
    try:
        first = to_steps(graph)
    except StreamabilityError:
        assume(False)
    assert print_graph(to_steps(graph)) == print_graph(first)
    assert print_graph(graph) == text


@given(SEEDS, st.integers(0, 14))
def test_a_whole_call_is_the_sequence(seed: int, size: int) -> None:
    """Call mode takes every graph, and computes the same bits."""
    graph = random_graph(seed, size)
    call = whole_call(graph)
    verify(call)
    assert not call.states
    inputs = random_arrays(graph)
    expected, found = evaluate(graph, inputs).outputs, evaluate(call, inputs).outputs
    for name, data in expected.items():
        np.testing.assert_array_equal(found[name], data)
