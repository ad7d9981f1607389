"""The walk over a graph: scopes, sub-graphs, functions, outputs, names, and collected refusals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.onnx_import import import_graph, read_model
from tests.models import lstm_model, stacked_model
from tests.oracle import assert_close, random_inputs
from tests.unit.onnx_import.one_node import (
    check_model,
    graph_model,
    imported,
    ints,
    kinds,
    normal,
    with_output_types,
)

node = helper.make_node
X = {"x": normal(2, 3)}


def branch(nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    """A sub-graph with one output."""
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [result])


def weight(name: str, value: float) -> onnx.NodeProto:
    """A Constant node holding a scalar."""
    return node("Constant", [], [name], value_float=value)


def choice(condition: str, output: str, then: float, otherwise: float) -> onnx.NodeProto:
    """An If that multiplies the outer x with one of two weights of its branches."""
    branches = [
        branch([weight("w", value), node("Mul", ["x", "w"], ["r"])], "r")
        for value in (then, otherwise)
    ]
    return node(
        "If",
        [condition],
        [output],
        name=f"choice_of_{output}",
        then_branch=branches[0],
        else_branch=branches[1],
    )


@pytest.mark.parametrize("condition", [True, False])
def test_constant_if_picks_its_branch(condition: bool) -> None:
    """The other branch leaves no trace; branches read the graph around them."""
    model = graph_model([choice("c", "y", 2.0, 3.0)], X, ["y"], {"c": np.asarray(condition)})
    graph = check_model(model, X)
    assert kinds(graph) == ["Binary"]
    assert [float(c.data) for c in graph.constants] == [2.0 if condition else 3.0]


def test_nested_if_on_computed_constants() -> None:
    """Conditions may be computed from shapes; branches nest and read every level around them."""
    inner = branch(
        [
            weight("two", 2.0),
            choice("is_three", "m", 3.0, 4.0),
            node("Mul", ["m", "two"], ["doubled"]),
        ],
        "doubled",
    )
    other = branch([node("Sin", ["x"], ["r"])], "r")
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["width"]),
        node("Equal", ["width", "three"], ["is_three"]),
        node("Not", ["is_three"], ["is_not"]),
        node("If", ["is_not"], ["y"], then_branch=other, else_branch=inner),
    ]
    constants = {"one": np.asarray(1), "three": np.asarray(3)}
    graph = check_model(graph_model(nodes, X, ["y"], constants), X)
    assert kinds(graph) == ["Binary", "Binary"]


def test_names_of_both_branches_stay_unique() -> None:
    """Two Ifs with the same inner names give two different values."""
    nodes = [choice("c", "a", 2.0, 3.0), choice("d", "b", 2.0, 3.0), node("Add", ["a", "b"], ["y"])]
    model = graph_model(nodes, X, ["y"], {"c": np.asarray(True), "d": np.asarray(False)})
    graph = check_model(model, X)
    names = [value.name for item in graph.nodes for value in item.outputs]
    names += [constant.value.name for constant in graph.constants]
    assert len(set(names)) == len(names)
    assert len({item.name for item in graph.nodes}) == len(graph.nodes)


def test_if_on_an_input_is_refused_with_what_it_holds() -> None:
    """The condition and the operators inside that nobody supports are all named."""
    inside = branch([node("Det", ["x"], ["r"], name="inner")], "r")
    nodes = [node("If", ["c"], ["y"], name="if", then_branch=inside, else_branch=inside)]
    model = graph_model(nodes, {**X, "c": np.asarray(True)}, ["y"])
    with pytest.raises(UnsupportedOpError) as caught:
        imported(model)
    assert [row[:2] for row in caught.value.refusals] == [
        ("Det", "Det 'inner'"),
        ("If", "If 'if'"),
    ]
    assert "computed at run time" in str(caught.value)


def test_bound_inputs_become_constants() -> None:
    """A control input bound to a value decides an If."""
    nodes = [
        node("Equal", ["rate", "wanted"], ["c"]),
        choice("c", "y", 2.0, 3.0),
    ]
    given = {**X, "rate": np.asarray(16000)}
    read = read_model(graph_model(nodes, given, ["y"], {"wanted": np.asarray(16000)}))
    graph = import_graph(read, bound={"rate": np.asarray(16000)})
    assert [value.name for value in graph.inputs] == ["x"]
    assert [float(c.data) for c in graph.constants] == [2.0]
    with pytest.raises(ShapeError, match="'rate' is bound to f32"):
        import_graph(read, bound={"rate": np.asarray(np.float32(1))})
    with pytest.raises(ShapeError, match="'speed' is bound; the inputs of the model are: x, rate"):
        import_graph(read, bound={"speed": np.asarray(1)})


def test_all_refusals_in_one_error() -> None:
    """Every refused node that an output needs: operator, name or place, reason."""
    nodes = [
        node("Det", ["x"], ["a"], name="first"),
        node("Tanh", ["a"], ["b"]),
        node("Fancy", ["b"], ["c"], name="special", domain="com.example"),
        node("Loop", ["n", "", "c"], ["d"], name="loop", body=loop_body()),
        node("Inverse", ["x"], ["e"], domain="com.example"),
        node("Add", ["d", "e"], ["y"]),
    ]
    model = graph_model(nodes, X, ["y"], {"n": np.asarray(3)}, domains={"com.example": 1})
    with pytest.raises(UnsupportedOpError) as caught:
        imported(model)
    text = str(caught.value)
    # The loop between them is none of those that stand in the way.
    assert text.splitlines()[0] == "3 nodes of the model cannot be compiled:"
    assert len(text.splitlines()) == 4
    assert "Det 'first': the operator is not supported" in text
    assert "com.example.Fancy 'special': operators of the domain 'com.example'" in text
    assert "com.example.Inverse #4" in text
    assert {row[0] for row in caught.value.refusals} == {
        "Det",
        "com.example.Fancy",
        "com.example.Inverse",
    }


def loop_body() -> onnx.GraphProto:
    """The body of a Loop with one carried value."""
    infos = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
    ]
    nodes = [node("Identity", ["go"], ["go_on"]), node("Tanh", ["v"], ["w"])]
    return helper.make_graph(nodes, "body", infos, outputs)


def test_dead_nodes_do_not_block() -> None:
    """A refused operator that no output needs is dropped, and so is one whose size alone counts."""
    nodes = [
        node("Tanh", ["x"], ["y"]),
        node("Det", ["x"], ["unused"]),
        node("Sigmoid", ["x"], ["unused_too"]),
    ]
    assert kinds(imported(graph_model(nodes, X, ["y"]))) == ["Unary"]


def test_nodes_that_folding_makes_useless_are_dropped() -> None:
    """A value of which only the shape is read is not computed."""
    nodes = [
        node("Tanh", ["x"], ["t"]),
        node("Shape", ["t"], ["s"]),
        node("Expand", ["one", "s"], ["y"]),
    ]
    graph = imported(graph_model(nodes, X, ["y"], {"one": normal(1)}))
    assert not graph.nodes
    assert graph.outputs[0].value is graph.constants[0].value


def test_shapes_behind_a_refused_node_are_not_blamed() -> None:
    """Operators on the shape of a refused value would have been folded: they are not listed."""
    nodes = [
        node("Det", ["x"], ["d"], name="cause"),
        node("Shape", ["d"], ["s"]),
        node("ReduceProd", ["s"], ["p"], keepdims=1),
        node("Equal", ["p", "six"], ["c"]),
        choice("c", "r", 1.0, 2.0),
        node("Reshape", ["r", "p"], ["y"]),
    ]
    with pytest.raises(UnsupportedOpError) as caught:
        imported(graph_model(nodes, X, ["y"], {"six": ints(6)}))
    assert [row[1] for row in caught.value.refusals] == ["Det 'cause'"]


def test_a_loop_behind_shapes_is_not_blamed() -> None:
    """With the extent it would have been walked: only what stands before it is refused."""
    nodes = [
        node("Det", ["x"], ["d"], name="cause"),
        node("Size", ["d"], ["n"]),
        node("Loop", ["n", "", "start"], ["y"], name="loop", body=loop_body()),
    ]
    with pytest.raises(UnsupportedOpError) as caught:
        imported(graph_model(nodes, X, ["y"], {"start": normal(2)}))
    assert [row[1] for row in caught.value.refusals] == ["Det 'cause'"]


def test_local_functions_are_inlined() -> None:
    """Model-local functions, nested, with attributes."""
    scaled = helper.make_function(
        "my.domain",
        "ScaledTanh2",
        ["a"],
        ["b"],
        [node("LeakyRelu", ["a"], ["t"]), node("Tanh", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    outer = helper.make_function(
        "my.domain",
        "Twice",
        ["a"],
        ["b"],
        [
            node("ScaledTanh2", ["a"], ["t"], domain="my.domain"),
            node("ScaledTanh2", ["t"], ["b"], domain="my.domain"),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)],
    )
    model = graph_model(
        [node("Twice", ["x"], ["y"], domain="my.domain")], X, ["y"], domains={"my.domain": 1}
    )
    model.functions.extend([scaled, outer])
    assert kinds(check_model(model, X)) == ["Unary"] * 4


def test_one_value_under_several_names() -> None:
    """The same value as two outputs, an input as output, an initializer as output."""
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node("Identity", ["a"], ["b"]),
        node("Identity", ["x"], ["through"]),
    ]
    model = graph_model(nodes, X, ["a", "b", "through", "w"], {"w": normal(2)})
    graph = imported(model)
    found = evaluate(graph, X).outputs
    assert [output.name for output in graph.outputs] == ["a", "b", "through", "w"]
    assert graph.outputs[0].value is graph.outputs[1].value
    assert graph.outputs[2].value is graph.inputs[0]
    np.testing.assert_array_equal(found["w"], normal(2))


def test_input_as_output_under_its_own_name() -> None:
    """A graph may hand an input through."""
    graph = imported(graph_model([], X, ["x"]))
    assert graph.outputs[0].value is graph.inputs[0]


def test_initializers_listed_as_inputs_are_constants() -> None:
    """Before IR version 4 every initializer was an input as well."""
    model = graph_model([node("Mul", ["x", "w"], ["y"])], X, ["y"], {"w": normal(3)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    read = read_model(model)
    assert [item.name for item in read.inputs] == ["x"]
    assert len(import_graph(read).constants) == 1


def test_one_initializer_is_one_constant() -> None:
    """Shared weights stay shared."""
    nodes = [node("Mul", ["x", "w"], ["a"]), node("Add", ["a", "w"], ["y"])]
    graph = check_model(graph_model(nodes, X, ["y"], {"w": normal(3)}), X)
    assert len(graph.constants) == 1


def test_names_are_those_of_the_model() -> None:
    """Values keep their ONNX names; nodes without a name are numbered."""
    model = graph_model([node("Tanh", ["x"], ["inner"]), node("Abs", ["inner"], ["y"])], X, ["y"])
    graph = imported(model)
    assert [item.outputs[0].name for item in graph.nodes] == ["inner", "y"]
    assert [item.name for item in graph.nodes] == ["Tanh_0", "Abs_1"]
    assert [item.origin for item in graph.nodes] == ["Tanh #0", "Abs #1"]


def test_nodes_of_one_name_become_unique() -> None:
    """ONNX does not demand unique node names."""
    nodes = [
        node("Tanh", ["x"], ["a"], name="same"),
        node("Abs", ["a"], ["y"], name="same"),
    ]
    names = [item.name for item in imported(graph_model(nodes, X, ["y"])).nodes]
    assert len(set(names)) == 2


def test_unsorted_nodes_are_sorted() -> None:
    """ONNX demands an order; many tools do not keep it, and ONNX Runtime does not mind."""
    model = stacked_model(head="last_step")
    inputs = random_inputs(model)
    expected = evaluate(imported(model), inputs).outputs
    reverse = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(reverse)
    assert_close(evaluate(imported(model), inputs).outputs, expected)


def test_constants_are_read_only() -> None:
    """Nobody changes weights by accident."""
    assert all(not constant.data.flags.writeable for constant in imported(lstm_model()).constants)


def test_the_callers_model_is_left_alone() -> None:
    """Reading copies: the given proto keeps its bytes."""
    model = stacked_model()
    before = model.SerializeToString(deterministic=True)
    imported(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("head", ["sequence", "last_step", "final_state", None])
@pytest.mark.parametrize("ops", [("LSTM", "LSTM"), ("GRU", "RNN")])
def test_stacks(head: str | None, ops: tuple[str, str]) -> None:
    """Whole networks compute what ONNX Runtime computes."""
    model = stacked_model(head=head, ops=ops)  # type: ignore[arg-type]
    check_model(model, random_inputs(model))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_weights_name_tensor_and_place(value: float) -> None:
    """A diverged training is told apart from a bug."""
    model = lstm_model()
    weights = onnx.numpy_helper.to_array(model.graph.initializer[1]).copy()
    weights[0, 2, 1] = value
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(weights, "R"))
    with pytest.raises(ModelError, match=rf"LSTM 'lstm_1'.*'R' holds {value} at \[0, 2, 1\]"):
        imported(model)


def test_non_finite_constants_that_vanish_are_no_matter() -> None:
    """A mask value that folding removes does not block."""
    nodes = [
        node("Where", ["c", "w", "minus"], ["masked"]),
        node("Mul", ["x", "masked"], ["y"]),
    ]
    constants = {
        "c": np.asarray(True),
        "w": normal(3),
        "minus": np.asarray(np.float32(-np.inf)),
    }
    assert kinds(imported(graph_model(nodes, X, ["y"], constants))) == ["Binary"]


def test_integer_paths_run_at_run_time() -> None:
    """Indices may be computed: cast, arithmetic, embedding."""
    nodes = [
        node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        node("Add", ["index", "one"], ["next"]),
        node("Gather", ["table", "next"], ["y"]),
    ]
    x = {"x": np.array([[0, 1, 4]], np.uint8)}
    constants = {"one": ints(1), "table": normal(6, 4)}
    model = with_output_types(graph_model(nodes, x, ["y"], constants))
    graph = check_model(model, x)
    assert kinds(graph) == ["Cast", "Binary", "Gather"]
    assert graph.inputs[0].type.dtype is DType.U8


def test_foreign_operator_by_its_full_name() -> None:
    """Contributed operators of ONNX Runtime are refused with their domain."""
    nodes = [node("DynamicQuantizeLSTM", ["x"], ["y"], name="q", domain="com.microsoft")]
    with pytest.raises(UnsupportedOpError, match=r"com\.microsoft\.DynamicQuantizeLSTM 'q'"):
        imported(graph_model(nodes, X, ["y"], domains={"com.microsoft": 1}))


def test_the_advice_about_loops_is_for_both_frameworks() -> None:
    """And never sends a Keras user to the torch backend, which unrolls every layer."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Tanh", ["h"], ["h2"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("c", TensorProto.BOOL, []),
            info("h", TensorProto.FLOAT, [1, 3]),
        ],
        [info("c2", TensorProto.BOOL, []), info("h2", TensorProto.FLOAT, [1, 3])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "X"], ["Y"], body=body)],
        "loop",
        [info("X", TensorProto.FLOAT, [1, 3]), info("n", TensorProto.INT64, [])],
        [info("Y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedOpError, match=r"nn\.LSTM.*Keras: Masking") as caught:
        import_graph(read_model(model))
    assert "torch backend" not in str(caught.value)
