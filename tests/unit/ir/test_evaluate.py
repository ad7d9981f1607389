"""Evaluation of graphs and step graphs: values, precisions, states, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import InternalError, InvalidGraphError, StreamError
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.fields import make_op
from edgelstm_compiler.ir.graph import Graph, Output, State, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import Arithmetic, Binary, Cast, Dense, Gather, Reshape, Unary
from edgelstm_compiler.ir.types import Constant, Node, Op, TensorType, Value
from tests.models import CellCase, cell_cases, cell_model, cell_weights
from tests.oracle import FP32, FP64, assert_close, is_tame, random_inputs, run_onnxruntime
from tests.unit.numpy_ops.specification import operator_fields, run_case

Array = NDArray[Any]
F32_ROW = TensorType(DType.F32, (1, 3))


def single(op: Op, *inputs: Value | None, name: str = "node") -> Node:
    """A node with values for all its outputs."""
    types = op.infer([None if value is None else value.type for value in inputs])
    outputs = tuple(Value(f"{name}_{place}", kind) for place, kind in enumerate(types))
    return Node(op, inputs, outputs, name, origin=f"Op '{name}'")


def graph_of(nodes: list[Node], inputs: list[Value], constants: list[Constant]) -> Graph:
    """A graph that shows the outputs of its last node."""
    shown = tuple(Output(value.name, value) for value in nodes[-1].outputs)
    return Graph("tiny", tuple(inputs), shown, tuple(nodes), tuple(constants))


def cell_graph(case: CellCase, given: Mapping[str, Array]) -> Graph:
    """One recurrent node (layout 0) whose outputs have the operator's names."""
    constants = [Constant.of(name, data) for name, data in cell_weights(case).items()]
    inputs = [Value(name, TensorType.of(data)) for name, data in given.items()]
    by_name = {value.name: value for value in inputs}
    by_name.update({constant.value.name: constant.value for constant in constants})
    names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    op = make_op(case.op, operator_fields(case))
    node = single(
        op, *(by_name.get(name) for name in names[: 8 if case.op == "LSTM" else 6]), name=case.op
    )
    results = dict(zip(("Y", "Y_h", "Y_c"), node.outputs, strict=False))
    shown = tuple(Output(name, results[name]) for name in case.connected)
    return Graph("cell", tuple(inputs), shown, (node,), tuple(constants))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=cell_cases(layouts=(0,)))
def test_cells_agree_with_onnx_runtime_in_both_precisions(case: CellCase) -> None:
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    assume(is_tame(run_case(case, {**cell_weights(case), **inputs})))
    graph = cell_graph(case, inputs)
    expected = run_onnxruntime(model, inputs)
    single_precision = evaluate(graph, inputs).outputs
    double_precision = evaluate(graph, inputs, dtype=DType.F64).outputs
    assert all(data.dtype == np.float64 for data in double_precision.values())
    assert_close(single_precision, expected)
    assert_close(double_precision, expected)


def step_graph() -> StepGraph:
    """Y = sigmoid(x + s), s' = y: the newest y is the state."""
    x, s = Value("x", F32_ROW), Value("s", F32_ROW)
    total = single(Binary(Arithmetic.ADD), x, s, name="sum")
    y = single(Unary(SIGMOID), *total.outputs, name="squash")
    (result,) = y.outputs
    state = State("carried", F32_ROW, np.full((1, 3), 0.5, np.float32), s, result)
    return StepGraph(
        "step",
        "stream",
        (StepInput(x, batch_axis=0),),
        (StepOutput("y", result), StepOutput("same", result), StepOutput("through", x)),
        (total, y),
        (),
        (state,),
    )


