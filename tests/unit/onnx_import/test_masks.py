"""Minus infinity that masks softmax: exact where every row keeps a place, else refused by name."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelstm.errors import ModelError, UnsupportedOpError
from edgelstm_compiler.onnx_import.fixed_inputs import with_constants
from tests.unit.onnx_import.one_node import Array, check_model, graph_model, imported, kinds, normal

OPEN = np.tril(np.ones((4, 4), bool))
MASK = np.where(OPEN, np.float32(0.5), -np.inf).astype(np.float32)


def masked(
    *nodes: onnx.NodeProto, opset: int = 17, outputs: tuple[str, ...] = ("y",), **constants: Array
) -> onnx.ModelProto:
    """Nodes from "x" to "scores", and softmax of that."""
    last = helper.make_node("Softmax", ["scores"], ["y"], axis=-1)
    given = {"x": (TensorProto.FLOAT, (2, 4, 4))}
    return graph_model([*nodes, last], given, outputs, constants, opset=opset)


ADDED = helper.make_node("Add", ["x", "mask"], ["scores"])


def test_an_added_mask() -> None:
    """The places keep their bias; scores far below every mask that is written out win nothing."""
    x = normal(2, 4, 4)
    graph = check_model(masked(ADDED, mask=MASK), {"x": x})
    assert kinds(graph) == ["Binary", "Where", "Softmax"]
    check_model(masked(ADDED, mask=MASK), {"x": x * np.float32(1e30) - np.float32(1e32)})
    swapped = helper.make_node("Add", ["mask", "x"], ["scores"])
    check_model(masked(swapped, mask=MASK, opset=11), {"x": x})


def test_a_chosen_mask() -> None:
    """masked_fill: as either choice, of a scalar."""
    x, lowest = normal(2, 4, 4), np.asarray(-np.inf, np.float32)
    for order, chosen in ((["open", "x", "low"], OPEN), (["open", "low", "x"], ~OPEN)):
        made = masked(helper.make_node("Where", order, ["scores"]), open=chosen, low=lowest)
        check_model(made, {"x": x})


def test_masks_behind_masks() -> None:
    """Two of them and a bias: open is what both leave open."""
    other = np.where(np.arange(4) == 3, -np.inf, 0).astype(np.float32)
    nodes = [
        helper.make_node("Add", ["x", "other"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("Add", ["b", "mask"], ["scores"]),
    ]
    made = masked(*nodes, other=other, bias=normal(4, 4, seed=1), mask=MASK)
    check_model(made, {"x": normal(2, 4, 4)})


def test_a_chain_of_doublings_is_looked_through_once() -> None:
    """Forty sums of a value with itself are forty values, not 2 to the 40."""
    names = ["x", *(f"v{k}" for k in range(40)), "scores"]
    nodes = [helper.make_node("Add", [a, a], [b]) for a, b in itertools.pairwise(names)]
    assert len(imported(masked(*nodes)).nodes) == 42


def test_a_row_without_an_open_place_is_refused() -> None:
    """Its softmax is NaN."""
    closed = np.where(np.arange(4)[:, None] == 2, -np.inf, MASK).astype(np.float32)
    with pytest.raises(ModelError, match="leaves nothing open in a row"):
        imported(masked(ADDED, mask=closed))


def test_a_mask_that_the_input_tells_is_refused() -> None:
    """A row may be masked as a whole; the way out is a finite number."""
    nodes = [
        helper.make_node("Greater", ["x", "low"], ["open"]),
        helper.make_node("Where", ["open", "x", "low"], ["scores"]),
    ]
    with pytest.raises(ModelError, match=r"says at run time.*-1e9"):
        imported(masked(*nodes, low=np.asarray(-np.inf, np.float32)))


def test_other_readers_of_the_mask_are_refused() -> None:
    """Scores that are shown hold minus infinity."""
    with pytest.raises(ModelError, match=r"'mask' holds -inf"):
        imported(masked(ADDED, outputs=("y", "scores"), mask=MASK))


def test_a_mask_that_is_an_input() -> None:
    """key_padding_mask of PyTorch, spread over heads: refused with the ways out, and one works."""
    nodes = [
        helper.make_node("Where", ["padding", "low", "zero"], ["filled"]),
        helper.make_node("Expand", ["filled", "heads"], ["mask"]),
        helper.make_node("Mul", ["mask", "one"], ["scaled"]),
        helper.make_node("Add", ["x", "scaled"], ["scores"]),
    ]
    constants = {
        "low": np.asarray(-np.inf, np.float32),
        "zero": np.asarray(0, np.float32),
        "one": np.asarray(1, np.float32),
        "heads": np.array([2, 1, 4]),
    }
    made = masked(*nodes, **constants)
    made.graph.input.append(helper.make_tensor_value_info("padding", TensorProto.BOOL, [1, 1, 4]))
    with pytest.raises(UnsupportedOpError, match=r"'padding' says at run time.*--set NAME=VALUE"):
        imported(made)
    padding = np.array([[[False, False, True, True]]])
    check_model(with_constants(made, {"padding": padding}), {"x": normal(2, 4, 4)})


def test_a_long_sum_is_walked() -> None:
    """No recursion over what stands in front of softmax."""
    names = ["x", *(f"v{k}" for k in range(1500)), "scores"]
    nodes = [helper.make_node("Add", [a, "x"], [b]) for a, b in itertools.pairwise(names)]
    assert len(imported(masked(*nodes)).nodes) == len(nodes) + 1
