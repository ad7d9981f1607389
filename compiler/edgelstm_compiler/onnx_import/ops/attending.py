"""Scaled dot-product attention over heads: what the attention operators of all domains share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.ops import (
    Cast,
    Compare,
    Comparison,
    Concat,
    Connective,
    Logic,
    MatMul,
    Softmax,
    Where,
)
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import Count, Relative
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.layout import broadcast
from edgelstm_compiler.onnx_import.ops.masks import LOWEST
from edgelstm_compiler.onnx_import.places import frames_apart
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention gives, and the stages in front of it.

    Shapes:
        y (B, N, S, V); the others (B, N, S, L).
    """

    y: Operand
    raw: Operand
    capped: Operand
    biased: Operand
    weights: Operand


def split_heads(node: OnnxNode, x: Operand, heads: int) -> Operand:
    """(B, S, N*H) as (B, N, S, H)."""
    shape = shape_of(x)
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise ShapeError(f"{node.origin}: {shape} cannot be split into {heads} heads")
    batch, steps, _ = node.extents(x)
    by_head = node.reshape(x, (batch, steps, heads, shape[2] // heads))
    return node.transpose(by_head, (0, 2, 1, 3))


def join_heads(node: OnnxNode, x: Operand) -> Operand:
    """(B, N, S, H) as (B, S, N*H)."""
    batch, heads, steps, size = node.extents(x)
    assert heads is not None
    assert size is not None
    joined = heads.at_one * size.at_one
    return node.reshape(node.transpose(x, (0, 2, 1, 3)), (batch, steps, joined))


def repeat_heads(node: OnnxNode, x: Operand, heads: int) -> Operand:
    """Heads of keys and values, each for a group of heads of the queries."""
    batch, own, steps, size = shape_of(x)
    if own == heads:
        return x
    if own < 1 or heads % own:
        raise ShapeError(f"{node.origin}: {heads} heads of queries for {own} of keys and values")
    each = node.reshape(x, (batch, own, 1, steps, size))
    counts = [Count(extent) for extent in (batch, own, heads // own, steps, size)]
    return node.reshape(broadcast(node, each, counts), (batch, heads, steps, size))


def behind_past(node: OnnxNode, past: Operand | None, new: Operand) -> Operand:
    """Keys or values behind those of earlier calls."""
    return new if past is None else node.emit(Concat(2), past, new)


def beside(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Two tensors one behind the other along their last axis."""
    axis = len(shape_of(a)) - 1
    if isinstance(a, Known) and isinstance(b, Known):
        return node.derived(a, "longer", np.concatenate([a.data, b.data], axis))
    return node.emit(Concat(axis), a, b)


def attend(
    node: OnnxNode,
    q: Operand,
    k: Operand,
    v: Operand,
    *,
    scale: float | None,
    softcap: float = 0.0,
    biases: Sequence[Operand] = (),
    allowed: Sequence[Operand] = (),
) -> Attended:
    """softmax(q k' scale + biases) v; places that are not allowed have no weight at all.

    Args:
        node: who attends.
        q: queries.
        k: keys.
        v: values.
        scale: None: one over the root of the size of a head.
        softcap: bound of the products, or 0.
        biases: added to them.
        allowed: truth values; where any is false the weight is zero, and a row without places is
            zero, too.

    Shapes:
        q (B, N, S, H), k (B, N, L, H), v (B, N, L, V).
    """
    size = shape_of(q)[-1]
    factor = 1 / math.sqrt(size) if scale is None else scale
    scaled = composing.multiply(node, q, composing.number(node, "scale", factor, q))
    raw: Operand = node.emit(MatMul(), scaled, node.transpose(k, (0, 1, 3, 2)))
    capped = raw
    if softcap:
        bound = composing.number(node, "softcap", softcap, q)
        capped = composing.function(node, Fn.TANH, composing.divide(node, raw, bound))
        capped = composing.multiply(node, capped, bound)
    biased = capped
    for bias in biases:
        biased = composing.add(node, biased, bias)
    is_allowed: Operand | None = None
    for mask in allowed:
        is_allowed = mask if is_allowed is None else both(node, is_allowed, mask)
    if is_allowed is not None:
        lowest = composing.number(node, "lowest", LOWEST, q)
        biased = node.emit(Where(), is_allowed, biased, lowest)
    weights: Operand = node.emit(Softmax(3), biased)
    if is_allowed is not None:
        weights = node.emit(Where(), is_allowed, weights, composing.number(node, "none", 0, q))
    return Attended(node.emit(MatMul(), weights, v), raw, capped, biased, weights)


def both(node: OnnxNode, a: Operand, b: Operand) -> Operand:
    """Where both are allowed."""
    if isinstance(a, Known) and isinstance(b, Known):
        data = np.logical_and(a.trial, b.trial)
        if a.frames is None and b.frames is None:
            return composing.array(node, "allowed", data)
        frames = frames_apart([a, b], data.ndim)
        if frames is not None:
            return Known(f"{node.name}.allowed", data, frames)
    return node.emit(Logic(Connective.AND), a, b)


def finite_bias(node: OnnxNode, mask: Operand) -> tuple[Operand, Operand | None]:
    """A mask that is added; its minus infinities as places that are not allowed."""
    if not isinstance(mask, Known):
        return mask, None
    data = mask.trial if isinstance(mask.frames, Relative) else mask.data
    if np.isfinite(data).all():
        return mask, None
    is_open = np.asarray(data != -np.inf)
    bias = np.where(is_open, data, 0).astype(data.dtype)
    parts = (("bias", bias), ("allowed", is_open))
    added, allowed = (Known(f"{node.name}.{name}", x, mask.frames) for name, x in parts)
    return added, allowed


def is_true(node: OnnxNode, mask: Operand) -> Operand:
    """Integers other than zero."""
    if isinstance(mask, Known):
        return composing.array(node, "allowed", mask.data.astype(np.bool_))
    return node.emit(Cast(DType.BOOL), mask) if mask.type.dtype is not DType.BOOL else mask


def before_length(node: OnnxNode, lengths: Operand, count: int) -> Operand:
    """Which of `count` places lie before the length of each row.

    Shapes:
        lengths (B,) -> (B, 1, 1, count).
    """
    spread = node.reshape(lengths, (*shape_of(lengths), 1, 1, 1))
    dtype = spread.data.dtype if isinstance(spread, Known) else spread.type.dtype.numpy
    places = np.arange(count, dtype=dtype)
    if isinstance(spread, Known):
        return composing.array(node, "allowed", np.asarray(places < spread.data))
    found = composing.array(node, "places", places)
    return node.emit(Compare(Comparison.LESS), found, spread)


def window(steps: int, total: int, offset: int, left: int | None, right: int | None) -> Array:
    """Which places every query sees: from `left` before its own to `right` behind it.

    Args:
        steps: number of queries.
        total: number of keys.
        offset: place of the first query.
        left: None: without bound.
        right: None: without bound.
    """
    own = np.arange(steps)[:, None] + offset
    places = np.arange(total)[None, :]
    seen = np.ones((steps, total), np.bool_)
    if left is not None:
        seen &= places >= own - left
    if right is not None:
        seen &= places <= own + right
    return seen
