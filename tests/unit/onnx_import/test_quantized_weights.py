"""QuantizeLinear and DequantizeLinear around constants and inputs: against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.models import lstm_model
from tests.unit.onnx_import.one_node import (
    check_model,
    check_node,
    graph_model,
    imported,
    kinds,
    normal,
)

Array = NDArray[Any]
SMALL = {"int4": onnx.TensorProto.INT4, "uint4": onnx.TensorProto.UINT4}


def weights(kind: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    """Random integers of a type as a stored tensor."""
    rng = np.random.default_rng(1)
    if kind in SMALL:
        low = -8 if kind == "int4" else 0
        codes = rng.integers(low, low + 16, shape)
        return helper.make_tensor("q", SMALL[kind], shape, codes.reshape(-1).tolist())
    info = np.iinfo(kind)
    return numpy_helper.from_array(rng.integers(info.min, info.max + 1, shape).astype(kind), "q")


def product_model(
    kind: str, scale: Array, zero: Array | None, *, raw: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """X times weights that the model stores in integers (6, 4)."""
    inputs = ["q", "scale"] if zero is None else ["q", "scale", "zero"]
    nodes = [
        helper.make_node("DequantizeLinear", inputs, ["w"], **attributes),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = graph_model(nodes, {"x": normal(2, 6)}, ["y"], {"scale": scale}, opset=21)
    stored = weights(kind, (6, 4))
    if raw and kind in SMALL:
        codes = numpy_helper.to_array(stored)
        stored = numpy_helper.from_array(codes, "q")
    model.graph.initializer.append(stored)
    if zero is not None:
        elem = stored.data_type
        model.graph.initializer.append(
            helper.make_tensor("zero", elem, zero.shape, zero.reshape(-1).tolist())
        )
    return model


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int4", "uint4"])
@pytest.mark.parametrize("way", ["tensor", "axis", "last", "blocks"])
def test_stored_weights_are_folded(kind: str, way: str) -> None:
    """Every type, one scale for all, one a row or column, one a block: a plain product is left."""
    shapes = {"tensor": (), "axis": (6,), "last": (4,), "blocks": (3, 4)}
    options: dict[str, Any] = {"axis": 0 if way in ("axis", "blocks") else -1}
    if way == "blocks":
        options["block_size"] = 2
    scale = np.abs(normal(*shapes[way], seed=3)) / 50
    zero = np.full(shapes[way], 3)
    x = {"x": normal(2, 6)}
    for model in (
        product_model(kind, scale, zero, **options),
        product_model(kind, scale, None, raw=True, **options),
    ):
        assert kinds(check_model(model, x)) == ["Dense"]


def test_quantized_and_restored_weights() -> None:
    """Float weights that the graph itself rounds are constants, too."""
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    stored = {
        "w": 9 * normal(6, 4),
        "scale": np.asarray(0.05, np.float32),
        "zero": np.asarray(-3, np.int8),
    }
    model = graph_model(nodes, {"x": normal(2, 6)}, ["y"], stored, opset=21)
    assert kinds(check_model(model, {"x": normal(2, 6)})) == ["Dense"]


def test_recurrent_weights_in_eight_bits() -> None:
    """A whole LSTM whose weights the file holds in int8, a scale for every row."""
    model = lstm_model(features=3, hidden=4, steps=5)
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    del model.graph.initializer[:]
    cell = next(node for node in model.graph.node if node.op_type == "LSTM")
    nodes = []
    for place in (1, 2):
        name = cell.input[place]
        data = arrays.pop(name)
        scale = np.abs(data).max(2).reshape(-1) / 127
        codes = np.rint(data / scale[None, :, None]).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_q"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_s"))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name], axis=1)
        )
    model.graph.initializer.extend(numpy_helper.from_array(x, n) for n, x in arrays.items())
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    x = {
        item.name: normal(*[d.dim_value for d in item.type.tensor_type.shape.dim])
        for item in model.graph.input
    }
    assert "LSTM" in kinds(check_model(model, x))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16"])
def test_numbers_rounded_to_a_grid(kind: str) -> None:
    """Computed numbers are quantized and restored as ONNX does: halves to even, ends saturate."""
    x = np.array([-1e6, -2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 7.3, 1e6], np.float32)
    zero = np.asarray(1, kind)
    scale = np.asarray(1, np.float32)
    check_node("QuantizeLinear", [x, scale, zero], opset=21)
    codes = np.arange(10).astype(kind)
    check_node("DequantizeLinear", [codes, np.asarray(0.3, np.float32), zero], opset=21)


def test_types_that_are_refused() -> None:
    """Computed numbers in 4 bits: by name."""
    x = normal(2, 4)
    zero = helper.make_tensor("zero", onnx.TensorProto.INT4, (), [0])
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="grid")
    back = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])
    scale = {"scale": np.asarray(1, np.float32)}
    model = graph_model([node, back], {"x": x}, ["y"], scale, opset=21)
    model.graph.initializer.append(zero)
    with pytest.raises(Exception, match=r"'grid'.*int4; int8, uint8 and int16"):
        imported(model)
