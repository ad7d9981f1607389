"""Convolutions, pooling, padding and resizing: against ONNX Runtime in every attribute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.errors import EdgeLSTMError, ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.driver import compile_model
from tests.unit.onnx_import.one_node import check_node, imported, ints, normal, one_node

ONE_AXIS: list[dict[str, Any]] = [
    {},
    {"strides": [2]},
    {"dilations": [2], "pads": [1, 3]},
    {"auto_pad": "SAME_UPPER", "strides": [2]},
    {"auto_pad": "SAME_LOWER", "strides": [3]},
    {"auto_pad": "VALID", "strides": [2]},
    {"pads": [2, 0], "strides": [3], "dilations": [3]},
]


def convolve(x: tuple[int, ...], w: tuple[int, ...], bias: int = 0, **options: Any) -> None:
    operands: list[Any] = [normal(*x), normal(*w, seed=1)]
    check_node(
        "Conv", [*operands, *([normal(bias, seed=2)] if bias else [])], **options, runtime=(0,)
    )


@pytest.mark.parametrize("options", ONE_AXIS, ids=str)
def test_conv_over_one_axis(options: dict[str, Any]) -> None:
    """Strides, dilations and every kind of padding; odd and even extents."""
    for extent in (12, 13):
        convolve((2, 3, extent), (4, 3, 3), 4, **options)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("each", [1, 2])
def test_conv_in_groups(groups: int, each: int) -> None:
    """One group, some, and one a channel (depthwise), with more than one output each."""
    convolve((2, 6, 9), (groups * each * 2, 6 // groups, 3), group=groups, pads=[1, 1])
    convolve((1, 6, 5, 7), (groups * each, 6 // groups, 2, 3), groups * each, group=groups)


def test_conv_over_more_axes() -> None:
    """The axes have extents, strides and paddings of their own; a kernel of 1 is a product."""
    convolve((2, 3, 7, 8), (4, 3, 3, 2), 4, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2])
    convolve((1, 2, 4, 5, 6), (3, 2, 2, 2, 3), pads=[0, 1, 1, 1, 0, 2])
    convolve((2, 3, 7), (4, 3, 1), 4)
    convolve((2, 3, 7), (4, 3, 1), strides=[2])


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": [2]},
    {"strides": [3], "output_padding": [1], "pads": [1, 0]},
    {"dilations": [2], "pads": [2, 2], "strides": [2]},
    {"pads": [2, 2]},
    {"output_shape": [14], "strides": [2]},
    {"auto_pad": "SAME_UPPER", "strides": [2]},
    {"auto_pad": "SAME_LOWER", "strides": [2]},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose(options: dict[str, Any], groups: int) -> None:
    """Strides, padding of the output, a shape that is asked for, groups."""
    operands = [normal(2, 4, 6), normal(4, 3, 3, seed=1), normal(3 * groups, seed=2)]
    check_node("ConvTranspose", operands, group=groups, runtime=(0,), **options)


def test_conv_transpose_over_two_axes() -> None:
    """Padding that takes more than the kernel reaches."""
    operands = [normal(1, 2, 5, 4), normal(2, 3, 1, 3, seed=1)]
    check_node("ConvTranspose", operands, runtime=(0,), strides=[2, 1], pads=[1, 0, 1, 2])


POOLED: list[dict[str, Any]] = [
    {"kernel_shape": [3]},
    {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    {"kernel_shape": [2], "strides": [2], "ceil_mode": 1},
    {"kernel_shape": [3], "strides": [2], "ceil_mode": 1, "pads": [1, 1]},
    {"kernel_shape": [3], "strides": [3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("options", POOLED, ids=str)
def test_pooling(op: str, options: dict[str, Any]) -> None:
    """Every padding, and windows that reach beyond the end."""
    for extent in (10, 11):
        check_node(op, [normal(2, 3, extent)], opset=19, **options)
    if op == "AveragePool":
        check_node(op, [normal(2, 3, 11)], opset=19, count_include_pad=1, **options)
    if "auto_pad" not in options:
        check_node(op, [normal(2, 3, 11)], opset=19, dilations=[2], **options)


def test_pooling_over_two_axes() -> None:
    """Also of norms, and over all there is."""
    options = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 1, 1, 1]}
    for op in ("MaxPool", "AveragePool", "LpPool"):
        check_node(op, [normal(2, 3, 6, 7)], opset=19 if op != "LpPool" else 18, **options)
    for op in ("GlobalMaxPool", "GlobalAveragePool"):
        check_node(op, [normal(2, 3, 6, 7)])
        check_node(op, [normal(2, 3, 6)])


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6, 16])
def test_pooling_of_norms(p: int) -> None:
    """Any whole p: of nothing but zeros it is 0."""
    options = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 1, 1, 1]}
    x = normal(2, 3, 6, 7)
    x[0, 0] = 0.0
    check_node("LpPool", [x], opset=18, p=p, **options)
    check_node("GlobalLpPool", [x], p=p)


def test_norms_that_are_none() -> None:
    """Exponents below one, and larger ones than are multiplied out."""
    with pytest.raises(ModelError, match="p is 0, expected 1 or more"):
        imported(one_node("LpPool", [normal(1, 2, 5)], kernel_shape=[2], p=0)[0])
    with pytest.raises(UnsupportedOpError, match="p is 17; 1 to 16 are supported"):
        imported(one_node("LpPool", [normal(1, 2, 5)], kernel_shape=[2], p=17)[0])


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize(
    "options",
    [{}, {"strides": [2, 3], "ceil_mode": 1}, {"dilations": [2, 1], "pads": [1, 0, 1, 1]}],
    ids=str,
)
def test_places_of_the_largest(storage_order: int, options: dict[str, Any]) -> None:
    """Counted over the whole tensor, of equal ones the first, in both orders of the axes."""
    x = normal(2, 3, 8, 9).round(1)
    options = {"kernel_shape": [3, 2], "storage_order": storage_order, **options}
    check_node("MaxPool", [x], opset=18, outputs=2, **options)
    check_node("MaxPool", [x[0]], opset=18, outputs=2, kernel_shape=[3], strides=[2], pads=[1, 1])


def test_places_in_a_stream_without_end_are_refused() -> None:
    """They count over the whole sequence, and a stream never has it."""
    model, _ = one_node("MaxPool", [normal(1, 3, 9)], opset=18, outputs=2, kernel_shape=[2])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "T"
    with pytest.raises(EdgeLSTMError, match="counts elements over the whole sequence"):
        compile_model(model, target="reference", mode="stream")


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 0, 3, 1), (0, -1, 2, 0, 2, -2), (1, 0, 0, 0, 0, 0)])
def test_pad(mode: str, pads: tuple[int, ...]) -> None:
    """Every mode; negative ones cut off; a value, and axes."""
    if mode == "reflect" and pads[0]:
        pytest.skip("one element has nothing to reflect")
    check_node("Pad", [normal(2, 4, 5), ints(*pads)], opset=19, mode=mode, runtime=(0,))
    if mode == "constant":
        value = np.array(1.5, np.float32)
        check_node("Pad", [normal(2, 4, 5), ints(*pads), value], opset=18, runtime=(0,))
        axes = ints(-1, 1)
        check_node("Pad", [normal(2, 4, 5), ints(1, 2, 0, 1), value, axes], opset=18, runtime=(0,))
        check_node("Pad", [normal(2, 4, 5)], opset=7, pads=list(pads), value=0.5)


RESIZED: list[dict[str, Any]] = [
    {"mode": mode, "coordinate_transformation_mode": where}
    for mode in ("nearest", "linear", "cubic")
    for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
]


@pytest.mark.parametrize("options", RESIZED, ids=str)
@pytest.mark.parametrize("size", [(1, 2, 7, 9), (1, 2, 2, 3), (1, 2, 4, 1)])
def test_resize(options: dict[str, Any], size: tuple[int, ...]) -> None:
    """Larger and smaller, by each rule for where an element comes from."""
    none = np.zeros(0, np.float32)
    operands = [normal(1, 2, 4, 5), none, none, ints(*size)]
    check_node("Resize", operands, opset=13, runtime=(0,), **options)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("where", ["half_pixel", "asymmetric", "align_corners"])
def test_resize_against_aliases(mode: str, where: str) -> None:
    """Kernels as wide as what becomes one element; as they are where the axis grows."""
    options = {"mode": mode, "coordinate_transformation_mode": where, "antialias": 1}
    for factors in ((0.5, 0.6), (0.3, 1.7), (2, 1)):
        scales = np.array([1, 1, *factors], np.float32)
        for outside in (0, 1) if mode == "cubic" else (0,):
            operands = [normal(1, 2, 9, 7), None, scales]
            check_node("Resize", operands, opset=19, exclude_outside=outside, **options)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("part", [(0.4, 0.6, 0.6, 0.8), (0.1, -0.2, 1.2, 0.9)])
def test_resize_of_a_part(mode: str, part: tuple[float, ...]) -> None:
    """Inside of the tensor, and beyond its edges, where the value is that of an attribute."""
    region = np.array([0, 0, *part[:2], 1, 1, *part[2:]], np.float32)
    options: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    for size in ((1, 2, 5, 6), (1, 2, 1, 20)):
        operands = [normal(1, 2, 9, 7), region, None, ints(*size)]
        check_node("Resize", operands, opset=19, **options)
    operands = [normal(1, 2, 9, 7), region, None, ints(1, 2, 9, 5)]
    with pytest.raises(UnsupportedOpError, match=r"axis 2 to its own extent.*by Slice before"):
        imported(one_node("Resize", operands, opset=19, **options)[0])
    scales = np.array([1, 1, 0.5, 0.5], np.float32)
    operands = [normal(1, 2, 9, 7), region, scales]
    with pytest.raises(UnsupportedOpError, match="give the sizes instead"):
        imported(one_node("Resize", operands, opset=19, **options)[0])


@pytest.mark.parametrize("rule", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_by_factors(rule: str) -> None:
    """The nearest by each rule of rounding."""
    none = np.zeros(0, np.float32)
    for factor in (0.6, 1.5, 2.0):
        scales = np.array([1, 1, factor, 2], np.float32)
        options = {"nearest_mode": rule, "coordinate_transformation_mode": "asymmetric"}
        check_node("Resize", [normal(1, 2, 4, 5), none, scales], opset=13, runtime=(0,), **options)


def test_blocks() -> None:
    """Depth to space and back, both orders; tiles."""
    for mode in ("DCR", "CRD"):
        check_node("DepthToSpace", [normal(2, 8, 3, 4)], blocksize=2, mode=mode)
    check_node("SpaceToDepth", [normal(2, 3, 4, 6)], blocksize=2)
    check_node("Tile", [normal(2, 3), ints(2, 3)], runtime=(0,))


@pytest.mark.parametrize(
    ("op", "operands", "options"),
    [
        ("Conv", [normal(2, 3, 8), normal(4, 2, 3)], {}),
        ("Conv", [normal(2, 3, 2), normal(4, 3, 3)], {}),
        ("Conv", [normal(2, 3, 8), normal(4, 3, 3), normal(3)], {}),
        ("ConvTranspose", [normal(2, 3, 8), normal(4, 3, 3)], {}),
        ("DepthToSpace", [normal(2, 6, 3, 4)], {"blocksize": 4}),
    ],
    ids=str,
)
def test_what_does_not_fit(op: str, operands: list[Any], options: dict[str, Any]) -> None:
    """One error that names the node, found and expected."""
    with pytest.raises((ShapeError, ModelError, EdgeLSTMError), match=f"{op} 'it'"):
        imported(one_node_unchecked(op, operands, **options))


def one_node_unchecked(op: str, operands: list[Any], **options: Any) -> Any:
    """The model, whose own shape inference would refuse it, too."""
    try:
        return one_node(op, operands, runtime=(0,), **options)[0]
    except Exception as error:
        pytest.skip(f"onnx refuses it first: {error}")
