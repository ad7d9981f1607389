"""fuse_dense: what becomes one Dense, and what must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Dense, MatMul, Unary
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.passes.fuse_dense import fuse_dense
from tests.conftest import GoldenCheck
from tests.graphs import GraphBuilder
from tests.unit.passes.transform import apply_pass, assert_same_function, before_and_after, kinds

BEFORE = """
graph "dense"
in %x: f32[2,3]
const %w: f32[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
const %b: f32[2] = [0.5, -0.5]
%m: f32[2,2] = MatMul {} (%x, %w) # "m" "MatMul 'm'"
%a: f32[2,2] = Binary {"arithmetic": "add"} (%b, %m) # "a" "Add 'a'"
%y: f32[2,2] = Unary {"activation": {"alpha": 0.0, "beta": 0.0, "fn": "tanh"}} (%a) # "t" "Tanh"
out "y" = %y
"""


def product(b: GraphBuilder, *shape: int, units: int = 4) -> Value:
    """X @ constant."""
    x = b.input("x", *shape)
    return b.node(MatMul(), x, b.random(shape[-1], units))[0]


def add(b: GraphBuilder, x: Value, data: np.ndarray) -> Value:
    """A constant added."""
    return b.node(Binary(Arithmetic.ADD), x, b.constant(data.astype(x.type.dtype.numpy)))[0]


def fused(graph: Graph) -> list[str]:
    """The operators after the pass, which computes the same."""
    after = apply_pass(fuse_dense, graph)
    assert_same_function(graph, after)
    return kinds(after)


def test_product_bias_and_function_become_one_dense(golden: GoldenCheck) -> None:
    """The text before and after; the origin names all three."""
    golden("fuse_dense", before_and_after(fuse_dense, BEFORE))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3), (1, 1, 1, 3)])
def test_operands_of_any_rank_are_fused(shape: tuple[int, ...]) -> None:
    """The last axis is the one that is contracted."""
    b = GraphBuilder()
    y = add(b, product(b, *shape), np.arange(4))
    assert fused(b.graph(y=y)) == ["Dense"]


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (1, 1)])
def test_a_bias_that_is_the_same_for_all_rows_is_fused(shape: tuple[int, ...]) -> None:
    """Scalars and leading ones included."""
    b = GraphBuilder()
    y = add(b, product(b, 2, 3), np.arange(1, 1 + int(np.prod(shape))).reshape(shape))
    assert fused(b.graph(y=y)) == ["Dense"]


@pytest.mark.parametrize("shape", [(4, 1), (4, 4), (2, 4, 4), (1, 1, 4), (1, 1, 1)])
def test_a_bias_that_differs_by_row_or_grows_the_result_stays(shape: tuple[int, ...]) -> None:
    """A column of as many elements as there are units is no bias of units."""
    b = GraphBuilder()
    y = add(b, product(b, 4, 3), np.arange(int(np.prod(shape))).reshape(shape))
    assert fused(b.graph(y=y)) == ["Dense", "Binary"]


def test_one_unit_takes_a_bias_of_one_element_only() -> None:
    """A bias vector broadcasts the single unit: another shape, no fusion."""
    b = GraphBuilder()
    y = add(b, product(b, 2, 3, units=1), np.arange(4))
    assert fused(b.graph(y=y)) == ["Dense", "Binary"]


def test_two_biases_are_added_up() -> None:
    """At compile time."""
    b = GraphBuilder()
    y = add(b, add(b, product(b, 2, 3), np.arange(4)), np.full((1,), 2.0))
    graph = apply_pass(fuse_dense, b.graph(y=y))
    assert kinds(graph) == ["Dense"]
    np.testing.assert_array_equal(graph.constants[-1].data, [2, 3, 4, 5])


def test_a_product_that_is_read_twice_keeps_its_own_dense() -> None:
    """Fusing would compute it twice."""
    b = GraphBuilder()
    m = product(b, 2, 3)
    y = add(b, m, np.arange(4))
    (z,) = b.node(Binary(Arithmetic.MUL), m, y)
    assert fused(b.graph(z=z)) == ["Dense", "Binary", "Binary"]


def test_a_product_added_to_itself_is_not_fused() -> None:
    """Neither operand is constant."""
    b = GraphBuilder()
    m = product(b, 2, 3)
    (y,) = b.node(Binary(Arithmetic.ADD), m, m)
    assert fused(b.graph(y=y)) == ["Dense", "Binary"]


def test_an_intermediate_that_is_shown_stays() -> None:
    """The logits are an output beside the probabilities."""
    b = GraphBuilder()
    m = product(b, 2, 3)
    (y,) = b.node(Unary(Activation(Fn.SIGMOID)), m)
    assert fused(b.graph(y=y, logits=m)) == ["Dense", "Unary"]


def test_constant_weights_on_the_left_are_no_dense() -> None:
    """The weights mix rows there."""
    b = GraphBuilder()
    (y,) = b.node(MatMul(), b.random(4, 3), b.input("x", 3, 2))
    assert fused(b.graph(y=y)) == ["MatMul"]


@pytest.mark.parametrize("shape", [(3,), (5, 3, 4)])
def test_weights_that_are_no_matrix_are_no_dense(shape: tuple[int, ...]) -> None:
    """A vector gives no unit axis, a stack of matrices differs by batch."""
    b = GraphBuilder()
    (y,) = b.node(MatMul(), b.input("x", 5, 2, 3), b.random(*shape))
    assert fused(b.graph(y=y)) == ["MatMul"]


def test_weights_from_an_input_are_no_dense() -> None:
    """They are not known."""
    b = GraphBuilder()
    (y,) = b.node(MatMul(), b.input("x", 2, 3), b.input("w", 3, 4))
    assert fused(b.graph(y=y)) == ["MatMul"]


def test_a_subtraction_is_not_a_bias() -> None:
    """Only addition is."""
    b = GraphBuilder()
    m = product(b, 2, 3)
    (y,) = b.node(Binary(Arithmetic.SUB), b.random(4), m)
    assert fused(b.graph(y=y)) == ["Dense", "Binary"]


def test_a_bias_behind_the_function_stays() -> None:
    """tanh(x @ w) + b is no Dense."""
    b = GraphBuilder()
    (t,) = b.node(Unary(Activation(Fn.TANH)), product(b, 2, 3))
    assert fused(b.graph(y=add(b, t, np.arange(4)))) == ["Dense", "Binary"]


def test_a_second_function_stays() -> None:
    """A Dense has one."""
    b = GraphBuilder()
    (t,) = b.node(Unary(Activation(Fn.TANH)), product(b, 2, 3))
    (y,) = b.node(Unary(Activation(Fn.RELU)), t)
    assert fused(b.graph(y=y)) == ["Dense", "Unary"]


def test_a_computed_bias_of_a_dense_is_left_alone() -> None:
    """Nothing can be added to it at compile time."""
    b = GraphBuilder()
    (m,) = b.node(Dense(None), b.input("x", 2, 3), b.random(3, 4), b.input("bias", 4))
    assert fused(b.graph(y=add(b, m, np.arange(4)))) == ["Dense", "Binary"]


def test_integers_are_not_fused() -> None:
    """Dense is a kernel on packed float weights; a product of integers stays a product."""
    b = GraphBuilder()
    x = b.input("x", 2, 3, dtype=np.int64)
    (m,) = b.node(MatMul(), x, b.constant(np.arange(12).reshape(3, 4)))
    graph = apply_pass(fuse_dense, b.graph(y=add(b, m, np.full((), 7))))
    assert kinds(graph) == ["MatMul", "Binary"]


def test_a_dead_bias_goes() -> None:
    """The sum takes the place of both constants."""
    b = GraphBuilder()
    y = add(b, add(b, product(b, 2, 3), np.arange(4)), np.arange(4))
    assert len(apply_pass(fuse_dense, b.graph(y=y)).constants) == 2


@given(st.lists(st.integers(0, 8), max_size=8), st.sampled_from([(3,), (4, 3), (1, 4, 3)]))
def test_any_chain_computes_the_same(steps: list[int], shape: tuple[int, ...]) -> None:
    """Products, additions and functions in any order, some of them shown."""
    b = GraphBuilder()
    x = b.input("x", *shape)
    shown = []
    for step in steps:
        units = x.type.shape[-1]
        match step:
            case 0 | 1:
                (x,) = b.node(MatMul(), x, b.random(units, 1 + step * 3))
            case 2 | 3 | 4:
                column = (x.type.shape[-2], 1) if x.type.rank > 1 else (1, 1)
                bias = ((), (units,), column)[step - 2]
                pair = (x, b.random(*bias))
                (x,) = b.node(Binary(Arithmetic.ADD), *(pair if len(shown) % 2 else pair[::-1]))
            case 5:
                (x,) = b.node(Unary(Activation(Fn.AFFINE, 0.5, 1.0)), x)
            case 6:
                (x,) = b.node(Unary(Activation(Fn.TANH)), x)
            case 7:
                (x,) = b.node(Binary(Arithmetic.MUL), x, x)
            case _:
                shown.append(x)
    graph = b.graph(y=x, **{f"shown{index}": value for index, value in enumerate(shown)})
    assert_same_function(graph, apply_pass(fuse_dense, graph))
