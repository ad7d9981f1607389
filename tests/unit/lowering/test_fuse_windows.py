"""Pooling and depthwise convolution as one operator: the same numbers, no windows in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgelstm_compiler.driver import CompileOptions, bind, compile_model, to_step_graph
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from tests.oracle import assert_close, run_onnxruntime
from tests.unit.onnx_import.one_node import Array, graph_model, normal, one_node

ROW = {"kernel_shape": [3], "pads": [1, 1]}
SQUARE = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}

POOLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "row": ("MaxPool", (2, 3, 21), ROW),
    "strided": ("MaxPool", (1, 3, 40), ROW | {"strides": [2]}),
    "dilated": ("MaxPool", (1, 2, 30), {"kernel_shape": [3], "dilations": [2], "pads": [2, 1]}),
    "square": ("MaxPool", (1, 3, 17, 19), SQUARE),
    "uneven": ("MaxPool", (2, 3, 9, 11), {"kernel_shape": [2, 3], "strides": [2, 1]}),
    "narrow": ("MaxPool", (1, 3, 12, 2), SQUARE),
    "cube": ("MaxPool", (1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "pads": [1, 1, 0, 0, 1, 1]}),
    "wide": ("MaxPool", (1, 2, 60), {"kernel_shape": [20], "pads": [7, 4]}),
    "mean": ("AveragePool", (1, 3, 10, 23), SQUARE),
    "mean with padding": ("AveragePool", (1, 3, 23), ROW | {"count_include_pad": 1}),
    "norm": ("LpPool", (1, 3, 23), {"kernel_shape": [3], "strides": [3]}),
}


def pool(name: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one pooling."""
    op, shape, attributes = POOLS[name]
    return one_node(op, [normal(*shape)], opset=18, **attributes)


def depthwise(
    shape: tuple[int, ...], kernel: tuple[int, ...], each: int = 1, *, bias: bool, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one depthwise convolution."""
    outputs = shape[1] * each
    weights = [normal(outputs, 1, *kernel, seed=1), normal(outputs, seed=2)][: 1 + bias]
    return one_node("Conv", [normal(*shape), *weights], group=shape[1], **attributes)


CONVOLUTIONS: dict[str, tuple[onnx.ModelProto, dict[str, Array]]] = {
    "row": depthwise((2, 4, 33), (3,), bias=True, pads=[1, 1]),
    "no bias": depthwise((1, 4, 33), (5,), bias=False),
    "two each": depthwise((1, 4, 18), (3,), 2, bias=True, dilations=[2]),
    "square": depthwise((1, 5, 14, 15), (3, 3), bias=True, pads=[1, 1, 1, 1]),
    "strided": depthwise((2, 3, 14, 15), (3, 2), bias=True, strides=[2, 2], pads=[0, 1, 1, 0]),
    "wide": depthwise((1, 2, 64), (31,), bias=True, pads=[15, 15]),
}


def kinds(model: onnx.ModelProto, block: int | None = 16) -> list[str]:
    """The operators of the program."""
    options = CompileOptions(mode="call")
    graph = to_step_graph(bind(read_model(model), options), options, PassContext())
    program = lower(graph, block)
    return [getattr(call.kernel, "op", call.kernel).kind for call in program.calls]


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name: str) -> None:
    """No windows are left; the program computes what ONNX Runtime does."""
    model, given = pool(name)
    assert "WindowReduce" in kinds(model)
    assert "Windows" not in kinds(model)
    check_program(model, given)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_depthwise(name: str) -> None:
    """The bias is part of it."""
    model, given = CONVOLUTIONS[name]
    found = kinds(model)
    assert "WindowReduce" in found
    assert not {"Windows", "Binary", "Reduce"} & set(found)
    check_program(model, given)


def check_program(model: onnx.ModelProto, given: dict[str, Array]) -> None:
    """The program in NumPy, beside ONNX Runtime."""
    options = CompileOptions(mode="call")
    graph = to_step_graph(bind(read_model(model), options), options, PassContext())
    found = ProgramRunner(lower(graph, 16)).step(given)
    assert_close(found, run_onnxruntime(model, given))


@pytest.mark.tvm
@pytest.mark.parametrize("name", POOLS)
def test_native_pooling(name: str) -> None:
    """The self-check compares with ONNX Runtime."""
    model, _ = pool(name)
    assert compile_model(model, target="host", mode="call").manifest["check"]["done"]


@pytest.mark.tvm
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_native_depthwise(name: str) -> None:
    """The self-check compares with ONNX Runtime."""
    model, _ = CONVOLUTIONS[name]
    assert compile_model(model, target="host", mode="call").manifest["check"]["done"]


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.parametrize("target", ["aarch64", "armv7", "cortex-m4", "cortex-m7"])
def test_on_processors(target: str) -> None:
    """Emulated: the self-check runs the code."""
    pytest.importorskip("unicorn", reason="unicorn is not installed: the extra emulate")
    for model, _ in (pool("square"), pool("strided"), CONVOLUTIONS["strided"]):
        artifact = compile_model(model, target=target, mode="call")
        assert artifact.manifest["check"]["done"]


def test_windows_that_others_read_stay() -> None:
    """A transposed convolution by channel has zeros between; a reference program keeps both."""
    model, _ = pool("square")
    assert "Windows" in kinds(model, None)
    weights = normal(4, 1, 3, seed=1)
    spread, _ = one_node("ConvTranspose", [normal(1, 4, 9), weights], group=4, strides=[2])
    assert "WindowReduce" not in kinds(spread)


def test_one_position_of_one_channel() -> None:
    """Nothing has to be moved there: it stays what it was."""
    model, given = one_node("MaxPool", [normal(1, 1, 8)], kernel_shape=[8])
    check_program(model, given)


def test_padding_that_counts_stays() -> None:
    """The largest of elements with zeros beside them."""
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3]),
    ]
    x = -np.abs(normal(1, 2, 20))
    pads = np.array([0, 0, 1, 0, 0, 1])
    model = graph_model(nodes, {"x": x}, ["y"], {"pads": pads})
    check_program(model, {"x": x})
