"""Element-wise functions on the device: the activations of the recurrent operators, and others.

Sigmoid and tanh are built on the fast exponential and reciprocal: within 2 units in the last place
of 1; near zero, tanh follows its series, so that small values keep their relative accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import SIGMOID, TANH, Activation, Fn
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    exp2_approx,
    inline,
    reciprocal_approx,
)

_LOG2_E = math.log2(math.e)
_SERIES_BOUND = 0.3
"""Below it tanh is x - x^3/3 + 2x^5/15 - 17x^7/315 + 62x^9/2835 to float32."""


@inline
def exponential(x):
    """E to the x, within a few units in the last place for moderate x."""
    return exp2_approx(x * F32(_LOG2_E))


@inline
def tanh_series(x):
    """Tanh near zero."""
    s = x * x
    tail = F32(2 / 15) + s * (F32(-17 / 315) + s * F32(62 / 2835))
    return x + x * s * (F32(-1 / 3) + s * tail)


@inline
def sigmoid(x):
    """1 / (1 + exp(-x)); infinities of the exponential end as 0."""
    return reciprocal_approx(F32(1) + exp2_approx(x * F32(-_LOG2_E)))


@inline
def tanh(x):
    """1 - 2 / (1 + exp(2x)), or the series."""
    far = F32(1) - F32(2) * reciprocal_approx(F32(1) + exp2_approx(x * F32(2 * _LOG2_E)))
    return cuda.selp(abs(x) < F32(_SERIES_BOUND), tanh_series(x), far)


@inline
def sigmoid_or_tanh(x, is_tanh):
    """One of the two by lane, for the price of one: sigmoid(x), or tanh(x) = 2 sigmoid(2x) - 1."""
    m = cuda.selp(is_tanh, F32(2), F32(1))
    far = F32(1) - m + m * reciprocal_approx(F32(1) + exp2_approx(x * m * F32(-_LOG2_E)))
    return cuda.selp(is_tanh & (abs(x) < F32(_SERIES_BOUND)), tanh_series(x), far)


@inline
def identity(x):
    """The argument."""
    return x


def make_function(activation: Activation, where: str) -> Any:
    """The device function of an activation.

    Args:
        activation: which, with its parameters.
        where: the ONNX node, for the refusal.

    Raises:
        CapabilityError: it has no device code.
    """
    if activation == SIGMOID:
        return sigmoid
    if activation == TANH:
        return tanh
    make = _FACTORIES.get(activation.fn)
    if make is None:
        raise CapabilityError(
            f"{where}: target cuda does not compute {activation.fn.value}; use --target host"
        )
    return make(activation.alpha, activation.beta)


def make_clip(bound: float | None) -> Any:
    """Within [-bound, bound], or the identity."""
    if bound is None:
        return identity

    @inline
    def clipped(x):
        return min(max(x, F32(-bound)), F32(bound))

    return clipped


def make_clip_between(low: float, high: float) -> Any:
    """Within [low, high]."""
    return _clip(low, high)


def _relu(a: float, b: float) -> Any:
    @inline
    def function(x):
        return max(x, F32(0))

    return function


def _affine(a: float, b: float) -> Any:
    @inline
    def function(x):
        return F32(a) * x + F32(b)

    return function


def _leaky_relu(a: float, b: float) -> Any:
    @inline
    def function(x):
        return cuda.selp(x >= F32(0), x, F32(a) * x)

    return function


def _thresholded_relu(a: float, b: float) -> Any:
    @inline
    def function(x):
        return cuda.selp(x > F32(a), x, F32(0))

    return function


def _scaled_tanh(a: float, b: float) -> Any:
    @inline
    def function(x):
        return F32(a) * tanh(F32(b) * x)

    return function


def _hard_sigmoid(a: float, b: float) -> Any:
    @inline
    def function(x):
        return min(max(F32(a) * x + F32(b), F32(0)), F32(1))

    return function


def _elu(a: float, b: float) -> Any:
    @inline
    def function(x):
        return cuda.selp(x >= F32(0), x, F32(a) * math.expm1(min(x, F32(0))))

    return function


def _softsign(a: float, b: float) -> Any:
    @inline
    def function(x):
        return x * reciprocal_approx(F32(1) + abs(x))

    return function


def _softplus(a: float, b: float) -> Any:
    @inline
    def function(x):
        return max(x, F32(0)) + math.log1p(math.exp(-abs(x)))

    return function


def _clip(a: float, b: float) -> Any:
    @inline
    def function(x):
        return min(max(x, F32(a)), F32(b))

    return function


def _negative(a: float, b: float) -> Any:
    @inline
    def function(x):
        return -x

    return function


def _absolute(a: float, b: float) -> Any:
    @inline
    def function(x):
        return abs(x)

    return function


_FACTORIES: dict[Fn, Callable[[float, float], Any]] = {
    Fn.RELU: _relu,
    Fn.AFFINE: _affine,
    Fn.LEAKY_RELU: _leaky_relu,
    Fn.THRESHOLDED_RELU: _thresholded_relu,
    Fn.SCALED_TANH: _scaled_tanh,
    Fn.HARD_SIGMOID: _hard_sigmoid,
    Fn.ELU: _elu,
    Fn.SOFTSIGN: _softsign,
    Fn.SOFTPLUS: _softplus,
    Fn.CLIP: _clip,
    Fn.NEG: _negative,
    Fn.ABS: _absolute,
}
