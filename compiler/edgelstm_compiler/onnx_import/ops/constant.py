"""ONNX operators whose result is known from shapes alone: Constant, Shape, Size, Identity, ..."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.builder import Growth
from edgelstm_compiler.onnx_import.folding import check_folded
from edgelstm_compiler.onnx_import.frames import (
    Dependence,
    FramesDecideError,
    Opaque,
    RefusedError,
    line_or_none,
)
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Results, growth_of, shape_of
from edgelstm_compiler.onnx_import.tensors import ELEMENT_TYPES, element_name, to_array


def import_constant(node: OnnxNode) -> Results:
    """Constant-1 to -25, in each of its attributes but the sparse and the strings."""
    for name, dtype in _CONSTANTS.items():
        found: Any = node.attributes.get(name)
        if found is None:
            continue
        data = to_array(found) if dtype is None else np.asarray(found, dtype)
        return [Known(node.outputs[0] or node.name, data)]
    raise RefusedError(f"its value is given as {', '.join(node.attributes) or 'nothing'}")


_CONSTANTS: dict[str, type[np.generic] | None] = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def import_identity(node: OnnxNode) -> Results:
    """Identity: the same value."""
    return [node.operand(0)]


def import_shape(node: OnnxNode) -> Results:
    """Shape-1, -13, -15 (start, end)."""
    x = node.operand(0)
    place = slice(node.integer("start", 0), node.attributes.get("end"))
    shape = np.asarray(shape_of(x)[place], np.int64)
    growth = growth_of(x, node.builder)[place]
    return [Known(f"{node.name}.shape", shape, _grown_shape(node, shape, growth))]


def _grown_shape(node: OnnxNode, shape: Array, growth: Growth) -> Dependence:
    known = [grows for grows in growth if grows is not None]
    if len(known) == len(growth):
        return line_or_none(np.asarray(known, np.int64))
    # An extent that is no line is at least one, as tensors without elements are refused.
    is_fixed = np.asarray([grows == 0 for grows in growth])
    bounds = (np.where(is_fixed, shape, 1.0), np.where(is_fixed, shape, np.inf))
    return Opaque(node.origin, bounds)


def import_size(node: OnnxNode) -> Results:
    """Size: number of elements."""
    x = node.operand(0)
    size = node.size_of(x)
    line = Opaque(node.origin) if size is None else line_or_none(np.asarray(size.slope, np.int64))
    return [Known(f"{node.name}.size", np.asarray(math.prod(shape_of(x)), np.int64), line)]


def import_constant_of_shape(node: OnnxNode) -> Results:
    """ConstantOfShape-9 and later: one value, repeated."""
    shape = node.ints(0, "the shape")
    found = node.attributes.get("value")
    value = np.zeros(1, np.float32) if found is None else to_array(found)
    if value.size != 1:
        raise ModelError(f"{node.origin}: its value has {value.size} elements, expected one")
    return [filled(node, "filled", shape, value.reshape(()))]


def import_eye_like(node: OnnxNode) -> Results:
    """EyeLike-9, -22: ones on a diagonal, in the shape of the input."""
    x = node.operand(0)
    if any(extent is None or not extent.is_fixed for extent in node.extents(x)):
        raise FramesDecideError("it has a row for each frame, and their number is unknown")
    shape = shape_of(x)
    if len(shape) != 2:
        raise ShapeError(f"{node.origin}: {shape} is no matrix")
    code = node.integer("dtype", 0)
    if code and code not in ELEMENT_TYPES:
        raise RefusedError(f"its dtype is {element_name(code)}")
    own = x.data.dtype if isinstance(x, Known) else x.type.dtype.numpy
    dtype = ELEMENT_TYPES[code] if code else own
    return [Known(f"{node.name}.eye", np.eye(*shape, k=node.integer("k", 0)).astype(dtype))]


def filled(node: OnnxNode, suffix: str, shape: Sequence[int], value: Array) -> Known:
    """One value in a given shape; refused where that would be absurdly large."""
    if min(shape, default=0) < 0:
        raise ShapeError(f"{node.origin}: negative extent in the shape {tuple(shape)}")
    check_folded(value.itemsize * math.prod(shape), node.origin)
    return Known(f"{node.name}.{suffix}", np.broadcast_to(value, tuple(shape)))
