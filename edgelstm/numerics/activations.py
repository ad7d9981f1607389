"""Element-wise functions of one tensor, by the names that programs use.

Every function takes x and its parameters a (alpha) and b (beta), and computes in x's element type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array, Any, Any], Any]


def activate(activation: Mapping[str, Any], x: Array) -> Array:
    """Apply the function `{"fn": name, "alpha": a, "beta": b}` to every element.

    One meaning for operators and for activations of recurrent cells, as in ONNX Runtime.
    """
    return np.asarray(activation_of(activation, x.dtype)(x), dtype=x.dtype)


def activation_of(activation: Mapping[str, Any], dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """That function for arrays of one element type, not for scalars."""
    name, alpha, beta = activation["fn"], activation["alpha"], activation["beta"]
    function = _FUNCTIONS[name]
    # Parameters in x's own type: NumPy 1 would promote a 0-d float32 array to float64.
    if np.issubdtype(dtype, np.floating):
        if name in _DIRECT:
            return _DIRECT[name]
        alpha, beta = dtype.type(alpha), dtype.type(beta)
    return lambda x: np.asarray(function(x, alpha, beta), dtype=dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow and with full relative accuracy on both sides."""
    decay = np.exp(-np.abs(x))
    one = x.dtype.type(1)
    return np.asarray(np.where(x >= 0, one, decay) / (one + decay))


def _thresholded_relu(x: Array, a: Any, b: Any) -> Any:
    # The specification of LSTM, GRU and RNN lets x = a pass; ONNX Runtime blocks it there too.
    return np.where(x > a, x, x.dtype.type(0))


def _elu(x: Array, a: Any, b: Any) -> Any:
    return np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0)))


def _selu(x: Array, a: Any, b: Any) -> Any:
    return b * np.where(x > 0, x, a * np.expm1(np.minimum(x, 0)))


def _celu(x: Array, a: Any, b: Any) -> Any:
    return np.maximum(x, 0) + np.minimum(0, a * np.expm1(np.minimum(x, 0) / a))


def _softplus(x: Array, a: Any, b: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _hard_sigmoid(x: Array, a: Any, b: Any) -> Any:
    one = x.dtype.type(1)
    return np.clip(a * x + b, x.dtype.type(0), one)


def _hard_swish(x: Array, a: Any, b: Any) -> Any:
    kind = x.dtype.type
    return x * np.clip(x / kind(6) + kind(0.5), kind(0), kind(1))


def _clip(x: Array, a: Any, b: Any) -> Any:
    if np.issubdtype(x.dtype, np.integer):
        limits = np.iinfo(x.dtype)
        low = limits.min if a <= limits.min else min(int(a), limits.max)
        high = limits.max if b >= limits.max else max(int(b), limits.min)
        a, b = x.dtype.type(low), x.dtype.type(high)
    # Not np.clip: where a > b the specification gives b, whatever x is.
    return np.minimum(np.maximum(x, a), b)


def _erf(x: Array, a: Any, b: Any) -> Any:
    # NumPy has no erf, and this is not a function of recurrent cells: one call per element will do.
    flat = np.fromiter(map(math.erf, x.ravel().tolist()), dtype=np.float64, count=x.size)
    return flat.reshape(x.shape).astype(x.dtype)


_FUNCTIONS: dict[str, Function] = {
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, x.dtype.type(0)),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "thresholded_relu": _thresholded_relu,
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "hard_sigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": lambda x, a, b: x / (x.dtype.type(1) + np.abs(x)),
    "softplus": _softplus,
    "selu": _selu,
    "celu": _celu,
    "hard_swish": _hard_swish,
    "clip": _clip,
    "neg": lambda x, a, b: np.negative(x),
    "abs": lambda x, a, b: np.abs(x),
    "exp": lambda x, a, b: np.exp(x),
    "log": lambda x, a, b: np.log(x),
    "sqrt": lambda x, a, b: np.sqrt(x),
    "reciprocal": lambda x, a, b: x.dtype.type(1) / x,
    "erf": _erf,
    "sign": lambda x, a, b: np.sign(x),
    "floor": lambda x, a, b: np.floor(x),
    "ceil": lambda x, a, b: np.ceil(x),
    "round": lambda x, a, b: np.rint(x),
}
_DIRECT: dict[str, Callable[[Array], Array]] = {"sigmoid": sigmoid, "tanh": np.tanh}
"""Functions without parameters that cells apply to floats as a rule."""
