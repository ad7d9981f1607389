"""The three cells a second time: one sample, one unit formula at a time, in float64.

Written from the ONNX specification (LSTM-22, GRU-22, RNN-22) and what ONNX Runtime does where that
is silent. It shares no code with `edgelstm.engines.numpy_ops`, which is checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, log1p, tanh
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models import ACTIVATIONS, FUNCTIONS, TAKES_ALPHA, TAKES_BETA, CellCase

Array = NDArray[Any]
Scalar = Callable[[float], float]
Formula = Callable[[float, float, float], float]

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
DEFAULT_ALPHA = {"LeakyRelu": 0.01, "HardSigmoid": 0.2, "Elu": 1.0}
DEFAULT_BETA = {"HardSigmoid": 0.5}
"""As ONNX Runtime has them: Affine, ScaledTanh and ThresholdedRelu start from 0, not from 1."""

FN_NAMES = {
    "Affine": "affine",
    "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu",
    "ScaledTanh": "scaled_tanh",
    "HardSigmoid": "hard_sigmoid",
    "Elu": "elu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "Softsign": "softsign",
    "Softplus": "softplus",
}
"""Names of the functions in the graph (`ir.activations.Fn`)."""

FORMULAS: dict[str, Formula] = {
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: x if x >= 0 else a * x,
    "ThresholdedRelu": lambda x, a, b: x if x > a else 0.0,
    "ScaledTanh": lambda x, a, b: a * tanh(b * x),
    "HardSigmoid": lambda x, a, b: min(max(a * x + b, 0.0), 1.0),
    "Elu": lambda x, a, b: x if x >= 0 else a * (exp(x) - 1),
    "Sigmoid": lambda x, a, b: 1 / (1 + exp(-x)) if x > -700 else 0.0,
    "Tanh": lambda x, a, b: tanh(x),
    "Relu": lambda x, a, b: max(x, 0.0),
    "Softsign": lambda x, a, b: x / (1 + abs(x)),
    "Softplus": lambda x, a, b: x + log1p(exp(-x)) if x > 0 else log1p(exp(x)),
}


def resolved_activations(case: CellCase) -> list[tuple[str, float, float]]:
    """Name, alpha and beta of each function, directions one after another.

    The values of activation_alpha go, in order, to the functions that take an alpha at all, those
    of activation_beta to the ones that take a beta; the rest have their defaults.
    """
    names = case.activations or DEFAULTS[case.op] * case.directions
    alphas, betas = iter(case.alpha or ()), iter(case.beta or ())
    spelling = {name.lower(): name for name in ACTIVATIONS}
    resolved = []
    for given in names:
        name = spelling[given.lower()]
        alpha = next(alphas, DEFAULT_ALPHA.get(name, 0.0)) if name in TAKES_ALPHA else 0.0
        beta = next(betas, DEFAULT_BETA.get(name, 0.0)) if name in TAKES_BETA else 0.0
        resolved.append((name, float(np.float32(alpha)), float(np.float32(beta))))
    return resolved


def operator_fields(case: CellCase) -> dict[str, Any]:
    """The fields of the graph operator for a case, as `numpy_ops.apply` takes them."""
    fields: dict[str, Any] = {
        "hidden": case.hidden,
        "direction": case.direction,
        "activations": [
            {"fn": FN_NAMES[name], "alpha": alpha, "beta": beta}
            for name, alpha, beta in resolved_activations(case)
        ],
        "clip": None if case.clip is None else float(np.float32(case.clip)),
    }
    if case.op == "LSTM":
        fields["input_forget"] = case.input_forget
    if case.op == "GRU":
        fields["linear_before_reset"] = case.linear_before_reset
    return fields


def run_case(case: CellCase, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a case (layout 0) from all its inputs, constants among them."""
    data = {name: array.astype(np.float64) for name, array in arrays.items()}
    x = data["X"]
    steps, batch, _ = x.shape
    H, D = case.hidden, case.directions
    y = np.zeros((steps, D, batch, H))
    y_h, y_c = np.zeros((D, batch, H)), np.zeros((D, batch, H))
    functions = [_bind(*item) for item in resolved_activations(case)]
    for d in range(D):
        cell = _Cell(case, data, d, functions[d * FUNCTIONS[case.op] :])
        for n in range(batch):
            length = int(arrays["sequence_lens"][n]) if "sequence_lens" in arrays else steps
            frames = list(range(length))
            if case.direction == "reverse" or d == 1:
                frames.reverse()
            h = data["initial_h"][d, n] if "initial_h" in data else np.zeros(H)
            c = data["initial_c"][d, n] if "initial_c" in data else np.zeros(H)
            for t in frames:
                h, c = cell.step(x[t, n], h, c)
                y[t, d, n] = h
            if length > 0:
                y_h[d, n], y_c[d, n] = h, c
    return {"Y": y, "Y_h": y_h, **({"Y_c": y_c} if case.op == "LSTM" else {})}


class _Cell:
    """One direction with its weights taken apart by gate."""

    def __init__(
        self, case: CellCase, data: Mapping[str, Array], d: int, functions: list[Scalar]
    ) -> None:
        self.case = case
        self.functions = functions
        H = case.hidden
        gates = len(data["W"][d]) // H
        self.W = [data["W"][d, k * H : (k + 1) * H] for k in range(gates)]
        self.R = [data["R"][d, k * H : (k + 1) * H] for k in range(gates)]
        bias = data["B"][d] if "B" in data else np.zeros(2 * gates * H)
        self.Wb = [bias[k * H : (k + 1) * H] for k in range(gates)]
        self.Rb = [bias[(gates + k) * H : (gates + k + 1) * H] for k in range(gates)]
        p = data["P"][d] if "P" in data else np.zeros(3 * H)
        self.P = [p[k * H : (k + 1) * H] for k in range(3)]

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """The next h and c; for GRU and RNN c is not used."""
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.case.op](x, h, c)

    def _clipped(self, function: Scalar, v: Array) -> Array:
        bound = self.case.clip
        if bound is not None:
            bound = float(np.float32(bound))
            v = np.array([min(max(item, -bound), bound) for item in v])
        return _each(function, v)

    def _linear(self, k: int, x: Array, h: Array) -> Array:
        result: Array = self.W[k] @ x + self.R[k] @ h + self.Wb[k] + self.Rb[k]
        return result

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g, squash = self.functions[:3]
        it = self._clipped(f, self._linear(0, x, h) + self.P[0] * c)
        ft = self._clipped(f, self._linear(2, x, h) + self.P[2] * c)
        if self.case.input_forget:
            ft = 1 - it
        ct = ft * c + it * self._clipped(g, self._linear(3, x, h))
        ot = self._clipped(f, self._linear(1, x, h) + self.P[1] * ct)
        return ot * _each(squash, ct), ct

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g = self.functions[:2]
        zt = self._clipped(f, self._linear(0, x, h))
        rt = self._clipped(f, self._linear(1, x, h))
        if self.case.linear_before_reset:
            inner = self.W[2] @ x + self.Wb[2] + rt * (self.R[2] @ h + self.Rb[2])
        else:
            inner = self.W[2] @ x + self.Wb[2] + self.R[2] @ (rt * h) + self.Rb[2]
        return (1 - zt) * self._clipped(g, inner) + zt * h, c

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return self._clipped(self.functions[0], self._linear(0, x, h)), c


def _bind(name: str, alpha: float, beta: float) -> Scalar:
    formula = FORMULAS[name]
    return lambda x: formula(x, alpha, beta)


def _each(function: Scalar, values: Array) -> Array:
    return np.array([function(float(item)) for item in values])
