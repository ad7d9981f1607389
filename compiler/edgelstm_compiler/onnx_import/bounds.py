"""Between which bounds a known tensor stays at every number of frames, where it is no line.

What stays between bounds that meet is fixed after all: `Max(T, 5) == 0` is false at any T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.frames import Line, Opaque, Repeated
from edgelstm_compiler.onnx_import.source import Known

Bounds = tuple["Array", "Array"]

_UNMOVED = frozenset(("Identity", "Unsqueeze", "Squeeze", "Transpose", "Flatten", "Reshape"))
_TAKEN = frozenset(("Gather", "Slice", "Split"))


def bounds_of(item: Known, frames: int) -> Bounds | None:
    """The smallest and largest that each element may be, from one frame up."""
    if isinstance(item.frames, Repeated):
        return None
    if isinstance(item.frames, Opaque):
        found = item.frames.bounds
        return None if found is None or found[0].shape != item.shape else found
    data = np.asarray(item.trial)
    if data.dtype.kind not in "iufb":
        return None
    exact = data.astype(np.float64)
    if not isinstance(item.frames, Line):
        return exact, exact
    slope = item.frames.slope.astype(np.float64)
    first = exact - slope * (frames - 1)
    low = np.where(slope < 0, -np.inf, first)
    return low, np.where(slope > 0, np.inf, first)


def result_bounds(
    node: onnx.NodeProto,
    inputs: Sequence[Known | None],
    result: Array,
    recompute: Callable[[Sequence[Array | None]], list[Array]],
    frames: int,
) -> Bounds | None:
    """The bounds of a node's one result; None where nothing is known of them."""
    known = [None if item is None else bounds_of(item, frames) for item in inputs]
    present = [found for found in known if found is not None]
    if len(present) != len(inputs) or result.dtype.kind not in "iufb":
        return None
    if node.op_type in _UNMOVED or node.op_type in _TAKEN or node.op_type == "Concat":
        parts = present if node.op_type == "Concat" else present[:1]
        rest = [] if node.op_type == "Concat" else list(inputs[1:])
        if any(item is not None and item.frames is not None for item in rest):
            return None
        others = [None if item is None else item.trial for item in rest]
        ends = [recompute([*(part[side] for part in parts), *others])[0] for side in (0, 1)]
        return _checked(ends[0], ends[1], result)
    rule = _RULES.get(node.op_type)
    if rule is None:
        return None
    found = rule(_Operands(present, result))
    return None if found is None else _checked(*found, result)


def _checked(low: Array, high: Array, result: Array) -> Bounds | None:
    ends = [np.broadcast_to(np.asarray(end, np.float64), result.shape) for end in (low, high)]
    return None if np.isnan(ends).any() else (ends[0], ends[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Operands:
    """Bounds of the operands, and the result at the trial number of frames."""

    bounds: Sequence[Bounds]
    result: Array

    @property
    def is_integer(self) -> bool:
        return self.result.dtype.kind in "iu"


Rule = Callable[[_Operands], "Bounds | None"]


def _add(x: _Operands) -> Bounds | None:
    lows, highs = zip(*x.bounds, strict=True)
    return np.asarray(sum(lows)), np.asarray(sum(highs))


def _sub(x: _Operands) -> Bounds | None:
    (a, b), (c, d) = x.bounds
    return a - d, b - c


def _mul(x: _Operands) -> Bounds | None:
    (a, b), (c, d) = x.bounds
    ends = [np.where((p == 0) | (q == 0), 0.0, p * q) for p in (a, b) for q in (c, d)]
    return np.minimum.reduce(ends), np.maximum.reduce(ends)


def _div(x: _Operands) -> Bounds | None:
    """By what is fixed and above zero; integers towards zero, which keeps their order."""
    (a, b), (c, d) = x.bounds
    if not np.array_equal(c, d) or not np.all(c > 0):
        return None
    low, high = a / c, b / c
    return (np.trunc(low), np.trunc(high)) if x.is_integer else (low, high)


def _mod(x: _Operands) -> Bounds | None:
    """Of what is not below zero, by what is fixed and above zero."""
    (a, b), (c, d) = x.bounds
    if not x.is_integer or not np.array_equal(c, d) or not (np.all(c > 0) and np.all(a >= 0)):
        return None
    is_itself = b < c
    return np.where(is_itself, a, 0.0), np.where(is_itself, b, c - 1)


def _min(x: _Operands) -> Bounds | None:
    lows, highs = zip(*x.bounds, strict=True)
    return np.minimum.reduce(np.broadcast_arrays(*lows)), np.minimum.reduce(
        np.broadcast_arrays(*highs)
    )


def _max(x: _Operands) -> Bounds | None:
    lows, highs = zip(*x.bounds, strict=True)
    return np.maximum.reduce(np.broadcast_arrays(*lows)), np.maximum.reduce(
        np.broadcast_arrays(*highs)
    )


def _neg(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    return -b, -a


def _abs(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    low = np.where((a <= 0) & (b >= 0), 0.0, np.minimum(np.abs(a), np.abs(b)))
    return low, np.maximum(np.abs(a), np.abs(b))


def _cast(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    if x.result.dtype.kind == "b":
        is_zero, never_zero = (a == 0) & (b == 0), (a > 0) | (b < 0)
        return np.where(never_zero, 1.0, 0.0), np.where(is_zero, 0.0, 1.0)
    return (np.trunc(a), np.trunc(b)) if x.is_integer else (a, b)


def _floor(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    return np.floor(a), np.floor(b)


def _ceil(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    return np.ceil(a), np.ceil(b)


def _compare(op: str) -> Rule:
    def rule(x: _Operands) -> Bounds | None:
        (a, b), (c, d) = x.bounds
        always, never = {
            "Less": (b < c, a >= d),
            "LessOrEqual": (b <= c, a > d),
            "Greater": (a > d, b <= c),
            "GreaterOrEqual": (a >= d, b < c),
            "Equal": ((a == b) & (c == d) & (a == c), (b < c) | (a > d)),
        }[op]
        return np.where(always, 1.0, 0.0), np.where(never, 0.0, 1.0)

    return rule


def _not(x: _Operands) -> Bounds | None:
    ((a, b),) = x.bounds
    return 1 - b, 1 - a


def _where(x: _Operands) -> Bounds | None:
    condition, (a, b), (c, d) = x.bounds
    always, never = condition[0] > 0, condition[1] == 0
    low = np.where(always, a, np.where(never, c, np.minimum(a, c)))
    return low, np.where(always, b, np.where(never, d, np.maximum(b, d)))


_RULES: dict[str, Rule] = {
    "Add": _add,
    "Sum": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Mod": _mod,
    "Min": _min,
    "And": _min,
    "Max": _max,
    "Or": _max,
    "Neg": _neg,
    "Abs": _abs,
    "Cast": _cast,
    "Floor": _floor,
    "Ceil": _ceil,
    "Not": _not,
    "Where": _where,
    **{
        name: _compare(name)
        for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
    },
}
