"""ONNX operators of attention: Attention, RotaryEmbedding."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.ops import Compare, Comparison, Concat, Gather
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.ops.attending import (
    attend,
    before_length,
    behind_past,
    beside,
    finite_bias,
    join_heads,
    repeat_heads,
    split_heads,
    window,
)
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.ops.layout import take_range
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


def import_attention(node: OnnxNode) -> Results:
    """Attention-23, -24 (nonpad_kv_seqlen), -25 (windows)."""
    q, k, v = (node.operand(index) for index in range(3))
    check_float(q, k, v)
    if node.integer("softmax_precision", 1) not in (1, 11):
        raise RefusedError("its softmax_precision is less than float32")
    is_flat = len(shape_of(q)) == 3
    if is_flat:
        heads, shared = node.integer("q_num_heads", 0), node.integer("kv_num_heads", 0)
        q, k, v = (split_heads(node, x, n) for x, n in ((q, heads), (k, shared), (v, shared)))
    for name, x in (("Q", q), ("K", k), ("V", v)):
        if len(shape_of(x)) != 4:
            raise ShapeError(f"{node.origin}: {name} has shape {shape_of(x)}")
    past = 0 if node.optional(4) is None else shape_of(node.operand(4))[2]
    k, v = behind_past(node, node.optional(4), k), behind_past(node, node.optional(5), v)
    present = (k, v)
    heads, steps, total = shape_of(q)[1], shape_of(q)[2], shape_of(k)[2]
    k, v = repeat_heads(node, k, heads), repeat_heads(node, v, heads)
    biases: list[Operand] = []
    allowed: list[Operand] = []
    _add_mask(node, total, biases, allowed)
    lengths = node.optional(6)
    if lengths is not None:
        allowed.append(before_length(node, lengths, total))
    left, right = (
        None if bound < 0 else bound
        for bound in (node.integer("left_window_size", -1), node.integer("right_window_size", -1))
    )
    if node.integer("is_causal", 0):
        right = 0
    if left is not None or right is not None:
        if lengths is None:
            seen = window(steps, total, past, left, right)
            allowed.append(composing.array(node, "window", seen))
        else:
            allowed += _moving_window(node, lengths, steps, total, (left, right))
    scale = node.number("scale", 0.0) if "scale" in node.attributes else None
    softcap = node.number("softcap", 0.0)
    found = attend(node, q, k, v, scale=scale, softcap=softcap, biases=biases, allowed=allowed)
    if node.is_wanted(3) and node.integer("qk_matmul_output_mode", 0) == 2 and allowed:
        raise RefusedError("its output qk_matmul_output of mode 2 holds minus infinity")
    stages = (found.raw, found.capped, found.biased, found.weights)
    stage = node.integer("qk_matmul_output_mode", 0)
    if not 0 <= stage < len(stages):
        raise ModelError(f"{node.origin}: qk_matmul_output_mode is {stage}")
    y = join_heads(node, found.y) if is_flat else found.y
    return [y, *present, stages[stage]]


def _add_mask(node: OnnxNode, total: int, biases: list[Operand], allowed: list[Operand]) -> None:
    """The mask: truth values, or numbers that are added; what it lacks is not allowed."""
    mask = node.optional(3)
    if mask is None:
        return
    kind = type_of(mask)
    own = shape_of(mask)[-1] if shape_of(mask) else 1
    if own not in (1, total):
        allowed.append(composing.array(node, "masked", np.arange(total) < own))
        assert kind is not None
        rest = np.zeros((*shape_of(mask)[:-1], total - own), kind.dtype.numpy)
        mask = beside(node, mask, composing.array(node, "rest", rest))
    if kind is not None and kind.dtype is DType.BOOL:
        allowed.append(mask)
        return
    check_float(mask)
    bias, is_open = finite_bias(node, mask)
    biases.append(bias)
    if is_open is not None:
        allowed.append(is_open)


def _moving_window(
    node: OnnxNode,
    lengths: Operand,
    steps: int,
    total: int,
    bounds: tuple[int | None, int | None],
) -> list[Operand]:
    """Windows whose queries are the last of as many keys as each row has."""
    spread = node.reshape(lengths, (*shape_of(lengths), 1, 1, 1))
    relative = np.arange(total)[None, :] - np.arange(steps)[:, None] + steps
    found: list[Operand] = []
    for bound, comparison, sign in (
        (bounds[0], Comparison.GREATER_OR_EQUAL, -1),
        (bounds[1], Comparison.LESS_OR_EQUAL, 1),
    ):
        if bound is None:
            continue
        if isinstance(spread, Known):
            edge = spread.data + sign * bound
            seen = relative >= edge if sign < 0 else relative <= edge
            found.append(composing.array(node, "window", np.asarray(seen)))
            continue
        places = (relative - sign * bound).astype(spread.type.dtype.numpy)
        place = composing.array(node, "places", places)
        found.append(node.emit(Compare(comparison), place, spread))
    return found


def import_rotary(node: OnnxNode) -> Results:
    """RotaryEmbedding-23."""
    return [rotate(node, cosines=1, sines=2, positions=3)]


def import_rotary_contrib(node: OnnxNode) -> Results:
    """RotaryEmbedding of com.microsoft: the positions come second, one for all or one a frame."""
    if node.integer("is_packed_batching", 0):
        raise RefusedError("is_packed_batching is 1")
    if node.number("scale", 1.0) != 1.0:
        raise RefusedError("its scale is not 1")
    return [rotate(node, cosines=2, sines=3, positions=1)]


def rotate(node: OnnxNode, *, cosines: int, sines: int, positions: int) -> Operand:
    """Pairs of elements turned by the angle of their place.

    Args:
        node: the operator; X is its first input.
        cosines: place of the input with the table of cosines.
        sines: place of that with sines.
        positions: place of that with positions, where there are some.
    """
    x = node.operand(0)
    check_float(x)
    flat = len(shape_of(x)) == 3
    size = node.integer("rotary_embedding_dim", 0)
    heads = node.integer("num_heads", 0)
    if flat:
        if not heads:
            # com.microsoft: a head is twice as wide as a row of the table.
            heads = shape_of(x)[2] // max(1, 2 * shape_of(node.operand(cosines))[-1])
        x = split_heads(node, x, heads)
    _, _, steps, width = shape_of(x)
    size = size or width
    tables = []
    for place in (cosines, sines):
        table = _table(node, node.operand(place), node.optional(positions), steps)
        if shape_of(table)[-1] != size // 2:
            raise ShapeError(
                f"{node.origin}: a table with rows of {shape_of(table)[-1]} for a rotation of "
                f"{size} elements"
            )
        rows = shape_of(table)
        tables.append(node.reshape(table, (rows[0], 1, *rows[1:])))
    cosine, sine = tables
    is_mixed = bool(node.integer("interleaved", 0))
    turned = take_range(node, x, 3, range(size))
    step, half = (2, 1) if is_mixed else (1, size // 2)
    a = take_range(node, turned, 3, range(0, size if is_mixed else half, step))
    b = take_range(node, turned, 3, range(half, size, step))
    real = composing.subtract(
        node, composing.multiply(node, cosine, a), composing.multiply(node, sine, b)
    )
    imaginary = composing.add(
        node, composing.multiply(node, sine, a), composing.multiply(node, cosine, b)
    )
    if is_mixed:
        own = shape_of(real)
        pair = [node.reshape(item, (*own, 1)) for item in (real, imaginary)]
        found = node.reshape(node.emit(Concat(4), *pair), (*own[:3], size))
    else:
        found = node.emit(Concat(3), real, imaginary)
    if size < width:
        found = node.emit(Concat(3), found, take_range(node, x, 3, range(size, width)))
    return join_heads(node, found) if flat else found


def _table(node: OnnxNode, table: Operand, positions: Operand | None, steps: int) -> Operand:
    """The rows of a table that belong to the frames (B or 1, S, ...)."""
    if positions is None:
        if len(shape_of(table)) != 3:
            raise ShapeError(
                f"{node.origin}: without position_ids a table has three axes, found "
                f"{shape_of(table)}"
            )
        return table
    shape = shape_of(positions)
    if shape in ((1,), ()):
        # The first frame's position; the others follow it.
        ahead = composing.array(node, "ahead", np.arange(steps, dtype=np.int64)[None])
        first = node.reshape(positions, (1, 1))
        if isinstance(first, Known):
            positions = node.derived(first, "positions", first.data + ahead.data)
        else:
            positions = composing.add(node, first, ahead)
    if isinstance(positions, Known):
        limit = shape_of(table)[0]
        if ((positions.data < 0) | (positions.data >= limit)).any():
            raise ShapeError(f"{node.origin}: a position lies beyond the {limit} rows of its table")
        if isinstance(table, Known):
            return node.derived(table, "rows", table.data[positions.data])
    return node.emit(Gather(0), table, positions)
