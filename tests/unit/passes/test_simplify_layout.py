"""simplify_layout: movement that moves nothing becomes a reshape, or nothing at all."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm_compiler.ir.activations import TANH
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import (
    Broadcast,
    Concat,
    Gather,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.passes.simplify_layout import simplify_layout
from tests.conftest import GoldenCheck
from tests.graphs import GraphBuilder
from tests.unit.passes.transform import apply_pass, assert_same_function, before_and_after, kinds

BEFORE = """
graph "layout"
in %x: f32[1,5,3]
const %last: i64[] = [-1]
%t: f32[5,1,3] = Transpose {"perm": [1, 0, 2]} (%x) # "t" ""
%r: f32[5,3] = Reshape {"shape": [5, 3]} (%t) # "r" ""
%s: f32[5,3] = Slice {"axis": 1, "count": 3, "start": 0, "step": 1} (%r) # "s" ""
%g: f32[3] = Gather {"axis": 0} (%s, %last) # "g" ""
%c: f32[3] = Concat {"axis": 0} (%g) # "c" ""
%b: f32[1,3] = Broadcast {"shape": [1, 3]} (%c) # "b" ""
out "y" = %b
"""


def simplified(graph: Graph) -> list[str]:
    """The operators after the pass, which computes the same."""
    after = apply_pass(simplify_layout, graph)
    assert_same_function(graph, after)
    return kinds(after)


def ready(b: GraphBuilder, x: Value) -> Graph:
    """The graph of a value, with something behind it that stays."""
    return b.graph(y=b.node(Unary(TANH), x)[0])


def test_a_chain_of_movement_shrinks(golden: GoldenCheck) -> None:
    """The text before and after."""
    golden("simplify_layout", before_and_after(simplify_layout, BEFORE))


def test_axes_of_extent_one_move_for_free() -> None:
    """Elements keep their order: a reshape."""
    b = GraphBuilder()
    (y,) = b.node(Transpose((2, 0, 3, 1)), b.input("x", 4, 1, 1, 3))
    assert simplified(ready(b, y)) == ["Reshape", "Unary"]


def test_a_transpose_that_moves_elements_stays() -> None:
    """Its order of elements is another one."""
    b = GraphBuilder()
    (y,) = b.node(Transpose((1, 0)), b.input("x", 4, 3))
    assert simplified(ready(b, y)) == ["Transpose", "Unary"]


def test_square_transposes_are_no_identity() -> None:
    """The type is the same, the elements are not."""
    b = GraphBuilder()
    (y,) = b.node(Transpose((1, 0)), b.input("x", 3, 3))
    assert simplified(ready(b, y)) == ["Transpose", "Unary"]


def test_a_transpose_and_its_inverse_vanish() -> None:
    """Two in a row are one, and that one is nothing."""
    b = GraphBuilder()
    (t,) = b.node(Transpose((2, 0, 1)), b.input("x", 2, 3, 4))
    (y,) = b.node(Transpose((1, 2, 0)), t)
    assert simplified(ready(b, y)) == ["Unary"]


def test_two_transposes_become_one() -> None:
    """Permutations are composed in the right order."""
    b = GraphBuilder()
    (t,) = b.node(Transpose((2, 0, 1)), b.input("x", 2, 3, 4))
    (y,) = b.node(Transpose((0, 2, 1)), t)
    assert simplified(ready(b, y)) == ["Transpose", "Unary"]


def test_a_transpose_that_is_read_elsewhere_stays_for_that_reader() -> None:
    """The other path is shortened all the same."""
    b = GraphBuilder()
    (t,) = b.node(Transpose((1, 0)), b.input("x", 2, 3))
    (back,) = b.node(Transpose((1, 0)), t)
    graph = b.graph(t=t, y=b.node(Unary(TANH), back)[0])
    assert simplified(graph) == ["Transpose", "Unary"]


def test_constants_are_moved_at_compile_time() -> None:
    """Transposed and reshaped data is a new constant; the old one goes."""
    b = GraphBuilder()
    (t,) = b.node(Transpose((1, 0)), b.random(2, 3))
    (r,) = b.node(Reshape((6,)), t)
    graph = ready(b, r)
    assert simplified(graph) == ["Unary"]
    assert len(apply_pass(simplify_layout, graph).constants) == 1


def test_reshapes_in_a_row_are_one() -> None:
    """Only the last shape counts."""
    b = GraphBuilder()
    (r,) = b.node(Reshape((3, 2)), b.input("x", 2, 3))
    (r,) = b.node(Reshape((6,)), r)
    (r,) = b.node(Reshape((1, 6)), r)
    assert simplified(ready(b, r)) == ["Reshape", "Unary"]


def test_reshapes_that_cancel_out_vanish() -> None:
    """There and back."""
    b = GraphBuilder()
    (r,) = b.node(Reshape((3, 2)), b.input("x", 2, 3))
    (r,) = b.node(Reshape((2, 3)), r)
    assert simplified(ready(b, r)) == ["Unary"]


@pytest.mark.parametrize("index", [-1, -4, 0, 3])
def test_one_gathered_element_is_a_slice(index: int) -> None:
    """Negative indices count from the end."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.input("x", 4, 3), b.constant(np.array(index)))
    assert simplified(ready(b, y)) == ["Slice", "Reshape", "Unary"]


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_indices_with_axes_keep_them(shape: tuple[int, ...]) -> None:
    """One index in a list leaves an axis of extent 1."""
    b = GraphBuilder()
    (y,) = b.node(Gather(1), b.input("x", 2, 4), b.constant(np.full(shape, -2)))
    assert y.type.shape == (2, *shape)
    assert simplified(ready(b, y))[0] == "Slice"


