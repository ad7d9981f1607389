"""Weights in few bits: int8 and int4 steps with the scale of least squared error, halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.compact import coded_scales
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_compiler.ir.types import Array

INT8_LIMIT = 127
# The smallest half that is no denormal: a scale of 8 bits is exact as half.
_TINY = 2.0**-14
_RATIOS = np.linspace(1.0, 0.6, 41)


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """Weights as integers.

    Shapes:
        steps (..., rows, K) int8, scale (..., rows), or (..., rows, groups) for int4.
    """

    steps: Array
    scale: Array

    @property
    def sizes(self) -> Array:
        """The size of each weight's step (..., rows, K), in float64."""
        scale = self.scale.astype(np.float64)
        if scale.ndim == self.steps.ndim:
            return np.repeat(scale, GROUP, axis=-1)[..., : self.steps.shape[-1]]
        return np.broadcast_to(scale[..., None], self.steps.shape)

    @property
    def restored(self) -> Array:
        """The weights that are computed with, in float64."""
        return np.asarray(self.steps * self.sizes)


def quantize_rows(weights: Array, *, clip: bool, importance: Array | None = None) -> QuantizedRows:
    """int8 in [-127, 127] with a float32 scale per row.

    Args:
        weights: (..., rows, K).
        clip: search the scale for the least squared error; else the largest weight is 127.
        importance: weight of each column's squared error (K,): the mean square of its input.
    """
    w = weights.astype(np.float64)
    top = _top(w)
    scale = _best(w, top, (-INT8_LIMIT, INT8_LIMIT), importance) if clip else top
    return _steps(w, scale)


def quantize_coded_rows(
    weights: Array, *, clip: bool, importance: Array | None = None
) -> QuantizedRows:
    """The same with scales that have codes of 8 bits, `ir/compact.py`."""
    w = weights.astype(np.float64)
    top = coded_scales(_top(w), up=True)
    if clip:
        scale = _best(w, top, (-INT8_LIMIT, INT8_LIMIT), importance, coded_scales)
        top = coded_scales(scale)
    return _steps(w, top)


def _top(w: Array) -> Array:
    return _live(np.abs(w).max(axis=-1, initial=0.0)) / INT8_LIMIT


def _live(largest: Array) -> Array:
    """The magnitudes with the smallest of the others in place of zeros.

    Zeros are zero in any scale; one far above the others' would take their bits where rows share
    a shift or an exponent.
    """
    sizes = np.abs(largest)
    smallest = float(sizes.min(initial=np.inf, where=sizes > 0))
    return np.asarray(np.where(sizes > 0, largest, smallest if np.isfinite(smallest) else 1.0))


def _steps(w: Array, scale: Array) -> QuantizedRows:
    scale = scale.astype(np.float32)
    steps = np.rint(w / scale[..., None].astype(np.float64))
    return QuantizedRows(np.clip(steps, -INT8_LIMIT, INT8_LIMIT).astype(np.int8), scale)


def quantize_groups(
    weights: Array, *, clip: bool, importance: Array | None = None
) -> QuantizedRows:
    """int4 in [-8, 7] with a float16 scale per GROUP columns; a scale may be negative.

    The largest weight of a group becomes -8, which reaches further than 7 does. From GROUP columns
    on, scales are such that `ir/compact.py` has codes of 8 bits for them; a group of few weights
    needs its scale exactly.
    """
    w = weights.astype(np.float64)
    columns = w.shape[-1]
    groups = -(-columns // GROUP)
    padding = [(0, 0)] * (w.ndim - 1) + [(0, groups * GROUP - columns)]
    grouped = np.pad(w, padding).reshape(*w.shape[:-1], groups, GROUP)
    share = None
    if importance is not None:
        share = np.pad(importance, (0, groups * GROUP - columns)).reshape(groups, GROUP)
    position = np.abs(grouped).argmax(axis=-1)[..., None]
    extreme = np.take_along_axis(grouped, position, axis=-1)[..., 0]
    top = _live(extreme) / -8.0
    top = np.where(np.abs(top) < _TINY, np.copysign(_TINY, top), top)
    rounded = _signed if columns >= GROUP else _half
    scale = _signed(top, up=True) if columns >= GROUP else top
    if clip:
        scale = rounded(_best(grouped, scale, (-8, 7), share, rounded))
    half = scale.astype(np.float16)
    steps = np.rint(grouped / half[..., None].astype(np.float64))
    flat = np.clip(steps, -8, 7).astype(np.int8).reshape(*w.shape[:-1], groups * GROUP)
    return QuantizedRows(np.ascontiguousarray(flat[..., :columns]), half)


def pack_nibbles(steps: Array) -> Array:
    """int4 as bytes: column 2j in the low half, 2j + 1 in the high half, each plus 8."""
    odd = steps.shape[-1] % 2
    even = np.pad(steps, [(0, 0)] * (steps.ndim - 1) + [(0, odd)])
    codes = (even + 8).astype(np.uint8)
    packed: Array = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed


def _best(
    w: Array,
    top: Array,
    limits: tuple[int, int],
    importance: Array | None,
    rounded: Callable[[Array], Array] = np.asarray,
) -> Array:
    """For each row the fraction of `top`, rounded to a scale there is, with the least error."""
    best, least = top, np.full(top.shape, np.inf)
    for ratio in _RATIOS:
        scale = rounded(top * ratio)
        steps = np.clip(np.rint(w / scale[..., None]), *limits)
        squares = np.square(w - steps * scale[..., None])
        if importance is not None:
            squares = squares * importance
        error = squares.sum(axis=-1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def _signed(scales: Array, *, up: bool = False) -> Array:
    return coded_scales(scales, is_signed=True, up=up)


def _half(scales: Array) -> Array:
    return scales.astype(np.float16).astype(np.float64)
