"""Operators of ai.onnx.ml around a network: against ONNX Runtime; class names as labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgelstm.errors import UnsupportedOpError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.onnx_import import read_model
from tests.unit.onnx_import.one_node import check_model, graph_model, normal

Array = NDArray[Any]
ML = "ai.onnx.ml"
KINDS = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64}


def classical(
    op: str, x: Array, constants: dict[str, Array] | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node on x."""
    node = helper.make_node(
        op, ["x", *(constants or {})], ["y"], domain=ML, name="it", **attributes
    )
    return graph_model([node], {"x": x}, ["y"], constants, domains={ML: 3})


def check(op: str, x: Array, out: str = "f", **attributes: Any) -> None:
    """The node must compute what ONNX Runtime computes."""
    model = classical(op, x, **attributes)
    model.graph.output[0].type.tensor_type.elem_type = KINDS[out]
    check_model(model, {"x": x})


def test_scaler() -> None:
    """One offset and scale for each feature, or one for all; integers become floats."""
    x = normal(3, 4)
    check("Scaler", x, offset=[1.0, 2, 3, 4], scale=[0.5, 2, 1, 0.1])
    check("Scaler", x, offset=[1.0], scale=[0.5])
    check("Scaler", np.arange(12).reshape(3, 4), offset=[1.0], scale=[0.5])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm: str) -> None:
    """Rows over their norm; a row of zeros stays."""
    x = normal(4, 5)
    x[2] = 0
    check("Normalizer", x, norm=norm)


def test_label_encoder() -> None:
    """Integers and floats on either side; what the table lacks becomes the default."""
    integers = np.array([[1, 2, 3], [7, 2, 0]])
    floats = integers.astype(np.float32)
    values = {"values_int64s": [10, 20, 30]}
    check("LabelEncoder", integers, "i", keys_int64s=[1, 2, 7], default_int64=5, **values)
    check("LabelEncoder", floats, "i", keys_floats=[1.0, 2, 7], **values)
    check(
        "LabelEncoder",
        integers,
        keys_int64s=[1, 2, 7],
        values_floats=[0.5, -1.5, 2.5],
        default_float=9.0,
    )


def test_label_encoder_of_strings() -> None:
    """Strings are refused with the way out."""
    x = np.array([[1, 2]])
    model = classical("LabelEncoder", x, keys_int64s=[1, 2], values_strings=["a", "b"])
    with pytest.raises(UnsupportedOpError, match="--labels"):
        check_model(model, {"x": x})


def test_feature_extractor_and_binarizer() -> None:
    """Some features by index; ones above a threshold."""
    x = normal(3, 5)
    check_model(classical("ArrayFeatureExtractor", x, {"at": np.array([4, 0])}), {"x": x})
    check("Binarizer", x, threshold=0.2)


@pytest.mark.parametrize("names", [["sit", "stand", "walk"], [3, 5, 8]])
def test_zip_map_names_the_classes(names: list[Any]) -> None:
    """Its output is the tensor, and the class names are the labels of the artifact."""
    attribute = {f"classlabels_{'int64' if isinstance(names[0], int) else 'string'}s": names}
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node("ZipMap", ["p"], ["y"], domain=ML, **attribute),
    ]
    model = graph_model(nodes, {"x": normal(1, 3)}, ["y"], domains={ML: 3})
    kind = onnx.TensorProto.STRING if isinstance(names[0], str) else onnx.TensorProto.INT64
    value = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    zipped = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, value))
    model.graph.output[0].type.CopyFrom(zipped)
    assert read_model(model).labels == {"y": tuple(map(str, names))}
    artifact = compile_model(model, target="reference", mode="call")
    assert artifact.description.outputs == {"y": tuple(map(str, names))}
    assert artifact.manifest["check"]["done"]
