"""Operators that move elements, in all their opset versions: against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.onnx_import.ops.layout import clamped_range
from tests.oracle import run_onnxruntime
from tests.unit.onnx_import.one_node import (
    check_folded,
    check_node,
    imported,
    ints,
    kinds,
    normal,
    one_node,
)


def check_both(op: str, inputs: list[Any], **options: Any) -> list[str]:
    """The operator on a computed and on a constant first operand; the graph's operators."""
    check_folded(op, inputs, **options)
    return kinds(check_node(op, inputs, **options))


@pytest.mark.parametrize("perm", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
def test_transpose(perm: list[int] | None) -> None:
    """Reversed by default; the identity vanishes."""
    attributes = {} if perm is None else {"perm": perm}
    found = check_both("Transpose", [normal(2, 3, 4)], **attributes)
    assert found == ([] if perm == [0, 1, 2] else ["Transpose"])


@pytest.mark.parametrize("shape", [(6, 4), (0, -1), (-1,), (2, 3, 4, 1), (0, 0, 2, 2), (2, 3, 4)])
def test_reshape(shape: tuple[int, ...]) -> None:
    """Zeros copy, minus one takes the rest."""
    check_both("Reshape", [normal(2, 3, 4), ints(*shape)])


@pytest.mark.parametrize("shape", [(5, -1), (-1, -1), (0, 0, 0, 0), (7, 4), (-2, 12)])
def test_reshape_contradictions(shape: tuple[int, ...]) -> None:
    """The node and both shapes are named."""
    model, _ = one_node("Reshape", [normal(2, 3, 4), ints(1, -1)])
    model.graph.initializer[0].CopyFrom(_tensor("i1", ints(*shape)))
    with pytest.raises(ShapeError, match=r"Reshape 'it': .*shape"):
        imported(model)


def test_reshape_allowzero() -> None:
    """With allowzero a zero is an extent, and such tensors hold nothing."""
    model, _ = one_node("Reshape", [normal(2, 3), ints(3, 2)], allowzero=1)
    assert kinds(imported(model)) == ["Reshape"]
    model.graph.initializer[0].CopyFrom(_tensor("i1", ints(0, 6)))
    with pytest.raises(ShapeError):
        imported(model)


def test_reshape_to_a_computed_shape_is_refused() -> None:
    """The shape must be known at compile time."""
    model, _ = one_node("Reshape", [normal(2, 3), ints(3, 2)], runtime=(0, 1))
    with pytest.raises(UnsupportedOpError, match=r"Reshape 'it': the shape must be constant.*'i1'"):
        imported(model)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_flatten(axis: int) -> None:
    """Two axes, whatever the split."""
    check_both("Flatten", [normal(2, 3, 4)], axis=axis)


@pytest.mark.parametrize("opset", [9, 11, 13, 21])
@pytest.mark.parametrize("axes", [None, (0,), (1, 3), (-1,)])
def test_squeeze(axes: tuple[int, ...] | None, opset: int) -> None:
    """Axes by attribute before opset 13, by input since."""
    if opset == 9 and axes == (-1,):
        axes = (3,)  # negative axes came with opset 11
    x = normal(1, 1, 3, 1)
    if opset >= 13:
        check_both("Squeeze", [x] if axes is None else [x, ints(*axes)], opset=opset)
    else:
        check_both("Squeeze", [x], opset=opset, **({} if axes is None else {"axes": axes}))


@pytest.mark.parametrize("opset", [9, 11, 13, 21])
@pytest.mark.parametrize("axes", [(0,), (1, 3), (4, 0, 2)])
def test_unsqueeze(axes: tuple[int, ...], opset: int) -> None:
    """Axes count in the result, in any order."""
    x = normal(2, 3)
    if max(axes) > 1 + len(axes):
        x = normal(2, 3, 4)
    if opset >= 13:
        check_both("Unsqueeze", [x, ints(*axes)], opset=opset)
    else:
        check_both("Unsqueeze", [x], opset=opset, axes=axes)


def test_unsqueeze_negative_axes() -> None:
    """Negative axes count from the end of the result."""
    check_both("Unsqueeze", [normal(2, 3), ints(-1, -4)])


def test_squeeze_of_a_larger_axis() -> None:
    """Only axes of extent one can go."""
    model, _ = one_node("Squeeze", [normal(1, 3), ints(0)])
    model.graph.initializer[0].CopyFrom(_tensor("i1", ints(1)))
    with pytest.raises(ShapeError, match=r"Squeeze 'it': axis 1 of \(1, 3\)"):
        imported(model)


SLICES = [
    (ints(1), ints(3), ints(0), None),
    (ints(0), ints(2**63 - 1), ints(1), None),
    (ints(-2), ints(2**31), ints(2), None),
    (ints(1, 0), ints(3, -1), ints(0, 2), None),
    (ints(-1), ints(-(2**63)), ints(1), ints(-1)),
    (ints(10, 3), ints(-10, 0), ints(0, 2), ints(-2, -1)),
    (ints(0), ints(5), ints(2), ints(2)),
    (ints(-1), ints(-9), ints(-1), ints(-3)),
    (ints(0, 1, 1), ints(9, 2, 3), None, None),
]


@pytest.mark.parametrize("case", SLICES)
def test_slice(case: tuple[Any, ...]) -> None:
    """Clamped, negative, stepped and reversed, along several axes."""
    check_both("Slice", [normal(5, 3, 5), *case])


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-3, 3).filter(bool), st.integers(1, 6))
def test_clamping_matches_onnxruntime(start: int, end: int, step: int, extent: int) -> None:
    """The places are those that ONNX Runtime takes."""
    x = np.arange(extent, dtype=np.float32)
    model, given_inputs = one_node("Slice", [x, ints(start), ints(end), ints(0), ints(step)])
    expected = run_onnxruntime(model, given_inputs)["o0"]
    assert list(clamped_range(start, end, step, extent)) == expected.astype(int).tolist()


