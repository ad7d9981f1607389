"""Sequences of tensors of known length: lists at compile time, nothing at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgelstm.errors import UnsupportedOpError
from tests.unit.onnx_import.one_node import check_model, graph_model, imported, normal

Array = NDArray[Any]
node = helper.make_node


@pytest.mark.parametrize("split", [None, np.asarray(2), np.array([1, 4, 1])])
@pytest.mark.parametrize("new_axis", [0, 1])
def test_split_and_concat(split: Array | None, new_axis: int) -> None:
    """Split into single places, equal parts (the last smaller), given parts; joined again."""
    if new_axis and split is not None and split.ndim:
        pytest.skip("parts of different extents cannot be stacked")
    x = normal(6, 3)
    nodes = [
        node("SplitToSequence", ["x"] if split is None else ["x", "split"], ["s"], axis=0),
        node("ConcatFromSequence", ["s"], ["y"], axis=1 if new_axis else 0, new_axis=new_axis),
    ]
    constants = {} if split is None else {"split": split}
    check_model(graph_model(nodes, {"x": x}, ["y"], constants), {"x": x})


def test_items() -> None:
    """Inserted, erased, taken by position from either end, counted."""
    x = normal(4, 3)
    nodes = [
        node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0),
        node("SequenceAt", ["s", "last"], ["a"]),
        node("SequenceAt", ["s", "first"], ["b"]),
        node("SequenceInsert", ["s", "a", "first"], ["longer"]),
        node("SequenceErase", ["longer", "last"], ["t"]),
        node("SequenceInsert", ["t", "b"], ["u"]),
        node("SequenceLength", ["u"], ["n"]),
        node("Cast", ["n"], ["count"], to=onnx.TensorProto.FLOAT),
        node("ConcatFromSequence", ["u"], ["joined"], axis=0, new_axis=1),
        node("Mul", ["joined", "count"], ["y"]),
    ]
    constants = {"last": np.asarray(-1), "first": np.asarray(0)}
    check_model(graph_model(nodes, {"x": x}, ["y"], constants), {"x": x})


def test_constructed_lists() -> None:
    """Made of tensors, and from nothing."""
    x = normal(2, 3)
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("SequenceEmpty", [], ["none"]),
        node("SequenceInsert", ["none", "x"], ["one"]),
        node("SequenceAt", ["one", "zero"], ["z"]),
        node("SequenceInsert", ["s", "z"], ["t"]),
        node("ConcatFromSequence", ["t"], ["y"], axis=1),
    ]
    check_model(graph_model(nodes, {"x": x}, ["y"], {"zero": np.asarray(0)}), {"x": x})


def test_computed_positions_are_refused() -> None:
    """A position that an input decides is refused by name."""
    nodes = [
        node("SplitToSequence", ["x"], ["s"], axis=0),
        node("SequenceAt", ["s", "i"], ["y"], name="pick"),
    ]
    model = graph_model(nodes, {"x": normal(4, 3), "i": np.asarray(1)}, ["y"])
    with pytest.raises(UnsupportedOpError, match=r"'pick'.*position is computed"):
        imported(model)


def test_lists_are_no_outputs() -> None:
    """An output that is a list is refused with the way out."""
    model = graph_model([node("SplitToSequence", ["x"], ["s"], axis=0)], {"x": normal(4, 3)}, ["s"])
    value = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(value))
    with pytest.raises(UnsupportedOpError, match="ConcatFromSequence"):
        imported(model)
