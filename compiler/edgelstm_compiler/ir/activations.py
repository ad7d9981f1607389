"""Element-wise functions: the eleven activations of the ONNX recurrent operators, and others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fn(StrEnum):
    """An element-wise function of x, with its parameters a (alpha) and b (beta).

    Source: ONNX operators, LSTM-22 (activations) and the operators of the same names.
    """

    SIGMOID = "sigmoid"  # 1 / (1 + exp(-x))
    TANH = "tanh"
    RELU = "relu"  # max(x, 0)
    AFFINE = "affine"  # a x + b
    LEAKY_RELU = "leaky_relu"  # x if x >= 0 else a x
    THRESHOLDED_RELU = "thresholded_relu"  # x if x > a else 0 (ONNX Runtime, in cells too)
    SCALED_TANH = "scaled_tanh"  # a tanh(b x)
    HARD_SIGMOID = "hard_sigmoid"  # min(max(a x + b, 0), 1)
    ELU = "elu"  # x if x >= 0 else a (exp(x) - 1)
    SOFTSIGN = "softsign"  # x / (1 + |x|)
    SOFTPLUS = "softplus"  # log(1 + exp(x))
    # The following never stand in a recurrent operator.
    SELU = "selu"  # b (x if x > 0 else a (exp(x) - 1))
    CELU = "celu"  # max(x, 0) + min(0, a (exp(x / a) - 1))
    HARD_SWISH = "hard_swish"  # x min(max(x / 6 + 1 / 2, 0), 1)
    CLIP = "clip"  # min(max(x, a), b)
    NEG = "neg"
    ABS = "abs"
    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    RECIPROCAL = "reciprocal"
    ERF = "erf"
    SIGN = "sign"  # -1, 0 or 1
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"  # halves to even


@dataclass(frozen=True, slots=True)
class Activation:
    """An element-wise function with its parameters filled in (defaults are resolved at import)."""

    fn: Fn
    alpha: float = 0.0
    beta: float = 0.0

    def __str__(self) -> str:
        if self.alpha == 0.0 and self.beta == 0.0:
            return self.fn.value
        return f"{self.fn.value}:{self.alpha!r}:{self.beta!r}"


SIGMOID = Activation(Fn.SIGMOID)
TANH = Activation(Fn.TANH)
RELU = Activation(Fn.RELU)
