"""Computed indices of ONNX: GatherElements, GatherND, ScatterElements, ScatterND."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import GatherElements, GatherND, Merge, ScatterElements, ScatterND
from edgelstm_compiler.ir.types import TensorType
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


def import_gather_elements(node: OnnxNode) -> Results:
    """GatherElements-11, -13."""
    x, indices = node.operand(0), node.operand(1)
    axis = node.axis(node.integer("axis", 0), len(shape_of(x)))
    _check_indices(node, indices)
    _check_range(node, indices, shape_of(x)[axis])
    return [node.emit(GatherElements(axis), x, indices)]


def import_scatter_elements(node: OnnxNode) -> Results:
    """ScatterElements-11, -13, -16, -18 (reduction), and Scatter-9."""
    x, indices, updates = node.operand(0), node.operand(1), node.operand(2)
    axis = node.axis(node.integer("axis", 0), len(shape_of(x)))
    _check_indices(node, indices)
    _check_range(node, indices, shape_of(x)[axis])
    return [node.emit(ScatterElements(axis, _merge(node)), x, indices, updates)]


def import_gather_nd(node: OnnxNode) -> Results:
    """GatherND-11, -12 (batch_dims), -13."""
    x, indices = node.operand(0), node.operand(1)
    batch = node.integer("batch_dims", 0)
    kind = _check_indices(node, indices)
    _check_vectors(node, indices, shape_of(x)[batch : batch + kind.shape[-1]])
    return [node.emit(GatherND(batch), x, indices)]


def import_scatter_nd(node: OnnxNode) -> Results:
    """ScatterND-11, -13, -16, -18 (reduction)."""
    x, indices, updates = node.operand(0), node.operand(1), node.operand(2)
    kind = _check_indices(node, indices)
    _check_vectors(node, indices, shape_of(x)[: kind.shape[-1]])
    return [node.emit(ScatterND(_merge(node)), x, indices, updates)]


def _merge(node: OnnxNode) -> Merge:
    text = node.text("reduction", "none")
    try:
        return Merge(text)
    except ValueError as error:
        raise ModelError(f"{node.origin}: reduction is {text!r}") from error


def _check_indices(node: OnnxNode, indices: Operand) -> TensorType:
    kind = type_of(indices)
    if kind is None or kind.dtype not in (DType.I32, DType.I64) or not kind.rank:
        raise ModelError(f"{node.origin}: indices must be int32 or int64, found {kind}")
    return kind


def _check_range(node: OnnxNode, indices: Operand, extent: int) -> None:
    if isinstance(indices, Known) and ((indices.data < -extent) | (indices.data >= extent)).any():
        raise ShapeError(f"{node.origin}: an index lies beyond the {extent} elements of its axis")


def _check_vectors(node: OnnxNode, indices: Operand, extents: tuple[int, ...]) -> None:
    if not isinstance(indices, Known):
        return
    if indices.shape[-1] != len(extents):
        raise ShapeError(f"{node.origin}: vectors of {indices.shape[-1]} indices")
    limits = np.asarray(extents)
    if ((indices.data < -limits) | (indices.data >= limits)).any():
        raise ShapeError(f"{node.origin}: an index vector lies beyond {extents}")
