"""Indices that the model wraps itself: told by evaluation at every index, and then left out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm_compiler.driver import compile_model
from tests.unit.onnx_import.one_node import check_model, graph_model, imported, kinds, normal

WORDS, N = np.array([[3, 0, 6, -1, -7]], np.int64), 7


def choice(offset: int = N) -> list[onnx.NodeProto]:
    """Where(i < 0, i + N, i): Keras' embedding on PyTorch."""
    return [
        helper.make_node("Less", ["i", "zero"], ["is_negative"]),
        helper.make_node("Add", ["i", "offset"], ["moved"]),
        helper.make_node("Where", ["is_negative", "moved", "i"], ["at"]),
    ]


def products() -> list[onnx.NodeProto]:
    """The same choice as products of casts: what tf2onnx writes for SelectV2."""
    return [
        helper.make_node("Add", ["i", "offset"], ["moved"]),
        helper.make_node("Cast", ["i"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Less", ["float", "zero_f"], ["is_negative"]),
        helper.make_node("Not", ["is_negative"], ["is_other"]),
        helper.make_node("Cast", ["is_other"], ["keep"], to=TensorProto.INT64),
        helper.make_node("Mul", ["i", "keep"], ["kept"]),
        helper.make_node("Cast", ["is_negative"], ["take"], to=TensorProto.INT64),
        helper.make_node("Mul", ["take", "moved"], ["taken"]),
        helper.make_node("Add", ["taken", "kept"], ["at"]),
    ]


def model(nodes: list[onnx.NodeProto], offset: int = N) -> onnx.ModelProto:
    """Rows of a table of N at these indices."""
    constants = {
        "table": normal(N, 3),
        "zero": np.asarray(0, np.int64),
        "zero_f": np.asarray(0, np.float32),
        "offset": np.asarray(offset, np.int64),
    }
    last = helper.make_node("Gather", ["table", "at"], ["y"])
    return graph_model([*nodes, last], {"i": WORDS}, ["y"], constants)


@pytest.mark.parametrize("nodes", [choice(), products()], ids=["choice", "products"])
def test_wrapped_by_the_model(nodes: list[onnx.NodeProto]) -> None:
    """A Gather is left, which wraps itself."""
    assert kinds(check_model(model(nodes), {"i": WORDS})) == ["Gather"]


@pytest.mark.tvm
def test_native_code_takes_it() -> None:
    """It asks that indices be kept within bounds; the input is what is looked at."""
    session = compile_model(model(products()), target="host", mode="call").session()
    np.testing.assert_array_equal(session.call(WORDS), normal(N, 3)[WORDS])


def test_another_wrapping_stays() -> None:
    """One off is another function: it runs as it is."""
    made = model(choice(), offset=N - 1)
    assert "Where" in kinds(imported(made))
    check_model(made, {"i": np.array([[3, 0, 6, -1, -6]], np.int64)})
