"""QuantizeLinear and DequantizeLinear: weights in integers, numbers rounded to a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.ops import Cast, Unary
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, Results, shape_of
from edgelstm_compiler.onnx_import.tensors import ELEMENT_TYPES, element_name, integer_limits


def import_dequantize_linear(node: OnnxNode) -> Results:
    """DequantizeLinear-10, -13 (axis), -19, -21 (blocks, 4 bits) to -28: (x - zero) * scale."""
    x = node.operand(0)
    scale = _spread(node, 1, "the scale", shape_of(x))
    zero = None if node.optional(2) is None else _spread(node, 2, "the zero point", shape_of(x))
    target = _output_type(node, scale.dtype)
    if isinstance(x, Known):
        if integer_limits(x.data.dtype) is None:
            raise RefusedError(f"'{x.name}' has elements of type {x.data.dtype}")
        codes = x.data.astype(np.int64)
        centred = codes if zero is None else codes - zero.astype(np.int64)
        return [node.derived(x, "dequantized", (centred.astype(np.float32) * scale).astype(target))]
    if x.type.dtype.is_float or x.type.dtype in (DType.BOOL, DType.I64):
        raise RefusedError(f"'{x.name}' has elements of type {x.type.dtype.value}")
    found: Operand = node.emit(Cast(DType.F32), x)
    if zero is not None and zero.any():
        offset = composing.array(node, "zero", zero.astype(np.float32))
        found = composing.subtract(node, found, offset)
    return [composing.multiply(node, found, composing.array(node, "scale", scale))]


def import_quantize_linear(node: OnnxNode) -> Results:
    """QuantizeLinear-10, -13 (axis), -19, -21 (blocks, 4 bits), -23 to -28.

    Halves go to the even neighbour, and what lies beyond the type's range to its end.
    """
    x = node.operand(0)
    scale = _spread(node, 1, "the scale", shape_of(x))
    zero = None if node.optional(2) is None else _spread(node, 2, "the zero point", shape_of(x))
    target = _output_type(node, np.dtype(np.uint8) if zero is None else zero.dtype)
    limits = integer_limits(target)
    if limits is None:
        raise RefusedError(f"it quantizes to {target}; integers of 4, 8 and 16 bits are supported")
    if isinstance(x, Known):
        with np.errstate(all="ignore"):
            codes = np.rint(x.data.astype(np.float32) / scale)
        if zero is not None:
            codes = codes + zero.astype(np.float32)
        return [node.derived(x, "quantized", np.clip(codes, *limits).astype(target))]
    check_float(x)
    try:
        dtype = DType.from_numpy(target)
    except KeyError as error:
        raise RefusedError(
            f"it quantizes computed numbers to {target}; int8, uint8 and int16 are supported"
        ) from error
    found = composing.divide(node, x, composing.array(node, "scale", scale))
    found = composing.function(node, Fn.ROUND, found)
    if zero is not None and zero.any():
        offset = composing.array(node, "zero", zero.astype(np.float32))
        found = composing.add(node, found, offset)
    found = node.emit(Unary(Activation(Fn.CLIP, *map(float, limits))), found)
    return [node.emit(Cast(dtype), found)]


def _spread(node: OnnxNode, index: int, what: str, shape: tuple[int, ...]) -> Array:
    """Scale or zero point for every element: one for all, one a slice, or one a block."""
    data = node.constant(index, what)
    if what == "the scale":
        if data.dtype.kind != "f" and data.dtype != ELEMENT_TYPES[onnx.TensorProto.BFLOAT16]:
            raise RefusedError(f"its scale has elements of type {data.dtype}")
        if data.dtype != np.float64:
            data = data.astype(np.float32)
    block = node.integer("block_size", 0)
    if data.size == 1 and data.ndim <= 1:
        return data.reshape(())
    axis = node.axis(node.integer("axis", 1), len(shape))
    if not block:
        if data.shape != (shape[axis],):
            raise ShapeError(
                f"{node.origin}: {what} has shape {data.shape}, expected ({shape[axis]},) for "
                f"axis {axis} of {shape}"
            )
        return data.reshape((-1, *[1] * (len(shape) - axis - 1)))
    blocks = -(-shape[axis] // block)
    expected = (*shape[:axis], blocks, *shape[axis + 1 :])
    if data.shape != expected:
        raise ShapeError(
            f"{node.origin}: {what} has shape {data.shape}, expected {expected} for blocks of "
            f"{block} along axis {axis} of {shape}"
        )
    return np.take(np.repeat(data, block, axis), range(shape[axis]), axis)


def _output_type(node: OnnxNode, default: np.dtype[Any]) -> np.dtype[Any]:
    code = node.integer("output_dtype", 0)
    if not code:
        return default
    if code not in ELEMENT_TYPES:
        raise RefusedError(f"its output_dtype is {element_name(code)}")
    return ELEMENT_TYPES[code]