def test_states_start_at_their_initial_value_and_are_handed_on() -> None:
    graph, x = step_graph(), np.array([[0.1, -2.0, 3.0]], np.float32)
    first = evaluate(graph, {"x": x})
    expected = 1 / (1 + np.exp(-(x + np.float32(0.5))))
    assert_close(first.outputs, {"y": expected, "same": expected, "through": x})
    assert set(first.states) == {"carried"}
    second = evaluate(graph, {"x": x}, states=first.states)
    assert_close(second.outputs["y"], 1 / (1 + np.exp(-(x + expected))))


def test_states_of_a_float64_evaluation_stay_float64() -> None:
    graph, x = step_graph(), np.array([[0.1, -2.0, 3.0]], np.float32)
    states = None
    for _ in range(3):
        result = evaluate(graph, {"x": x}, dtype=DType.F64, states=states)
        states = result.states
        assert states["carried"].dtype == np.float64
    exact = x.astype(np.float64)
    s = np.full((1, 3), 0.5)
    for _ in range(3):
        s = 1 / (1 + np.exp(-(exact + s)))
    assert_close(result.outputs["y"], s, FP64)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_a_cell_stepped_frame_by_frame_equals_the_sequence(op: str) -> None:
    case = CellCase(op=op, steps=4, batch=2, hidden=5)
    inputs = random_inputs(cell_model(case))
    whole = evaluate(cell_graph(case, inputs), inputs, dtype=DType.F64).outputs
    frame = {"X": inputs["X"][:1]}
    state = np.zeros((1, 2, 5), np.float32)
    names = ("initial_h", "initial_c") if op == "LSTM" else ("initial_h",)
    chunk = cell_graph(case, {**frame, **dict.fromkeys(names, state)})
    carried = [
        State(name, TensorType.of(state), state, read, write)
        for name, read, write in zip(
            names, chunk.inputs[1:], chunk.nodes[0].outputs[1:], strict=True
        )
    ]
    step = StepGraph(
        "cell",
        "stream",
        (StepInput(chunk.inputs[0], 0, 1),),
        (StepOutput("Y", chunk.outputs[0].value, 0, 2),),
        chunk.nodes,
        chunk.constants,
        tuple(carried),
    )
    states: dict[str, Array] | None = None
    for t in range(4):
        result = evaluate(step, {"X": inputs["X"][t : t + 1]}, dtype=DType.F64, states=states)
        states = result.states
        assert_close(result.outputs["Y"][0], whole["Y"][t], FP64)


def test_intermediate_values_are_kept_on_request() -> None:
    graph, x = step_graph(), np.zeros((1, 3), np.float32)
    assert evaluate(graph, {"x": x}).values == {}
    values = evaluate(graph, {"x": x}, keep=True).values
    assert set(values) == {"x", "s", "sum_0", "squash_0"}
    assert_close(values["sum_0"], np.full((1, 3), 0.5, np.float32))


def test_casts_between_floats_do_nothing_in_float64() -> None:
    x = Value("x", F32_ROW)
    half = single(Cast(DType.F16), x, name="half")
    back = single(Cast(DType.F32), *half.outputs, name="back")
    whole = single(Cast(DType.I32), *back.outputs, name="whole")
    graph = graph_of([half, back, whole], [x], [])
    data = np.array([[1 / 3, -2.7, 100.01]], np.float32)
    kept = evaluate(graph, {"x": data}, keep=True).values
    assert kept["half_0"].dtype == np.float16
    assert_close(kept["back_0"], data.astype(np.float16).astype(np.float32), FP64)
    exact = evaluate(graph, {"x": data}, dtype=DType.F64, keep=True).values
    assert_close(exact["back_0"], data, FP64)
    assert exact["whole_0"].dtype == np.int32
    assert exact["whole_0"].tolist() == [[0, -2, 100]]


