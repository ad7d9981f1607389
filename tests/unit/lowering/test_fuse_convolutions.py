"""Convolutions as one operator each, channels last from one to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import pytest
from onnx import helper

from edgelstm_compiler.driver import CompileOptions, bind, compile_model, to_step_graph
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from tests.oracle import assert_close, run_onnxruntime
from tests.unit.onnx_import.one_node import Array, graph_model, normal, one_node
from tests.written_convolutions import SQUARE, Layers

NETWORKS: Mapping[str, tuple[Layers, list[str]]] = {
    "square": (
        Layers((2, 3, 7, 9)).conv(3, 9, SQUARE).conv(9, 20, SQUARE, strides=[2, 1]),
        ["Pad", "Convolve", "Convolve", "Transpose"],
    ),
    "pooled": (
        Layers((1, 1, 12, 14)).conv(1, 16, SQUARE).pool().conv(16, 8, SQUARE),
        ["Pad", "Convolve", "WindowReduce", "Pad", "Convolve", "Transpose"],
    ),
    "separable": (
        Layers((1, 8, 7, 9)).conv(8, 16, (1, 1)).conv(16, 16, SQUARE, 16).conv(16, 12, (1, 1)),
        ["Convolve", "WindowReduce", "Convolve", "Transpose"],
    ),
    "grouped": (
        Layers((1, 8, 6, 9)).conv(8, 48, SQUARE, 4, dilations=[1, 2]).conv(48, 16, (3, 1), 2),
        ["Pad", "Convolve", "Convolve", "Transpose"],
    ),
    "one axis": (
        Layers((2, 5, 21)).conv(5, 9, (5,)).conv(9, 16, (3,), strides=[2]),
        ["Pad", "Convolve", "Convolve", "Transpose"],
    ),
}


def program_of(model: onnx.ModelProto, columns: int = 64) -> Program:
    """The program of a call."""
    options = CompileOptions(mode="call")
    graph = to_step_graph(bind(read_model(model), options), options, PassContext())
    return lower(graph, 16, columns=columns)


def kinds(program: Program) -> list[str]:
    """The operators of a program."""
    return [getattr(call.kernel, "op", call.kernel).kind for call in program.calls]


def check_program(model: onnx.ModelProto, given: dict[str, Array]) -> Program:
    """The program in NumPy, beside ONNX Runtime."""
    program = program_of(model)
    assert_close(ProgramRunner(program).step(given), run_onnxruntime(model, given))
    return program


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    """Nothing stands between convolutions but what pads or pools; the numbers are the same."""
    layers, expected = NETWORKS[name]
    program = check_program(layers.model(), {"X": normal(*layers.shape)})
    assert kinds(program) == expected


@pytest.mark.tvm
@pytest.mark.parametrize("name", NETWORKS)
def test_native_networks(name: str) -> None:
    """The self-check compares with ONNX Runtime."""
    artifact = compile_model(NETWORKS[name][0].model(), target="host", mode="call")
    assert artifact.manifest["check"]["done"]


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "name"),
    [("aarch64", "grouped"), ("armv7", "square"), ("cortex-m4", "separable")],
)
def test_on_processors(target: str, name: str) -> None:
    """Emulated: the self-check runs the code; a Cortex-M keeps windows and layers."""
    pytest.importorskip("unicorn", reason="unicorn is not installed: the extra emulate")
    artifact = compile_model(NETWORKS[name][0].model(), target=target, mode="call")
    assert artifact.manifest["check"]["done"]


def test_multiplications_are_counted() -> None:
    """The same number, whichever operator does them."""
    model = NETWORKS["grouped"][0].model()
    assert program_of(model).macs == program_of(model, columns=1).macs > 0


RESIDUAL: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def test_sums_of_branches() -> None:
    """A residual block, a product with a sigmoid, channels side by side: one transposition."""
    stored = {
        "w0": normal(8, 3, 3, 3, seed=1),
        "w1": normal(8, 8, 3, 3, seed=2),
        "w2": normal(4, 16, 1, 1, seed=3),
        "scale": normal(8, 1, 1, seed=4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], **RESIDUAL),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], **RESIDUAL),
        helper.make_node("Mul", ["c", "scale"], ["d"]),
        helper.make_node("Add", ["d", "b"], ["e"]),
        helper.make_node("Concat", ["e", "b"], ["f"], axis=1),
        helper.make_node("Conv", ["f", "w2"], ["y"]),
    ]
    x = normal(1, 3, 6, 7)
    program = check_program(graph_model(nodes, {"x": x}, ["y"], stored), {"x": x})
    assert kinds(program).count("Transpose") == 1
    assert kinds(program).count("Convolve") == 3


def test_what_others_read_stays() -> None:
    """An output that is shown and read; a convolution with few positions; another fill."""
    weights = normal(8, 2, 3, seed=1)
    few, given = one_node("Conv", [normal(1, 2, 5), weights])
    assert "DenseKernel" in kinds(check_program(few, given))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"], pads=[1, 1]),
    ]
    x = normal(1, 2, 9)
    stored = {"w": weights, "v": normal(4, 8, 3, seed=2)}
    check_program(graph_model(nodes, {"x": x}, ["a", "b", "c"], stored), {"x": x})
