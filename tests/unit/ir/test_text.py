"""The text form: what is printed is read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.fields import KINDS, make_op, op_fields
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.ir.ops import Reshape, Unary
from edgelstm_compiler.ir.text import graph_data, parse_graph, print_graph, same_structure
from edgelstm_compiler.ir.types import Constant, Op
from tests.graphs import GraphBuilder, random_graph
from tests.unit.ir.strategies import arrays, graphs, instances, operators


@given(operators())
def test_an_operator_comes_back_from_its_fields(op: Op) -> None:
    """Fields survive JSON, with infinities, enums, tuples and activations."""
    fields = json.loads(json.dumps(op_fields(op)))
    assert make_op(op.kind, fields) == op


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_operator_prints_and_parses_back(kind: type[Op]) -> None:
    """A line with the operator gives the operator."""

    @given(instances(kind))
    def check(op: Op) -> None:
        text = (
            f'graph "g"\nin %x: f32[1]\n%y: f32[1] = {kind.__name__} '
            f'{json.dumps(op_fields(op), sort_keys=True)} (%x) # "n" "o"\nout "y" = %y\n'
        )
        graph = parse_graph(text)
        assert graph.nodes[0].op == op
        assert print_graph(graph) == text

    check()


@given(graphs())
def test_a_graph_comes_back_from_its_text(graph: Graph | StepGraph) -> None:
    """Whatever the names, types and data: the text of what was read is the text."""
    text = print_graph(graph)
    again = parse_graph(text, graph_data(graph))
    assert type(again) is type(graph)
    assert print_graph(again) == text
    assert same_structure(graph, again)


@given(arrays())
def test_a_constant_comes_back_to_the_bit(data: np.ndarray) -> None:
    """Values in the text, or beside it, are those of the graph, -0.0 and infinity included."""
    graph = Graph("g", (), (), (), (Constant.of("c", data),))
    (constant,) = parse_graph(print_graph(graph), graph_data(graph)).constants
    assert constant.data.dtype == data.dtype
    assert constant.data.shape == data.shape
    np.testing.assert_array_equal(constant.data, data)
    if data.dtype.kind == "f":
        real = ~np.isnan(data)
        np.testing.assert_array_equal(np.signbit(constant.data)[real], np.signbit(data)[real])


@given(st.integers(0, 10**6), st.integers(0, 10))
def test_a_legal_graph_comes_back(seed: int, size: int) -> None:
    """The same for graphs that compute something."""
    graph = random_graph(seed, size)
    assert same_structure(parse_graph(print_graph(graph), graph_data(graph)), graph)


def test_constants_are_read_only_after_parsing() -> None:
    """As the law wants them."""
    graph = parse_graph('graph "g"\nconst %c: f32[2] = [1.0, 2.0]\n')
    assert not graph.constants[0].data.flags.writeable


def test_long_constants_stand_beside_the_text() -> None:
    """The text holds their digest; the data is handed over apart."""
    b = GraphBuilder()
    b.random(5, 5)
    b.random(4, 4)
    graph = b.graph()
    data = graph_data(graph)
    assert [array.shape for array in data.values()] == [(5, 5)]
    assert f"@{next(iter(data))}" in print_graph(graph)


def test_equal_bytes_of_different_shape_have_different_digests() -> None:
    """The digest covers the type, so that one cannot stand for the other."""
    b = GraphBuilder()
    zeros = np.zeros((4, 5), np.float32)
    b.constant(zeros)
    b.constant(zeros.reshape(5, 4))
    assert len(graph_data(b.graph())) == 2


def test_parameters_of_activations_keep_all_digits() -> None:
    """A float field is printed with as many digits as it takes."""
    op = Unary(Activation(Fn.AFFINE, 0.1 + 0.2, float("-inf")))
    assert make_op("Unary", json.loads(json.dumps(op_fields(op)))) == op


def test_blank_lines_are_skipped() -> None:
    """Texts are written by hand too."""
    assert print_graph(parse_graph('\n\ngraph "g"\n\n  \n')) == 'graph "g"\n'


def test_structure_differs_where_a_field_differs() -> None:
    """Equality is that of the printed form."""

    def graph(*shape: int) -> Graph:
        b = GraphBuilder()
        (y,) = b.node(Reshape(shape), b.input("x", 6))
        return b.graph(y=y)

    assert same_structure(graph(2, 3), graph(2, 3))
    assert not same_structure(graph(2, 3), graph(3, 2))