def test_float64_uses_the_constants_as_they_are() -> None:
    x = Value("x", F32_ROW)
    w = Constant.of("w", np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32))
    b = Constant.of("b", np.array([0.1, 0.2], np.float32))
    dense = single(Dense(TANH), x, w.value, b.value, name="dense")
    data = np.array([[1.0, 2.0, 3.0]], np.float32)
    graph = graph_of([dense], [x], [w, b])
    exact = np.tanh(data.astype(np.float64) @ w.data.astype(np.float64) + b.data.astype(np.float64))
    assert_close(evaluate(graph, {"x": data}, dtype=DType.F64).outputs["dense_0"], exact, FP64)
    assert_close(evaluate(graph, {"x": data}).outputs["dense_0"], exact, FP32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs missing: \['x'\]"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, r"not in the graph: \['z'\]"),
        ({"x": np.zeros((3, 1), np.float32)}, r"input 'x' is float32\[3, 1\], expected f32\[1,3\]"),
        ({"x": np.zeros((1, 3))}, r"input 'x' is float64\[1, 3\], expected f32\[1,3\]"),
        ({"x": np.zeros((1, 3), np.int32)}, r"input 'x' is int32"),
    ],
)
def test_inputs_that_do_not_fit_are_our_fault(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InternalError, match=message):
        evaluate(step_graph(), inputs)


def test_states_that_do_not_fit_are_our_fault() -> None:
    x = {"x": np.zeros((1, 3), np.float32)}
    with pytest.raises(InternalError, match=r"no state 'other' in 'step'"):
        evaluate(step_graph(), x, states={"other": np.zeros((1, 3), np.float32)})
    with pytest.raises(InternalError, match=r"state 'carried' is float32\[3\]"):
        evaluate(step_graph(), x, states={"carried": np.zeros(3, np.float32)})
    with pytest.raises(InternalError, match="i32 is not a floating point type"):
        evaluate(step_graph(), x, dtype=DType.I32)


def test_an_order_that_is_not_topological_is_named() -> None:
    x = Value("x", F32_ROW)
    first = single(Unary(TANH), x, name="first")
    second = single(Unary(TANH), *first.outputs, name="second")
    graph = graph_of([second, first], [x], [])
    with pytest.raises(InvalidGraphError, match=r"'second' \(from Op 'second'\) reads 'first_0'"):
        evaluate(graph, {"x": np.zeros((1, 3), np.float32)})


def test_results_that_contradict_their_declaration_are_named() -> None:
    x, wrong = Value("x", F32_ROW), Value("wrong", TensorType(DType.F32, (3,)))
    graph = graph_of([Node(Unary(TANH), (x,), (wrong,), "bad")], [x], [])
    data = {"x": np.zeros((1, 3), np.float32)}
    with pytest.raises(InvalidGraphError, match=r"'wrong' is float32\[1, 3\], declared f32\[3\]"):
        evaluate(graph, data)
    result = Value("y", TensorType(DType.F32, (5,)))
    graph = graph_of([Node(Reshape((5,)), (x,), (result,), "bad")], [x], [])
    with pytest.raises(InvalidGraphError, match=r"'bad'.*cannot reshape"):
        evaluate(graph, data)
    whole = Value("whole", TensorType(DType.I32, (1, 3)))
    graph = graph_of([Node(Unary(TANH), (x,), (whole,), "bad")], [x], [])
    with pytest.raises(InvalidGraphError, match=r"'whole' is float32.*declared i32"):
        evaluate(graph, data)
    graph = graph_of([Node(Unary(TANH), (x,), (result, wrong), "bad")], [x], [])
    with pytest.raises(InvalidGraphError, match="1 results for 2 outputs"):
        evaluate(graph, data)


def test_an_index_given_by_the_user_is_the_users_fault() -> None:
    x, at = Value("x", F32_ROW), Value("at", TensorType(DType.I64, ()))
    graph = graph_of([single(Gather(1), x, at, name="pick")], [x, at], [])
    with pytest.raises(StreamError, match="gather indices 7"):
        evaluate(graph, {"x": np.zeros((1, 3), np.float32), "at": np.array(7)})
