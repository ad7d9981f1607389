"""Cells on the sums of one unit and stream: what stands between two products on tensor cores.

`update(z0, z1, z2, z3, kept, p0, p1, p2) -> (h, kept)`: z are the sums with bias, in the order of
the layer's accumulators (those that it has not are 0), `kept` is what the cell carries itself (the
cell state of an LSTM, the hidden state of a GRU, both float32), p are the peepholes of i, o and f.
Sigmoids are built on `tanh.approx`, within 2.5e-4: beside weights and vectors in float16 that does
not show. Tangents, whose errors would, are built on the exponential.
"""

from __future__ import annotations

import math
from typing import Any

from edgelstm_compiler.ir.activations import SIGMOID, TANH, Activation
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_targets.numba_cuda.device.activations import make_clip, make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    exp2_approx,
    fused,
    inline,
    reciprocal_approx,
    tanh_approx,
)

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


def _make_bounded(activation: Activation, op: LSTM | GRU | RNN, where: str) -> Any:
    """The function behind the operator's clip; without one no call is left to compile."""
    function = make_quick_function(activation, where)
    if op.clip is None:
        return function
    clip = make_clip(op.clip)

    @inline
    def bounded(x):
        return function(clip(x))

    return bounded


def make_update(op: LSTM | GRU | RNN, peepholes: bool, where: str) -> Any:
    """The cell of a layer with one phase."""
    match op:
        case LSTM():
            return _make_lstm(op, peepholes, where)
        case GRU():
            return _make_gru_after(op, where)
        case RNN():
            return _make_rnn(op, where)


def _make_lstm(op: LSTM, peepholes: bool, where: str) -> Any:
    """C' = f*c + i*g, h' = o*h(c').  Source: ONNX operators, LSTM-22."""
    gate, candidate = (_make_bounded(each, op, where) for each in op.activations[:2])
    result = make_quick_function(op.activations[2], where)
    coupled = op.input_forget

    @inline
    def update(i_sum, o_sum, f_sum, n_sum, c, p_i, p_o, p_f):
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


def _make_gru_after(op: GRU, where: str) -> Any:
    """N = g(x part + r * h part), h' = n + z*(h - n).  Source: ONNX operators, GRU-22."""
    gate, candidate = (_make_bounded(each, op, where) for each in op.activations[:2])

    @inline
    def update(z_sum, r_sum, n_input, n_recurrent, h, p_i, p_o, p_f):
        z, r = gate(z_sum), gate(r_sum)
        n = candidate(n_input + r * n_recurrent)
        after = n + z * (h - n)
        return after, after

    return update


def _make_rnn(op: RNN, where: str) -> Any:
    function = _make_bounded(op.activations[0], op, where)

    @inline
    def update(z_sum, z1, z2, z3, kept, p_i, p_o, p_f):
        return function(z_sum), kept

    return update


def make_gru_before(op: GRU, where: str) -> tuple[Any, Any]:
    """A GRU that resets the hidden state before the product.

    Returns:
        gates(z_sum, r_sum) -> (z, r), after the first phase;
        update(n_sum, z, h) -> h, after the second.
    """
    gate, candidate = (_make_bounded(each, op, where) for each in op.activations[:2])

    @inline
    def gates(z_sum, r_sum):
        return gate(z_sum), gate(r_sum)

    @inline
    def update(n_sum, z, h):
        n = candidate(n_sum)
        return n + z * (h - n)

    return gates, update
