"""Bounds of element-wise functions: of monotonic ones their values at the ends."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.numerics.activations import activate
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.fields import plain
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.bounds.interval import (
    SLACK,
    Interval,
    anything,
    multiply,
    point,
    settled,
)

# Where a function stays whatever its argument is; its approximations, too.
_RANGES = {
    Fn.SIGMOID: (0.0, 1.0),
    Fn.TANH: (-1.0, 1.0),
    Fn.HARD_SIGMOID: (0.0, 1.0),
    Fn.SOFTSIGN: (-1.0, 1.0),
    Fn.ERF: (-1.0, 1.0),
}
_EXACT = frozenset({Fn.RELU, Fn.CLIP, Fn.NEG})
_SCALED = frozenset({Fn.AFFINE, Fn.HARD_SIGMOID, Fn.LEAKY_RELU})


def apply_function(activation: Activation, x: Interval) -> Interval:
    """What values the function takes."""
    fn, dtype = activation.fn, x.dtype
    if not dtype.is_float and fn not in (*_EXACT, Fn.ABS):
        return anything(dtype, x.shape, is_safe=x.is_safe)
    argument = _scaled_argument(activation, x)
    if argument is not None and not argument.is_safe:
        return anything(dtype, x.shape, is_safe=False)
    match fn:
        case Fn.ABS:
            is_across = (x.low <= 0) & (x.high >= 0)
            ends = np.abs(x.low), np.abs(x.high)
            low = np.where(is_across, np.zeros_like(ends[0]), np.minimum(*ends))
            return settled(dtype, low, np.maximum(*ends), is_safe=x.is_safe)
        case Fn.THRESHOLDED_RELU:
            zero = np.zeros_like(x.low)
            low, high = np.minimum(x.low, zero), np.maximum(x.high, zero)
            return Interval(dtype, low, high, x.is_safe)
        case Fn.HARD_SWISH:
            # It is never below -3/8, and never above its argument nor 0.
            low, high = np.full_like(x.low, -0.376), np.maximum(x.high, np.zeros_like(x.high))
            return settled(dtype, low, high, is_safe=x.is_safe)
        case Fn.RECIPROCAL if bool(((x.low <= 0) & (x.high >= 0)).any()):
            return anything(dtype, x.shape)
        case Fn.LOG if not bool((x.low > 0).all()):
            return anything(dtype, x.shape)
        case Fn.SQRT if not bool((x.low >= 0).all()):
            return anything(dtype, x.shape)
    return _between_ends(activation, x)


def _scaled_argument(activation: Activation, x: Interval) -> Interval | None:
    """The largest intermediate product of functions that scale their argument first."""
    factor = {
        Fn.SCALED_TANH: activation.beta,
        Fn.TANH: 2.0,
        Fn.CELU: 1.0 / activation.alpha if activation.alpha else 1.0,
    }.get(activation.fn, activation.alpha if activation.fn in _SCALED else None)
    if factor is None:
        return None
    return multiply(x, point(np.asarray(factor, x.dtype.numpy)))


def _between_ends(activation: Activation, x: Interval) -> Interval:
    """All other functions are monotonic, rising or falling."""
    data = plain(activation)
    if x.dtype is DType.BOOL:
        return anything(x.dtype, x.shape, is_safe=x.is_safe)
    at = [_value(data, end) for end in (x.low, x.high)]
    low, high = np.minimum(*at), np.maximum(*at)
    if activation.fn not in _EXACT:
        low, high = low - _room(low), high + _room(high)
    if activation.fn in _RANGES:
        low, high = (np.clip(end, *_RANGES[activation.fn]) for end in (low, high))
    return settled(x.dtype, low, high, is_safe=x.is_safe)


def _value(data: dict[str, object], x: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(activate(data, x.astype(np.float64)))


def _room(end: Array) -> Array:
    """What an approximation may be off by."""
    return np.asarray(np.abs(end) * (SLACK - 1.0) + 1e-6)
