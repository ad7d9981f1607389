"""What scikit-learn exporters put around a network (ai.onnx.ml): scaling, labels, probabilities."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Cast,
    Compare,
    Comparison,
    Gather,
    Reduction,
    Where,
)
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)
from edgelstm_compiler.onnx_import.tensors import to_array

NO_STRINGS = (
    "it works on strings, which compiled code does not have: take the number of the class in front "
    "of it as the output, and name the classes when compiling (--labels A,B,...)"
)


def import_scaler(node: OnnxNode) -> Results:
    """Scaler-1: (x - offset) * scale, one of each or one a feature."""
    x = _as_float(node, node.operand(0))
    features = shape_of(x)[-1] if shape_of(x) else 1
    for name, arithmetic in (("offset", Arithmetic.SUB), ("scale", Arithmetic.MUL)):
        numbers = np.asarray(node.numbers(name), np.float32)
        if numbers.size not in (1, features):
            raise ModelError(
                f"{node.origin}: {numbers.size} numbers for the {name} of {features} features"
            )
        factor = composing.array(node, name, numbers if numbers.size > 1 else numbers.reshape(()))
        x = node.emit(Binary(arithmetic), x, factor)
    return [x]


def import_normalizer(node: OnnxNode) -> Results:
    """Normalizer-1: every row over its largest element, sum of magnitudes or length.

    ONNX Runtime leaves a row alone whose norm is zero, and divides by the largest element itself,
    not by its magnitude.
    """
    x = _as_float(node, node.operand(0))
    norm = node.text("norm", "MAX")
    axes = (len(shape_of(x)) - 1,)
    if norm == "MAX":
        size = composing.reduce(node, Reduction.MAX, x, axes)
    elif norm == "L1":
        size = composing.reduce(node, Reduction.SUM, composing.function(node, Fn.ABS, x), axes)
    elif norm == "L2":
        square = composing.reduce(node, Reduction.SUM, composing.multiply(node, x, x), axes)
        size = composing.function(node, Fn.SQRT, square)
    else:
        raise ModelError(f"{node.origin}: norm is {norm!r}, expected MAX, L1 or L2")
    zero, one = (composing.number(node, name, v, x) for name, v in (("zero", 0), ("one", 1)))
    is_zero = node.emit(Compare(Comparison.EQUAL), size, zero)
    return [composing.divide(node, x, node.emit(Where(), is_zero, one, size))]


def import_label_encoder(node: OnnxNode) -> Results:
    """LabelEncoder-2, -4: the value of each key, on integers and floats."""
    x = node.operand(0)
    keys, values = _listed(node, "keys"), _listed(node, "values")
    kind = type_of(x)
    if kind is None or kind.dtype.numpy != keys.dtype:
        raise ModelError(f"{node.origin}: keys of {keys.dtype} for {kind}")
    if keys.size != values.size or not keys.size:
        raise ModelError(f"{node.origin}: {keys.size} keys and {values.size} values")
    if np.unique(keys).size != keys.size:
        raise RefusedError("a key stands twice in its table")
    places = node.reshape(x, (*node.extents(x), 1))
    is_hit = node.emit(Compare(Comparison.EQUAL), places, composing.array(node, "keys", keys))
    table = composing.array(node, "values", values)
    zero = composing.number(node, "zero", 0, table)
    axes = (len(shape_of(x)),)
    found = composing.reduce(node, Reduction.SUM, node.emit(Where(), is_hit, table, zero), axes)
    hits = composing.reduce(node, Reduction.MAX, node.emit(Cast(DType.I32), is_hit), axes)
    is_known = node.emit(Compare(Comparison.NOT_EQUAL), hits, composing.number(node, "no", 0, hits))
    default = composing.array(node, "default", _default(node, values.dtype))
    return [node.reshape(node.emit(Where(), is_known, found, default), node.extents(x))]


def import_zip_map(node: OnnxNode) -> Results:
    """ZipMap-1: the tensor itself; the class names become labels of the output."""
    return [node.operand(0)]


def import_feature_extractor(node: OnnxNode) -> Results:
    """ArrayFeatureExtractor-1: elements of the last axis by constant index."""
    x = node.operand(0)
    indices = node.constant(1, "the indices").reshape(-1)
    axis = len(shape_of(x)) - 1
    if axis < 0 or (indices < 0).any() or (indices >= shape_of(x)[axis]).any():
        raise ShapeError(f"{node.origin}: features {indices.tolist()} of {shape_of(x)}")
    place = composing.array(node, "indices", indices.astype(np.int64))
    found = node.emit(Gather(axis), x, place)
    # ONNX Runtime gives a vector back as one row.
    return [node.reshape(found, (1, indices.size)) if axis == 0 else found]


def import_binarizer(node: OnnxNode) -> Results:
    """Binarizer-1: 1 above the threshold, else 0."""
    x = _as_float(node, node.operand(0))
    bound = composing.number(node, "threshold", node.number("threshold", 0.0), x)
    one, zero = (composing.number(node, name, v, x) for name, v in (("one", 1), ("zero", 0)))
    return [node.emit(Where(), node.emit(Compare(Comparison.GREATER), x, bound), one, zero)]


def _as_float(node: OnnxNode, x: Operand) -> Operand:
    kind = type_of(x)
    if kind is None or kind.dtype is DType.BOOL:
        raise RefusedError(f"its input is {kind}, expected numbers")
    if kind.dtype.is_float:
        return x
    if isinstance(x, Known):
        return node.derived(x, "float", x.data.astype(np.float32))
    return node.emit(Cast(DType.F32), x)


def _listed(node: OnnxNode, what: str) -> Array:
    """The keys or values of a LabelEncoder."""
    for name, dtype in ((f"{what}_int64s", np.int64), (f"{what}_floats", np.float32)):
        found = node.attributes.get(name)
        if found is not None and len(found):
            return np.asarray(found, dtype)
    tensor = node.attributes.get(f"{what}_tensor")
    if tensor is not None and tensor.data_type != 8:
        return to_array(tensor).reshape(-1)
    raise RefusedError(NO_STRINGS)


def _default(node: OnnxNode, dtype: np.dtype[np.generic]) -> Array:
    """What keys get that the table does not have."""
    tensor = node.attributes.get("default_tensor")
    if tensor is not None and tensor.data_type:
        return to_array(tensor).reshape(()).astype(dtype)
    name, value = ("default_float", -0.0) if dtype.kind == "f" else ("default_int64", -1)
    return np.asarray(node.attributes.get(name, value), dtype)
