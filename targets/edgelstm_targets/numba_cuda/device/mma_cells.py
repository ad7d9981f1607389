"""Cells on the sums of one unit and stream: what stands between two products on tensor cores.

`update(z0, z1, z2, z3, kept, p0, p1, p2, base) -> (h, kept)`: z are the sums with bias, in the
order of the layer's accumulators (those that it has not are 0), `kept` is what the cell carries
itself (the cell state of an LSTM, the hidden state of a GRU), p are the peepholes of i, o and f.
Here all are float32; cells of integers are in `mma_integer_cells.py`.

Where weights and vectors are float16, sigmoids are built on `tanh.approx`, within 2.5e-4: beside
that it does not show. Tangents, whose errors would, are built on the exponential. Scheme int8,
whose products are exact, takes the functions of all other kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgelstm_compiler.ir.activations import SIGMOID, TANH, Activation
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_targets.numba_cuda.device.activations import make_clip, make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    exp2_approx,
    fused,
    inline,
    reciprocal_approx,
    tanh_approx,
)
from edgelstm_targets.numba_cuda.precision import Bytes, Precision

_TWO_LOG2_E = 2 * math.log2(math.e)


@inline
def quick_sigmoid(x):
    """0.5 + 0.5 tanh(x / 2)."""
    return F32(0.5) + F32(0.5) * tanh_approx(F32(0.5) * x)


@inline
def quick_tanh(x):
    """1 - 2 / (1 + exp(2x)): absolute errors of float32."""
    power = exp2_approx(x * F32(_TWO_LOG2_E))
    return fused(F32(-2), reciprocal_approx(F32(1) + power), F32(1))


def make_quick_function(activation: Activation, where: str) -> Any:
    """The device function of an activation, for values that end as float16."""
    if activation == SIGMOID:
        return quick_sigmoid
    if activation == TANH:
        return quick_tanh
    return make_function(activation, where)


Functions = Callable[[Activation, str], Any]
"""The device function of an activation: `make_quick_function`, or `make_function`."""


def functions_of(precision: Precision) -> Functions:
    """Which functions a layer's cell has."""
    return make_function if isinstance(precision, Bytes) else make_quick_function


def _make_bounded(
    activation: Activation, op: LSTM | GRU | RNN, functions: Functions, where: str
) -> Any:
    """The function behind the operator's clip; without one no call is left to compile."""
    function = functions(activation, where)
    if op.clip is None:
        return function
    clip = make_clip(op.clip)

    @inline
    def bounded(x):
        return function(clip(x))

    return bounded


def make_lstm_update(op: LSTM, peepholes: bool, functions: Functions, where: str) -> Any:
    """C' = f*c + i*g, h' = o*h(c').  Source: ONNX operators, LSTM-22."""
    gate, candidate = (_make_bounded(each, op, functions, where) for each in op.activations[:2])
    result = functions(op.activations[2], where)
    coupled = op.input_forget

    @inline
    def update(i_sum, o_sum, f_sum, n_sum, c, p_i, p_o, p_f, base):
        if peepholes:
            i_sum = i_sum + p_i * c
            f_sum = f_sum + p_f * c
        i = gate(i_sum)
        n = candidate(n_sum)
        f = F32(1) - i if coupled else gate(f_sum)
        after = f * c + i * n
        if peepholes:
            o_sum = o_sum + p_o * after
        return gate(o_sum) * result(after), after

    return update


def make_gru_update(op: GRU, peepholes: bool, functions: Functions, where: str) -> Any:
    """N = g(x part + r * h part), h' = n + z*(h - n).  Source: ONNX operators, GRU-22."""
    gate, candidate = (_make_bounded(each, op, functions, where) for each in op.activations[:2])

    @inline
    def update(z_sum, r_sum, n_input, n_recurrent, h, p_i, p_o, p_f, base):
        z, r = gate(z_sum), gate(r_sum)
        n = candidate(n_input + r * n_recurrent)
        after = n + z * (h - n)
        return after, after

    return update


def make_rnn_update(op: RNN, peepholes: bool, functions: Functions, where: str) -> Any:
    """One function of the sum."""
    function = _make_bounded(op.activations[0], op, functions, where)

    @inline
    def update(z_sum, z1, z2, z3, kept, p_i, p_o, p_f, base):
        return function(z_sum), kept

    return update


def make_gru_before(op: GRU, functions: Functions, where: str) -> tuple[Any, Any, Any]:
    """A GRU that resets the hidden state before the product.

    Returns:
        gates(z_sum, r_sum, base) -> (z, r), after the first phase;
        reset(r, h), what the second phase's product is of;
        update(n_sum, z, h, base) -> h, after it.
    """
    gate, candidate = (_make_bounded(each, op, functions, where) for each in op.activations[:2])

    @inline
    def gates(z_sum, r_sum, base):
        return gate(z_sum), gate(r_sum)

    @inline
    def reset(r, h):
        return r * h

    @inline
    def update(n_sum, z, h, base):
        n = candidate(n_sum)
        return n + z * (h - n)

    return gates, reset, update
