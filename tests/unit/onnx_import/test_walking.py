"""Loop and Scan with any body become one Scan of ours: in every form, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgelstm_compiler.driver import compile_model
from tests.unit.onnx_import.loop_models import (
    FLOAT,
    LOOPS,
    B,
    H,
    I,
    T,
    counted_loop,
    info,
    leaky,
    model,
    n,
    scan,
    uneven_loop,
)
from tests.unit.onnx_import.one_node import check_model, kinds, normal

Array = NDArray[Any]


def inputs(made: onnx.ModelProto) -> dict[str, Array]:
    """Random frames."""
    shape = [dim.dim_value or T for dim in made.graph.input[0].type.tensor_type.shape.dim]
    return {"X": normal(*shape, seed=1)}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name: str) -> None:
    """One Scan, and no copies of the body."""
    made = LOOPS[name]()
    found = kinds(check_model(made, inputs(made)))
    assert found.count("Scan") == 1
    assert "Unary" not in found


def test_scan() -> None:
    """The plain one."""
    found = kinds(check_model(model([scan()]), {"X": normal(T, B, I)}))
    assert found == ["Scan"]


@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("direction", [0, 1])
def test_scan_axes_and_directions(out_axis: int, direction: int) -> None:
    """Time along another axis, from its end, and results along another axis, the last one first."""
    node = scan(
        scan_input_axes=[1],
        scan_input_directions=[direction],
        scan_output_axes=[out_axis],
        scan_output_directions=[1 - direction],
    )
    made = model([node], shape=[B, T, I])
    assert "Scan" in kinds(check_model(made, inputs(made)))


def test_scan_with_several_sequences() -> None:
    """Two sequences, two states, three results, and a value of the graph around it."""
    body = helper.make_graph(
        [
            n("Sum", "x z outer", "sum"),
            *leaky(x="sum"),
            n("Max", "m h_new", "m_new"),
            n("Identity", "h_new", "y"),
            n("Identity", "m_new", "p"),
            n("ReduceMean", "x", "q", axes=[1], keepdims=0),
        ],
        "body",
        [info(k, FLOAT, [B, H if k in "hm" else I]) for k in ("h", "m", "x", "z")],
        [info(k, FLOAT, None) for k in ("h_new", "m_new", "y", "p", "q")],
    )
    nodes = [
        n("Neg", "X", "Z"),
        n("ReduceMean", "X", "outer", axes=[0], keepdims=0),
        n("Scan", "h_0 h_0 X Z", "h_T m_T Y P Q", body=body, num_scan_inputs=2),
    ]
    made = model(nodes, ["Y", "P", "Q", "h_T", "m_T"])
    assert kinds(check_model(made, inputs(made))).count("Scan") == 1


def test_scan_of_opset_8() -> None:
    """A batch axis in front; absent lengths."""
    body = helper.make_graph(
        [n("Add", "s x", "s_new"), n("Identity", "s_new", "y")],
        "body",
        [info("s", FLOAT, [I]), info("x", FLOAT, [I])],
        [info("s_new", FLOAT, [I]), info("y", FLOAT, [I])],
    )
    nodes = [n("Scan", "_ s_0 X", "h_T Y", body=body, num_scan_inputs=1, directions=[1])]
    stored = {"s_0": normal(B, I)}
    made = model(nodes, stored=stored, shape=[B, T, I], opset=8)
    assert kinds(check_model(made, inputs(made))).count("Scan") == B


def test_nested_loops() -> None:
    """A Scan inside a Scan is an operator of its body."""
    inner = helper.make_graph(
        [n("Add", "k e", "k_new"), n("Identity", "k_new", "r")],
        "inner",
        [info("k", FLOAT, [B]), info("e", FLOAT, [B])],
        [info("k_new", FLOAT, [B]), info("r", FLOAT, [B])],
    )
    body = [
        n("ReduceMax", "h", "k_0", axes=[1], keepdims=0),
        n("Scan", "k_0 x", "k_T x_sum", body=inner, num_scan_inputs=1, scan_input_axes=[1]),
        n("Transpose", "x_sum", "x_bf", perm=[1, 0]),
        *leaky(x="x_bf"),
    ]
    made = model([scan(body)])
    assert kinds(check_model(made, inputs(made))) == ["Scan"]


def test_uneven_turns_are_laid_out() -> None:
    """Where the turns differ in more than their frames, the bodies stand one after another."""
    made = uneven_loop()
    found = kinds(check_model(made, inputs(made)))
    assert "Scan" not in found
    assert found.count("Unary") == T


def test_short_loops() -> None:
    """One, two and three turns."""
    for frames in (1, 2, 3):
        made = model([scan()], frames=frames)
        check_model(made, {"X": normal(frames, B, I)})


def test_long_loops() -> None:
    """Many turns take one body: nothing is laid out."""
    made = model([scan()], frames=3000)
    assert kinds(check_model(made, {"X": normal(3000, B, I)})) == ["Scan"]


@pytest.mark.parametrize("frames", [T, "T"])
@pytest.mark.parametrize("form", ["scan", "loop"])
def test_in_a_stream_the_body_is_the_step(form: str, frames: int | str) -> None:
    """Carried values are states, whether the number of frames is fixed or free."""
    made = counted_loop(frames) if form == "loop" else model([scan()], frames=frames)
    artifact = compile_model(made, target="reference", mode="stream")
    assert artifact.manifest["check"]["done"]
    assert [spec.shape for spec in artifact.signature.states] == [(B, H)]
    assert [spec.shape for spec in artifact.signature.inputs] == [(B, I)]
    assert not any(layer["kind"] == "Scan" for layer in artifact.manifest["layers"])


@pytest.mark.tvm
@pytest.mark.parametrize("name", LOOPS)
def test_compiled_loops(name: str) -> None:
    """Native code runs the body once a frame; the self-check compares it with ONNX Runtime."""
    artifact = compile_model(LOOPS[name](), mode="call")
    assert artifact.manifest["check"]["done"]
    assert "Scan" in [layer["kind"] for layer in artifact.manifest["layers"]]
