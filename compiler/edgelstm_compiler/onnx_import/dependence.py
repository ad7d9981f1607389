"""How operators on known tensors pass on what depends on the number of frames.

Whatever no rule here covers becomes opaque: a rule has to be right at every number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.onnx_import.bounds import result_bounds
from edgelstm_compiler.onnx_import.frames import (
    TO_THE_END,
    Dependence,
    Line,
    Opaque,
    RefusedError,
    Repeated,
    is_line,
    line_or_none,
    repeated_or_none,
)
from edgelstm_compiler.onnx_import.places import ELEMENTWISE, Recompute, placed_frames
from edgelstm_compiler.onnx_import.source import Known

_MOVES = frozenset(("Identity", "Transpose", "Unsqueeze", "Concat"))
"""What grown tensors go through without their frames being told apart."""

_SHAPED_BY = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Reshape": 1}
"""Operators whose result has the extents that one of their inputs names."""

_SELECTIONS = frozenset(
    (
        *("Identity", "Gather", "Slice", "Unsqueeze", "Squeeze", "Reshape", "Transpose"),
        *("Flatten", "Split", "Expand", "Tile"),
    )
)
_LINEAR = frozenset(("Concat", "Add", "Sub", "Neg", "Sum"))


def depend(
    node: onnx.NodeProto,
    inputs: Sequence[Known | None],
    results: Sequence[Array],
    recompute: Recompute,
    frames: int,
    origin: str,
) -> list[Dependence]:
    """How the results of a node on known inputs depend on the number of frames.

    Args:
        node: its operator, for the attributes.
        inputs: at least one of them depends on the number of frames.
        results: what the node gives at the trial number of frames.
        recompute: the node on other inputs of the same kind.
        frames: the trial number of frames.
        origin: how messages call the node.
    """
    placed = placed_frames(node, inputs, results, recompute)
    found = _dependences(node, inputs, results, recompute, frames, origin)
    if placed is None:
        return found
    (plain,) = found
    if not isinstance(plain, Opaque):
        return found
    return [replace(placed, origin=plain.origin, bounds=plain.bounds)]


def _dependences(
    node: onnx.NodeProto,
    inputs: Sequence[Known | None],
    results: Sequence[Array],
    recompute: Recompute,
    frames: int,
    origin: str,
) -> list[Dependence]:
    """The same, but for places among the frames."""
    present = [item for item in inputs if item is not None]
    earlier = next((i.frames for i in present if isinstance(i.frames, Opaque)), None)
    has_grown = any(isinstance(item.frames, Repeated) for item in present)
    found: list[Dependence] | None = None
    try:
        with np.errstate(all="ignore"):
            if earlier is None and (has_grown or node.op_type in _SHAPED_BY):
                found = _grown(node, inputs, results, recompute)
            if earlier is None and found is None and not has_grown:
                found = _lines(_Fold(node, inputs, results, recompute, frames))
            if found is not None:
                return [_typed(item, x, origin) for item, x in zip(found, results, strict=True)]
            if len(results) == 1:
                bounds = result_bounds(node, inputs, results[0], recompute, frames)
                if bounds is not None and np.array_equal(*bounds):
                    return [None]
                return [Opaque(earlier.origin if earlier else origin, bounds)]
    except (EdgeLSTMError, RefusedError, ValueError, TypeError, OverflowError):
        pass
    return [Opaque(earlier.origin if earlier else origin)] * len(results)


def _typed(found: Dependence, data: Array, origin: str) -> Dependence:
    """A line whose slopes have the type of its elements."""
    if not isinstance(found, Line):
        return found
    return Line(found.slope.astype(data.dtype)) if data.dtype.kind in "if" else Opaque(origin)


# Tensors whose extents grow.


def _grown(
    node: onnx.NodeProto,
    inputs: Sequence[Known | None],
    results: Sequence[Array],
    recompute: Recompute,
) -> list[Dependence] | None:
    """Extents that grow while the elements stay: read off one and two frames more."""
    shaped_by = _SHAPED_BY.get(node.op_type)
    for place, item in enumerate(inputs):
        if item is not None and isinstance(item.frames, Line) and place != shaped_by:
            return None
    if not _tells_no_frames_apart(node, inputs):
        return None
    later = [recompute([_at_later(item, more) for item in inputs]) for more in (1, 2)]
    found: list[Dependence] = []
    for now, one, two in zip(results, *later, strict=True):
        if not now.ndim == one.ndim == two.ndim:
            return None
        growth = [b - a for a, b in zip(now.shape, one.shape, strict=True)]
        if growth != [b - a for a, b in zip(one.shape, two.shape, strict=True)]:
            return None
        if min(growth, default=0) < 0 or not (_is_alike(now, growth) and _is_alike(one, growth)):
            return None
        if not _same_bits(_first(now, growth), _first(one, growth)):
            return None
        found.append(repeated_or_none(growth))
    return found


def _tells_no_frames_apart(node: onnx.NodeProto, inputs: Sequence[Known | None]) -> bool:
    """Whether the operator gives every place along a grown axis the same, at any extent."""
    if node.op_type in ELEMENTWISE or node.op_type in _MOVES:
        if node.op_type != "Concat":
            return True
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        return not any(
            isinstance(item.frames, Repeated) and item.frames.growth[axis]
            for item in inputs
            if item is not None
        )
    if node.op_type == "Squeeze":
        return len(inputs) > 1 or any(item.name == "axes" for item in node.attribute)
    if node.op_type == "ConstantOfShape":
        return True
    data = inputs[0]
    if data is None:
        return False
    if node.op_type in ("Expand", "Tile"):
        return True
    # Any order of elements that are all the same is the same.
    flat = data.trial.reshape(-1)
    return node.op_type in ("Reshape", "Flatten") and _same_bits(
        np.broadcast_to(flat[:1], flat.shape), flat
    )


def _at_later(item: Known | None, more: int) -> Array | None:
    """A known tensor with so many frames more."""
    if item is None:
        return None
    data = item.trial
    if isinstance(item.frames, Line):
        return np.asarray(data + more * item.frames.slope).astype(data.dtype)
    if isinstance(item.frames, Repeated):
        growth = item.frames.growth
        shape = [extent + more * grows for extent, grows in zip(data.shape, growth, strict=True)]
        return np.broadcast_to(_first(data, growth), shape)
    return data


def _first(data: Array, growth: Sequence[int]) -> Array:
    place = tuple(slice(0, 1) if grows else slice(None) for grows in growth)
    return np.asarray(data[place])


def _is_alike(data: Array, growth: Sequence[int]) -> bool:
    return data.size > 0 and _same_bits(np.broadcast_to(_first(data, growth), data.shape), data)


def _same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# Tensors of a fixed shape whose elements are lines.


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """A node on lines and fixed tensors; what the rules ask about it."""

    node: onnx.NodeProto
    inputs: Sequence[Known | None]
    results: Sequence[Array]
    recompute: Recompute
    frames: int

    @property
    def result(self) -> Array:
        """Its one result at the trial number of frames."""
        return self.results[0]

    def trial(self, place: int) -> Array:
        """An input at the trial number of frames."""
        item = self.inputs[place]
        assert item is not None
        return item.trial

    def slope(self, place: int) -> Array:
        """What each element of an input grows by."""
        item = self.inputs[place]
        assert item is not None
        return item.frames.slope if isinstance(item.frames, Line) else np.zeros_like(item.trial)

    def slopes(self) -> list[Array | None]:
        """The slopes of all inputs."""
        return [None if x is None else self.slope(k) for k, x in enumerate(self.inputs)]

    def at_one(self, place: int) -> Array:
        """An input at one frame."""
        return np.asarray(self.trial(place) - self.slope(place) * (self.frames - 1))

    def is_fixed(self, place: int) -> bool:
        """Whether an input does not depend on the number of frames."""
        item = self.inputs[place]
        return item is None or item.frames is None

    def is_integral(self, place: int) -> bool:
        """Whether an input holds integers at every number of frames."""
        both = (self.trial(place), self.slope(place))
        return all(bool(np.all(data == np.floor(data))) for data in both)

    def difference(self) -> tuple[Array, Array]:
        """First input less the second: at one frame, and its slope.

        What is fixed at `TO_THE_END` or more is beyond any number of frames.
        """
        first = self.at_one(0).astype(np.float64) - self.at_one(1)
        slope = self.slope(0).astype(np.float64) - self.slope(1)
        for place, beyond in ((0, np.inf), (1, -np.inf)):
            if self.is_fixed(place):
                is_beyond = np.broadcast_to(self.trial(place) >= TO_THE_END, first.shape)
                first, slope = np.where(is_beyond, beyond, first), np.where(is_beyond, 0, slope)
        return np.asarray(first), np.asarray(slope)


def _lines(fold: _Fold) -> list[Dependence] | None:
    op, inputs = fold.node.op_type, fold.inputs
    if op in _SELECTIONS or op == "ReduceSum":
        if not all(fold.is_fixed(place) for place in range(1, len(inputs))):
            return None
        others = [None if item is None else item.trial for item in inputs[1:]]
        return _as_lines(fold.recompute([fold.slope(0), *others]))
    if op in _LINEAR:
        return _as_lines(fold.recompute(fold.slopes()))
    rule = _RULES.get(op)
    if rule is None or len(fold.results) != 1 or any(item is None for item in inputs):
        return None
    slope = rule(fold)
    return None if slope is None else _as_lines([slope])


def _as_lines(slopes: Sequence[Array]) -> list[Dependence] | None:
    if not all(is_line(slope) for slope in slopes):
        return None
    return [line_or_none(slope) for slope in slopes]


Rule = Callable[[_Fold], "Array | None"]


def _mul(fold: _Fold) -> Array | None:
    sa, sb = fold.slope(0), fold.slope(1)
    if np.any(sa * sb):
        return None
    return np.asarray(sa * fold.trial(1) + sb * fold.trial(0))


def _div(fold: _Fold) -> Array | None:
    slope, b = fold.slope(0), fold.trial(1)
    if not fold.is_fixed(1):
        return _ratio(fold)
    if fold.result.dtype.kind == "f":
        return np.asarray(slope / b)
    return np.asarray(slope // b) if _divides_evenly(fold) else None


def _ratio(fold: _Fold) -> Array | None:
    """Of two lines of which one is always the same multiple of the other."""
    a, b = fold.trial(0).astype(np.float64), fold.trial(1).astype(np.float64)
    sa, sb = fold.slope(0).astype(np.float64), fold.slope(1).astype(np.float64)
    first = fold.at_one(1)
    never_zero = ((first > 0) & (sb >= 0)) | ((first < 0) & (sb <= 0))
    is_multiple = (a * sb == b * sa) & never_zero
    return np.zeros_like(fold.result) if np.all(is_multiple) else None


def _mod(fold: _Fold) -> Array | None:
    is_integer = fold.result.dtype.kind in "iu"
    return np.zeros_like(fold.result) if is_integer and _divides_evenly(fold) else None


def _divides_evenly(fold: _Fold) -> bool:
    """Whether the remainder is the same at every number of frames, and rounding does not turn."""
    slope, b = fold.slope(0), fold.trial(1)
    if not fold.is_fixed(1) or not np.all(b) or np.any(slope % b):
        return False
    is_positive = (fold.at_one(0) >= 0) & (slope >= 0) & (b > 0)
    return bool(np.all((slope == 0) | (fold.trial(0) % b == 0) | is_positive))


def _compare(op: str) -> Rule:
    """A comparison that has the same answer at every number of frames."""

    def rule(fold: _Fold) -> Array | None:
        first, slope = fold.difference()
        falls, rises = slope <= 0, slope >= 0
        is_sure = {
            "Less": ((first < 0) & falls) | ((first >= 0) & rises),
            "GreaterOrEqual": ((first < 0) & falls) | ((first >= 0) & rises),
            "Greater": ((first > 0) & rises) | ((first <= 0) & falls),
            "LessOrEqual": ((first > 0) & rises) | ((first <= 0) & falls),
            "Equal": (slope == 0) | ((first > 0) & rises) | ((first < 0) & falls),
        }[op]
        return np.zeros(fold.result.shape, np.int64) if np.all(is_sure) else None

    return rule


def _choose(op: str) -> Rule:
    """The smaller or larger of one or two, where it is the same one at every number of frames."""

    def rule(fold: _Fold) -> Array | None:
        if len(fold.inputs) == 1:
            return fold.slope(0)
        if len(fold.inputs) != 2:
            return None
        first, slope = fold.difference()
        is_above, is_below = (first >= 0) & (slope >= 0), (first <= 0) & (slope <= 0)
        if not np.all(is_above | is_below):
            return None
        takes_first = is_above if op == "Max" else is_below
        return np.asarray(np.where(takes_first, fold.slope(0), fold.slope(1)))

    return rule


def _where(fold: _Fold) -> Array | None:
    if not fold.is_fixed(0):
        return None
    chosen = np.where(fold.trial(0), fold.slope(1), fold.slope(2))
    return np.asarray(np.broadcast_to(chosen, fold.result.shape))


def _cast(fold: _Fold) -> Array | None:
    slope, first = fold.slope(0), fold.at_one(0)
    if fold.result.dtype.kind == "b":
        is_sure = (slope == 0) | ((first > 0) & (slope >= 0)) | ((first < 0) & (slope <= 0))
        return np.zeros(fold.result.shape, np.int64) if np.all(is_sure) else None
    if fold.result.dtype.kind in "iu":
        return slope.astype(np.int64) if fold.is_integral(0) else None
    return slope.astype(np.float64)


def _round(fold: _Fold) -> Array | None:
    return fold.slope(0) if fold.is_integral(0) else None


def _abs(fold: _Fold) -> Array | None:
    first, slope = fold.at_one(0), fold.slope(0)
    is_above, is_below = (first >= 0) & (slope >= 0), (first <= 0) & (slope <= 0)
    return np.asarray(np.where(is_above, slope, -slope)) if np.all(is_above | is_below) else None


def _reduce_prod(fold: _Fold) -> Array | None:
    """Of factors of which at most one grows."""
    slope = fold.slope(0)
    if not all(fold.is_fixed(k) for k in range(1, len(fold.inputs))) or np.count_nonzero(slope) > 1:
        return None
    others = [None if item is None else item.trial for item in fold.inputs[1:]]
    (more,) = fold.recompute([fold.trial(0) + slope, *others])
    return np.asarray(more - fold.result)


_RULES: dict[str, Rule] = {
    "Mul": _mul,
    "Div": _div,
    "Mod": _mod,
    **{name: _compare(name) for name in ("Equal", "Less", "LessOrEqual")},
    **{name: _compare(name) for name in ("Greater", "GreaterOrEqual")},
    **{name: _choose(name) for name in ("Min", "Max")},
    "Where": _where,
    "Cast": _cast,
    **dict.fromkeys(("Floor", "Ceil", "Round"), _round),
    "Abs": _abs,
    "ReduceProd": _reduce_prod,
}
