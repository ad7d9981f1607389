"""Minus infinity that masks put in front of softmax: places of no weight, in finite numbers.

softmax gives exactly zero where its operand is the lowest float32 and something else is larger, as
it does at minus infinity. Graphs hold finite constants only: what else reads such a mask is refused
where the graph is finished.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Concat,
    Gather,
    Reshape,
    Slice,
    Transpose,
    Where,
)
from edgelstm_compiler.ir.types import Array, Value
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import composing
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand, shape_of

LOWEST = float(np.finfo(np.float32).min)

_SPREADS = (Binary, Broadcast, Concat, Gather, Reshape, Slice, Transpose)
"""What exporters put between a mask and softmax, so that it fits all heads."""

_Opened: TypeAlias = "tuple[Operand, Array | None]"
"""Finite numbers, and where they hold; None: everywhere."""


def without_infinity(node: OnnxNode, x: Operand, axis: int) -> Operand:
    """What softmax reads along an axis, in finite numbers.

    Raises:
        RefusedError: a row is masked as a whole, or may be: its softmax is NaN.
    """
    if isinstance(x, Known) or not _reads_infinity(node, x):
        return x
    scores, is_open = _opened(node, x, {})
    if is_open is None:
        return x
    is_open = np.broadcast_to(is_open, shape_of(x))
    if not is_open.any(axis=axis).all():
        raise RefusedError("a mask of minus infinity leaves nothing open in a row: it becomes NaN")
    lowest = composing.number(node, "lowest", LOWEST, x)
    return node.emit(Where(), composing.array(node, "open", np.array(is_open)), scores, lowest)


def _reads_infinity(node: OnnxNode, x: Value) -> bool:
    """Whether minus infinity reaches x through what masks; long sums are walked, not recursed."""
    found, waiting = {x}, [x]
    while waiting:
        value = waiting.pop()
        data, producer = node.builder.data_of(value), node.builder.producer(value)
        if data is not None and data.dtype.kind == "f" and (data == -np.inf).any():
            return True
        if producer is not None and isinstance(producer.op, (*_SPREADS, Where)):
            fresh = {item for item in producer.inputs if item is not None} - found
            found |= fresh
            waiting += fresh
    return False


def _opened(node: OnnxNode, x: Value, done: dict[Value, _Opened]) -> _Opened:
    """Undo what masks x; its other operands stay."""
    if x not in done:
        data = node.builder.data_of(x)
        done[x] = _unmasked(node, x, done) if data is None else _finite(node, x, data)
    return done[x]


def _unmasked(node: OnnxNode, x: Value, done: dict[Value, _Opened]) -> _Opened:
    """The same of a computed value."""
    producer = node.builder.producer(x)
    if producer is None:
        return x, None
    parts = [item for item in producer.inputs if item is not None]
    match producer.op:
        case Binary(arithmetic=Arithmetic.ADD):
            (a, open_a), (b, open_b) = (_opened(node, part, done) for part in parts)
            if open_a is None and open_b is None:
                return x, None
            both = open_b if open_a is None else open_a
            if open_a is not None and open_b is not None:
                both = open_a & open_b
            return composing.add(node, a, b), both
        case Where():
            condition, *chosen = parts
            opened = [_opened(node, part, done) for part in chosen]
            if all(is_open is None for _, is_open in opened):
                return x, None
            holds = node.builder.data_of(condition)
            if holds is None:
                raise _computed_mask(condition)
            (a, open_a), (b, open_b) = opened
            places = [True if is_open is None else is_open for is_open in (open_a, open_b)]
            return node.emit(Where(), condition, a, b), np.where(holds, *places)
        case op if isinstance(op, _SPREADS):
            # What is known of a mask was folded before.
            for part in parts:
                if node.builder.data_of(part) is None:
                    _opened(node, part, done)
    return x, None


def _computed_mask(condition: Value) -> RefusedError:
    return RefusedError(
        f"'{condition.name}' says at run time what minus infinity masks, and a row that is masked "
        "as a whole becomes NaN: mask with a finite number, e.g. -1e9, or fix the mask: "
        "--set NAME=VALUE"
    )


def _finite(node: OnnxNode, x: Value, data: Array) -> _Opened:
    """A constant with zeros in place of minus infinity."""
    if data.dtype.kind != "f":
        return x, None
    is_masked = data == -np.inf
    if not is_masked.any():
        return x, None
    zeros = np.where(is_masked, data.dtype.type(0), data)
    return composing.array(node, "bias", np.asarray(zeros)), np.asarray(~is_masked)