def test_slice_with_attributes() -> None:
    """Before opset 10."""
    options = {"starts": [1, -2], "ends": [1000, -1], "axes": [0, 2]}
    assert check_both("Slice", [normal(5, 3, 5)], opset=9, **options) == ["Slice", "Slice"]


def test_slice_that_keeps_everything_vanishes() -> None:
    """No node for nothing."""
    assert check_both("Slice", [normal(5), ints(0), ints(9)]) == []


def test_slice_that_leaves_nothing() -> None:
    """Tensors without elements are refused with axis and value."""
    model, _ = one_node("Slice", [normal(5), ints(3), ints(3)])
    with pytest.raises(ShapeError, match=r"Slice 'it': nothing is left of axis 0 of \(5,\)"):
        imported(model)


def test_slice_step_zero() -> None:
    """No step, no slice."""
    model, _ = one_node("Slice", [normal(5), ints(0), ints(3), ints(0), ints(1)])
    model.graph.initializer[3].CopyFrom(_tensor("i4", ints(0)))
    with pytest.raises(ShapeError, match="Slice 'it': step 0"):
        imported(model)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [np.array(-1), np.array([0, -2]), np.array([[1], [0]])])
def test_gather(indices: Any, axis: int) -> None:
    """Known indices, negative ones resolved; scalars drop the axis."""
    for dtype in (np.int64, np.int32):
        assert check_both("Gather", [normal(3, 4), indices.astype(dtype)], axis=axis) == ["Gather"]


def test_gather_at_computed_indices() -> None:
    """An embedding: a constant table, indices at run time."""
    graph = check_node("Gather", [normal(7, 4), np.array([[0, 6], [3, -1]])], runtime=(1,))
    assert kinds(graph) == ["Gather"]


def test_gather_beyond_the_axis() -> None:
    """Known indices are checked."""
    model, _ = one_node("Gather", [normal(3), ints(3)])
    with pytest.raises(ShapeError, match=r"Gather 'it': indices \[3\] beyond axis 0 of \(3,\)"):
        imported(model)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis: int) -> None:
    """Known and computed operands together."""
    operands = [normal(2, 2), normal(2, 2, seed=1), normal(2, 2, seed=2)]
    check_both("Concat", operands, axis=axis)
    check_node("Concat", operands, runtime=(0, 1, 2), axis=axis)


def test_concat_contradiction() -> None:
    """The operand that does not fit is named."""
    model, _ = one_node("Concat", [normal(2, 2), normal(2, 2)], axis=0)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    with pytest.raises(ShapeError, match=r"Concat 'it': \(2, 2\) of 'i1'"):
        imported(model)


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_split(opset: int) -> None:
    """Equal parts and given parts; num_outputs since opset 18."""
    x = normal(6, 2)
    more = {"num_outputs": 3} if opset >= 18 else {}
    assert check_both("Split", [x], outputs=3, opset=opset, **more) == ["Slice"] * 3
    if opset >= 13:
        check_both("Split", [x, ints(1, 5)], outputs=2, opset=opset)
    else:
        check_both("Split", [x], outputs=2, opset=opset, split=[1, 5])


def test_split_into_unequal_parts() -> None:
    """Since opset 18 the last part may be smaller."""
    check_both("Split", [normal(7)], outputs=3, opset=18, num_outputs=3)


def test_split_contradiction() -> None:
    """Parts that do not add up."""
    model, _ = one_node("Split", [normal(6), ints(3, 3)], outputs=2)
    model.graph.initializer[0].CopyFrom(_tensor("i1", ints(3, 4)))
    with pytest.raises(ShapeError, match=r"Split 'it': axis 0 of \(6,\) .*\(3, 4\)"):
        imported(model)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (5, 1, 1, 1), (3, 1), (2, 3, 1)])
def test_expand(shape: tuple[int, ...]) -> None:
    """Broadcast in both directions."""
    check_both(
        "Expand", [normal(3, 4), ints(*shape)] if shape[-1] == 4 else [normal(3, 1), ints(*shape)]
    )


def test_expand_that_cannot_be() -> None:
    """Both shapes are named."""
    model, _ = one_node("Expand", [normal(3, 4), ints(2, 1, 1)])
    model.graph.initializer[0].CopyFrom(_tensor("i1", ints(2, 4)))
    with pytest.raises(ShapeError, match=r"Expand 'it': \(3, 4\) of 'i0' .*\(2, 4\)"):
        imported(model)


@pytest.mark.parametrize(
    ("op", "inputs", "options"),
    [
        ("Transpose", [normal(2, 2)], {"perm": [0, 1]}),
        ("Concat", [normal(2, 2), normal(2, 2)], {"axis": 1}),
        ("Gather", [normal(2, 2), ints(0)], {"axis": 1}),
        ("Split", [normal(2, 2)], {"axis": 1, "outputs": 2}),
    ],
)
def test_axes_beyond_the_tensor(op: str, inputs: list[Any], options: dict[str, Any]) -> None:
    """An axis that the tensor does not have is a ShapeError with the node's name."""
    model, _ = one_node(op, inputs, **options)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "axis":
            attribute.i = 7
        else:
            attribute.ints[:] = [0, 7]
    with pytest.raises(ModelError, match=f"{op} 'it'.*7"):
        imported(model)


def _tensor(name: str, data: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(data, name)
