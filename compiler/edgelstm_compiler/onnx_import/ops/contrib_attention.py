"""Attention as ONNX Runtime's optimizer writes it: two operators of com.microsoft."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ShapeError
from edgelstm_compiler.ir.ops import Concat, Dense, MatMul, Where
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.attending import (
    attend,
    before_length,
    behind_past,
    finite_bias,
    is_true,
    join_heads,
    split_heads,
    window,
)
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, Results, shape_of

FILTER = -10000.0
"""What is added to products that a mask leaves out, unless the node says another number."""


def import_attention(node: OnnxNode) -> Results:
    """Attention of com.microsoft: with the products that give queries, keys and values."""
    x, weights, bias = node.operand(0), node.operand(1), node.optional(2)
    check_float(x, weights, bias)
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.integer(name, 0):
            raise RefusedError(f"{name} is {node.integer(name, 0)}; only 0 is supported")
    heads = node.integer("num_heads", 0)
    total = shape_of(weights)[-1]
    sizes = node.int_list("qkv_hidden_sizes") or (total // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != total:
        raise ShapeError(f"{node.origin}: weights of {total} columns for {sizes}")
    if isinstance(weights, Known):
        product: Operand = node.emit(Dense(), x, weights, bias)
    else:
        product = node.emit(MatMul(), x, weights)
        product = product if bias is None else composing.add(node, product, bias)
    parts = []
    start = 0
    for size in sizes:
        part = take_range(node, product, 2, range(start, start + size))
        parts.append(split_heads(node, part, heads))
        start += size
    q, k, v = parts
    past = node.optional(4)
    if past is not None:
        earlier = [
            node.reshape(take_range(node, past, 0, range(at, at + 1)), shape_of(past)[1:])
            for at in (0, 1)
        ]
        k, v = (behind_past(node, old, new) for old, new in zip(earlier, (k, v), strict=True))
    present: Operand | None = None
    if node.is_wanted(1):
        both = [node.reshape(item, (1, *shape_of(item))) for item in (k, v)]
        present = node.emit(Concat(0), *both)
    return [_attended(node, (q, k, v), mask=3, bias=5), present]


def import_multi_head(node: OnnxNode) -> Results:
    """MultiHeadAttention of com.microsoft: queries, keys and values that were made before."""
    heads = node.integer("num_heads", 0)
    q, k, v = _three(node, heads)
    if node.optional(8) is not None or node.optional(9) is not None:
        raise RefusedError("it shares one buffer of past and present keys; export without it")
    k, v = behind_past(node, node.optional(6), k), behind_past(node, node.optional(7), v)
    if node.is_wanted(3):
        raise RefusedError("its output qk is used")
    return [_attended(node, (q, k, v), mask=4, bias=5), k, v]


def _three(node: OnnxNode, heads: int) -> tuple[Operand, Operand, Operand]:
    """Queries, keys and values by head, with the bias of the product that made them."""
    q, k, v = node.operand(0), node.optional(1), node.optional(2)
    check_float(q, k, v)
    bias = node.optional(3)
    flat: list[Operand] = []
    if len(shape_of(q)) == 5:
        flat = _unpacked(node, q, 3)
    elif k is not None and len(shape_of(k)) == 5:
        flat = [q, *_unpacked(node, k, 2)]
    elif k is None or v is None:
        raise ShapeError(f"{node.origin}: queries {shape_of(q)} without keys and values")
    else:
        flat = [q, k, v]
    start = 0
    found = []
    for item in flat:
        if len(shape_of(item)) == 4:
            found.append(item)
            continue
        size = shape_of(item)[2]
        if bias is not None:
            own = take_range(node, bias, 0, range(start, start + size))
            item = composing.add(node, item, own)
        start += size
        found.append(split_heads(node, item, heads))
    return found[0], found[1], found[2]


def _unpacked(node: OnnxNode, x: Operand, count: int) -> list[Operand]:
    """(B, S, N, count, H) as `count` tensors (B, S, N*H)."""
    batch, steps, heads, packed, size = shape_of(x)
    if packed != count:
        raise ShapeError(f"{node.origin}: {shape_of(x)} packs {packed} tensors, expected {count}")
    return [
        node.reshape(take_range(node, x, 3, range(at, at + 1)), (batch, steps, heads * size))
        for at in range(count)
    ]


def _attended(node: OnnxNode, parts: Sequence[Operand], *, mask: int, bias: int) -> Operand:
    q, k, v = parts
    steps, total = shape_of(q)[2], shape_of(k)[2]
    biases: list[Operand] = []
    allowed: list[Operand] = []
    given = node.optional(bias)
    if given is not None:
        added, is_open = finite_bias(node, given)
        biases.append(added)
        allowed += [] if is_open is None else [is_open]
    left_out = node.optional(mask)
    if left_out is not None:
        biases.append(_filtered(node, left_out, shape_of(q)[0], total))
    if node.integer("unidirectional", 0):
        seen = window(steps, total, total - steps, None, 0)
        allowed.append(composing.array(node, "causal", seen))
    scale = node.number("scale", 0.0) or None
    found = attend(node, q, k, v, scale=scale, biases=biases, allowed=allowed)
    return join_heads(node, found.y)


def _filtered(node: OnnxNode, mask: Operand, batch: int, total: int) -> Operand:
    """What a mask adds to the products: nothing, or the filter's value."""
    shape = shape_of(mask)
    if shape == (batch,):
        kept = before_length(node, mask, total)
    elif shape == (batch, total):
        kept = node.reshape(is_true(node, mask), (batch, 1, 1, total))
    elif len(shape) == 3 and shape[2] == total:
        kept = node.reshape(is_true(node, mask), (shape[0], 1, *shape[1:]))
    else:
        raise RefusedError(
            f"its mask has shape {shape}; ({batch},), ({batch}, {total}) and "
            f"({batch}, S, {total}) are supported"
        )
    value = node.number("mask_filter_value", FILTER)
    if isinstance(kept, Known):
        data = np.where(kept.data, np.float32(0), np.float32(value)).astype(np.float32)
        return composing.array(node, "filter", data)
    zero, low = (
        Known(f"{node.name}.{name}", np.asarray(number, DType.F32.numpy))
        for name, number in (("open", 0.0), ("filter", value))
    )
    return node.emit(Where(), kept, zero, low)