def test_gathering_the_only_element_is_a_reshape() -> None:
    """There is nothing to choose."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.input("x", 1, 4), b.constant(np.array(-1)))
    assert simplified(ready(b, y)) == ["Reshape", "Unary"]


@pytest.mark.parametrize(("extent", "index"), [(4, 4), (4, -5), (1, 1), (1, 7)])
def test_an_index_out_of_range_is_left_to_fail(extent: int, index: int) -> None:
    """It must not become another element."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.input("x", extent, 3), b.constant(np.array(index)))
    assert kinds(apply_pass(simplify_layout, ready(b, y))) == ["Gather", "Unary"]


def test_a_gathered_constant_computes_the_same() -> None:
    """A negative index into constant data."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.random(4, 3), b.constant(np.array([-1])))
    assert simplified(ready(b, y))[-1] == "Unary"


def test_several_gathered_elements_stay_a_gather() -> None:
    """In any order."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.input("x", 4, 3), b.constant(np.array([2, 0])))
    assert simplified(ready(b, y)) == ["Gather", "Unary"]


def test_indices_from_an_input_stay_a_gather() -> None:
    """They are not known."""
    b = GraphBuilder()
    x, at = b.input("x", 4, 3), b.input("at", 1, dtype=np.int64)
    (y,) = b.node(Gather(0), x, at)
    assert kinds(apply_pass(simplify_layout, ready(b, y))) == ["Gather", "Unary"]


def test_a_slice_of_everything_vanishes() -> None:
    """In order."""
    b = GraphBuilder()
    (y,) = b.node(Slice(0, 0, 1, 4), b.input("x", 4, 3))
    assert simplified(ready(b, y)) == ["Unary"]


def test_a_reversing_slice_stays() -> None:
    """It has the type of its input and is no identity."""
    b = GraphBuilder()
    (y,) = b.node(Slice(0, 3, -1, 4), b.input("x", 4, 3))
    assert simplified(ready(b, y)) == ["Slice", "Unary"]


def test_a_reversing_slice_of_one_element_vanishes() -> None:
    """One element has no order."""
    b = GraphBuilder()
    (y,) = b.node(Slice(0, 0, -1, 1), b.input("x", 1, 3))
    assert simplified(ready(b, y)) == ["Unary"]


def test_a_broadcast_that_repeats_stays() -> None:
    """It makes more elements."""
    b = GraphBuilder()
    (y,) = b.node(Broadcast((2, 3)), b.input("x", 1, 3))
    assert simplified(ready(b, y)) == ["Broadcast", "Unary"]


def test_a_broadcast_to_its_own_shape_vanishes() -> None:
    """It repeats nothing."""
    b = GraphBuilder()
    (y,) = b.node(Broadcast((2, 3)), b.input("x", 2, 3))
    assert simplified(ready(b, y)) == ["Unary"]


def test_a_concat_of_one_vanishes() -> None:
    """It joins nothing."""
    b = GraphBuilder()
    (y,) = b.node(Concat(1), b.input("x", 2, 3))
    assert simplified(ready(b, y)) == ["Unary"]


def test_an_output_may_come_to_show_an_input() -> None:
    """Where all between them vanishes."""
    b = GraphBuilder()
    x = b.input("x", 2, 3)
    (y,) = b.node(Transpose((0, 1)), x)
    graph = apply_pass(simplify_layout, b.graph(y=y))
    assert graph.outputs[0].value is x


def test_an_output_may_come_to_show_a_constant() -> None:
    """Folded data is shown as it is."""
    b = GraphBuilder()
    (y,) = b.node(Transpose((1, 0)), b.random(2, 3))
    graph = b.graph(y=y)
    assert simplified(graph) == []


def test_new_nodes_avoid_names_that_are_taken() -> None:
    """A model may have a node of the name that we would give."""
    b = GraphBuilder()
    (y,) = b.node(Gather(0), b.input("x", 4, 3), b.constant(np.array(2)), name="g")
    (z,) = b.node(Unary(TANH), y, name="g.slice")
    assert simplified(b.graph(z=z)) == ["Slice", "Reshape", "Unary"]
