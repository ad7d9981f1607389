"""ONNX operators that normalize: softmax, layer and batch normalization, dropout (inference)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import Arithmetic, Binary, LayerNorm, LogSoftmax, Softmax
from edgelstm_compiler.onnx_import.frames import (
    Opaque,
    RefusedError,
    product,
    repeated_or_none,
)
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.constant import filled
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.ops.masks import without_infinity
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    growth_of,
    shape_of,
    type_of,
)


def import_softmax(node: OnnxNode) -> Results:
    """Softmax-1, -11 (over all axes from `axis`), -13 (over one axis)."""
    return [_over_axis(node, Softmax)]


def import_log_softmax(node: OnnxNode) -> Results:
    """LogSoftmax-1, -11, -13."""
    return [_over_axis(node, LogSoftmax)]


def _over_axis(node: OnnxNode, op: type[Softmax]) -> Operand:
    x = node.operand(0)
    check_float(x)
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", -1 if node.opset >= 13 else 1), len(shape))
    if node.opset >= 13 or math.prod(shape[axis:]) == shape[axis]:
        return node.emit(op(axis), without_infinity(node, x, axis) if op is Softmax else x)
    extents = node.extents(x)
    flat = node.reshape(x, (product(extents[:axis]), product(extents[axis:])))
    return node.reshape(node.emit(op(1), flat), extents)


def import_layer_norm(node: OnnxNode) -> Results:
    """LayerNormalization-17, with the mean and the inverse deviation where they are asked for."""
    x, scale, bias = node.operand(0), node.operand(1), node.optional(2)
    check_float(x, scale, bias)
    stash = node.integer("stash_type", 1)
    if stash != 1:
        raise RefusedError(f"stash_type is {stash}; statistics are computed in float32 (1)")
    shape = shape_of(x)
    axis = node.axis(node.integer("axis", -1), len(shape))
    epsilon = node.number("epsilon", 1e-5)
    if not 0 <= epsilon < math.inf:
        raise RefusedError(f"epsilon is {epsilon}")
    scale = _spread(node, "the scale", scale, shape[axis:])
    if bias is not None:
        bias = _spread(node, "the bias", bias, shape[axis:])
    result = node.emit(LayerNorm(axis, epsilon), x, scale, bias)
    if not (node.is_wanted(1) or node.is_wanted(2)):
        return [result]
    axes = tuple(range(axis, len(shape)))
    mean = composing.mean(node, x, axes)
    centred = composing.subtract(node, x, mean)
    variance = composing.mean(node, composing.multiply(node, centred, centred), axes)
    shifted = composing.add(node, variance, composing.number(node, "epsilon", epsilon, x))
    deviation = composing.function(node, Fn.SQRT, shifted)
    return [result, mean, composing.function(node, Fn.RECIPROCAL, deviation)]


def _spread(node: OnnxNode, what: str, operand: Operand, shape: tuple[int, ...]) -> Operand:
    """Scale or bias in exactly the shape of the normalized axes."""
    own = shape_of(operand)
    if own == shape:
        return operand
    try:
        # Leading ones are allowed: the operand spreads over the whole of X.
        fits = len(own) < len(shape) or set(own[: len(own) - len(shape)]) <= {1}
        core = own[max(0, len(own) - len(shape)) :]
        fits = fits and np.broadcast_shapes(core, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{node.origin}: {what} has shape {own}, expected {shape}")
    if not isinstance(operand, Known):
        raise RefusedError(f"{what} is computed at run time in shape {own}, expected {shape}")
    return node.derived(operand, "spread", np.broadcast_to(operand.data.reshape(core), shape))


def import_batch_norm(node: OnnxNode) -> Results:
    """BatchNormalization-7 to -15 at inference: x * a + b for each channel (axis 1)."""
    x = node.operand(0)
    check_float(x)
    if node.integer("training_mode", 0):
        raise RefusedError("training_mode is 1; export the model in evaluation mode")
    if any(node.is_wanted(index) for index in range(1, 5)):
        raise RefusedError("its training outputs are used; export the model in evaluation mode")
    if node.opset < 9 and not node.integer("spatial", 1):
        raise RefusedError("spatial is 0; only one mean for each channel is supported")
    shape = shape_of(x)
    if len(shape) < 2:
        raise ShapeError(f"{node.origin}: X has shape {shape}, expected a batch and channels")
    names = ("the scale", "the bias", "the mean", "the variance")
    scale, bias, mean, variance = (
        node.constant(index, name).astype(np.float64) for index, name in enumerate(names, start=1)
    )
    for name, data in zip(names, (scale, bias, mean, variance), strict=True):
        if data.shape != (shape[1],):
            raise ShapeError(
                f"{node.origin}: {name} has shape {data.shape}, expected ({shape[1]},) for the "
                f"channels of {shape}"
            )
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
        offset = bias - mean * factor
    # One axis for each of x behind the channels.
    spread = (shape[1], *[1] * (len(shape) - 2))
    factors = Known(f"{node.name}.factor", factor.astype(np.float32).reshape(spread))
    offsets = Known(f"{node.name}.offset", offset.astype(np.float32).reshape(spread))
    scaled = node.emit(Binary(Arithmetic.MUL), x, factors)
    return [node.emit(Binary(Arithmetic.ADD), scaled, offsets)]


def import_dropout(node: OnnxNode) -> Results:
    """Dropout-7, -10, -12, -13, -22 at inference: nothing is dropped."""
    x = node.operand(0)
    mode = node.optional(2)
    if node.opset >= 12 and mode is not None:
        if not isinstance(mode, Known):
            raise RefusedError("training_mode is computed at run time; export for inference")
        if mode.data.any():
            raise RefusedError("training_mode is true; export the model in evaluation mode")
    kind = type_of(x)
    mask_dtype: np.dtype[np.generic] = np.dtype(np.bool_)
    if node.opset < 10 and kind is not None and kind.dtype is not DType.BOOL:
        mask_dtype = kind.dtype.numpy
    if not node.is_wanted(1):
        return [x, None]
    mask = filled(node, "mask", shape_of(x), np.ones((), mask_dtype))
    growth = growth_of(x, node.builder)
    known = [grows for grows in growth if grows is not None]
    frames = repeated_or_none(known) if len(known) == len(growth) else Opaque(node.origin)
    return [x, replace(mask, frames=frames)]
