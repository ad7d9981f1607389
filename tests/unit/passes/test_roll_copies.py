"""Recurrences that an exporter unrolled become one Scan, or a recurrent operator, again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.onnx_import import import_graph, read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.passes.recognize_cells import recognize_cells
from edgelstm_compiler.passes.roll_copies import roll_copies
from tests.oracle import assert_close
from tests.unit.onnx_import.loop_models import WEIGHTS, B, I, T, model, n, seeded
from tests.unit.onnx_import.one_node import kinds, normal

Array = NDArray[Any]
H = 4


def unrolled(
    *, last_only: bool, reverse: bool = False, hoisted: bool = False, skip: int | None = None
) -> onnx.ModelProto:
    """Copies of a leaky cell over X (T, B, I), frame by frame, the first from zeros.

    Args:
        last_only: the last state alone goes into a head; else all of them are joined.
        reverse: from the last frame to the first.
        hoisted: all products with frames stand in front.
        skip: a copy that does something else.
    """
    nodes = [n("Split", "X", " ".join(f"f{t}" for t in range(T)), axis=0)]
    order = range(T - 1, -1, -1) if reverse else range(T)
    products = []
    for t in range(T):
        products.append(n("Squeeze", f"f{t} zero", f"x{t}"))
        products.append(n("MatMul", f"x{t} W", f"xw{t}"))
    if hoisted:
        nodes += products
    before = ""
    for t in order:
        if not hoisted:
            nodes += products[2 * t : 2 * t + 2]
        nodes.append(n("Add", f"xw{t} b", f"p{t}"))
        total = f"p{t}"
        if before:
            nodes.append(n("MatMul", f"{before} R", f"r{t}"))
            nodes.append(n("Add", f"p{t} r{t}", f"s{t}"))
            total = f"s{t}"
        nodes.append(n("Sigmoid" if t == skip else "Tanh", total, f"u{t}"))
        if before:
            nodes.append(n("Sum", f"u{t} {before} {before}", f"v{t}"))
        nodes.append(n("Mul", f"{f'v{t}' if before else f'u{t}'} third", f"h{t}"))
        nodes.append(n("Unsqueeze", f"h{t} zero", f"y{t}"))
        before = f"h{t}"
    if last_only:
        nodes.append(n("MatMul", f"{before} C", "Y"))
    else:
        nodes.append(n("Concat", " ".join(f"y{t}" for t in range(T)), "Y", axis=0))
    stored = {"zero": np.array([0]), "C": seeded(H, 2)}
    return model(nodes, ["Y"], stored=stored)


def rolled(made: onnx.ModelProto) -> Graph:
    """The graph after the passes, which computes what it did."""
    before = import_graph(read_model(made), {})
    context = PassContext()
    after = recognize_cells(roll_copies(before, context), context)
    verify(after)
    x = {"X": normal(T, B, I)}
    expected = evaluate(before, x, dtype=DType.F64).outputs
    assert_close(evaluate(after, x, dtype=DType.F64).outputs, expected)
    return after


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("hoisted", [False, True])
def test_copies_become_one_scan(last_only: bool, reverse: bool, hoisted: bool) -> None:
    """The folded first copy and the one in front of the head included."""
    graph = rolled(unrolled(last_only=last_only, reverse=reverse, hoisted=hoisted))
    assert kinds(graph).count("Scan") == 1
    assert "Unary" not in kinds(graph)


def test_another_copy_leaves_the_graph_alone() -> None:
    """Where one frame is treated differently, everything stays as it is."""
    made = unrolled(last_only=False, skip=3)
    assert kinds(rolled(made)).count("Unary") == T


def lstm_cells(weights: dict[str, Any]) -> onnx.ModelProto:
    """LSTM cells as a loop over nn.LSTMCell is exported."""
    nodes = []
    h, c = "h_0", "c_0"
    for t in range(T):
        nodes += [
            n("Gather", f"X i{t}", f"x{t}", axis=0),
            n("Gemm", f"x{t} w bw", f"a{t}", transB=1),
            n("Gemm", f"{h} r br", f"d{t}", transB=1),
            n("Add", f"a{t} d{t}", f"s{t}"),
            n("Split", f"s{t}", f"i_{t} f_{t} g_{t} o_{t}", axis=1),
            *(n("Sigmoid", f"{gate}_{t}", f"{gate}s{t}") for gate in "ifo"),
            n("Tanh", f"g_{t}", f"gs{t}"),
            n("Mul", f"fs{t} {c}", f"fc{t}"),
            n("Mul", f"is{t} gs{t}", f"ig{t}"),
            n("Add", f"fc{t} ig{t}", f"c{t}"),
            n("Tanh", f"c{t}", f"tc{t}"),
            n("Mul", f"os{t} tc{t}", f"h{t}"),
        ]
        h, c = f"h{t}", f"c{t}"
    nodes.append(n("MatMul", f"{h} C", "Y"))
    stored = {f"i{t}": np.asarray(t) for t in range(T)}
    return model(nodes, ["Y"], stored={**stored, **weights})


def test_cells_become_the_operator() -> None:
    """Unrolled LSTM cells are one LSTM; in a stream its states are carried."""
    weights = {
        "w": seeded(4 * H, I),
        "r": seeded(4 * H, H),
        "bw": seeded(4 * H),
        "br": seeded(4 * H) + 0.1,
        "c_0": np.zeros((B, H), np.float32),
        "C": seeded(H, 2),
    }
    made = lstm_cells(weights)
    assert kinds(rolled(made)).count("LSTM") == 1
    artifact = compile_model(made, target="reference", mode="stream")
    assert len(artifact.signature.states) == 2
    assert artifact.manifest["check"]["done"]


def test_layers_over_time_are_one_body() -> None:
    """A layer that is applied frame by frame carries nothing: one Scan, a stream without states."""
    nodes = []
    for t in range(T):
        nodes += [
            n("Gather", f"X i{t}", f"x{t}", axis=0),
            n("MatMul", f"x{t} W", f"m{t}"),
            n("Tanh", f"m{t}", f"t{t}"),
            n("Unsqueeze", f"t{t} zero", f"y{t}"),
        ]
    nodes.append(n("Concat", " ".join(f"y{t}" for t in range(T)), "Y", axis=0))
    stored = {f"i{t}": np.asarray(t) for t in range(T)} | {"zero": np.array([0])}
    assert kinds(rolled(model(nodes, ["Y"], stored=stored))) == ["Scan", "Reshape"]


def test_weights_are_used_by_their_numbers() -> None:
    """Copies that each have weights of their own are no recurrence."""
    made = unrolled(last_only=False)
    for node in made.graph.node:
        if node.op_type == "MatMul" and node.input[1] == "R" and node.output[0] == "r4":
            node.input[1] = "R4"
    tensor = onnx.numpy_helper.from_array(WEIGHTS["R"] + 1, "R4")
    made.graph.initializer.append(tensor)
    assert "Scan" not in kinds(rolled(made))
