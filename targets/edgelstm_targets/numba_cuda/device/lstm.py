"""The LSTM cell on the lanes of a unit."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_targets.numba_cuda.device.activations import (
    make_clip,
    make_function,
    sigmoid_or_tanh,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    U64,
    add64,
    band,
    inline,
    lane_index,
    load_global,
    shuffle,
)
from edgelstm_targets.numba_cuda.device.intrinsics import sub as subtract

# Lanes of a unit that hold the sums of ONNX gates i, o, f and the candidate.
_LANE_I, _LANE_O, _LANE_F, _LANE_N = 0, 2, 1, 3


def make_lstm(op: LSTM, peepholes: int, where: str) -> Any:
    """update(z, c, lane, unit, units, weights) -> (h, c), on all lanes of the unit.

    `z` is this lane's gate before its activation, `units` the number of units.
    i = f(Wi x + Ri h + b + Pi*c), o = f(... + Po*c'), f = f(... + Pf*c), g = g(...);
    c' = f*c + i*g, h' = o*h(c').  Source: ONNX operators, LSTM-22
    """
    gate, candidate, result = (make_function(each, where) for each in op.activations[:3])
    clip = make_clip(op.clip)
    if op.activations[:2] == (SIGMOID, TANH):

        @inline
        def activate(z, is_candidate):
            return sigmoid_or_tanh(clip(z), is_candidate)

    else:

        @inline
        def activate(z, is_candidate):
            bounded = clip(z)
            return cuda.selp(is_candidate, candidate(bounded), gate(bounded))

    if op.input_forget:

        @inline
        def forget(i, f):
            return F32(1) - i

    else:

        @inline
        def forget(i, f):
            return f

    @inline
    def combine(g, c, lane):
        first = subtract(lane_index(), lane)
        i = shuffle(g, first + U32(_LANE_I))
        f = shuffle(g, first + U32(_LANE_F))
        n = shuffle(g, first + U32(_LANE_N))
        return forget(i, f) * c + i * n

    if peepholes < 0:

        @inline
        def update(z, c, lane, unit, units, weights):
            g = activate(z, band(lane, U32(3)) == U32(_LANE_N))
            o = shuffle(g, subtract(lane_index(), lane) + U32(_LANE_O))
            after = combine(g, c, lane)
            return o * result(after), after

        return update

    @inline
    def update_with_peepholes(z, c, lane, unit, units, weights):
        place = band(lane, U32(3))
        known = min(unit, units - U32(1))
        row = add64(weights, U64(peepholes) + U64(known) * U64(12))
        p_i, p_o, p_f = load_global(row), load_global(row + U64(4)), load_global(row + U64(8))
        p = cuda.selp(place == U32(_LANE_I), p_i, cuda.selp(place == U32(_LANE_F), p_f, F32(0)))
        after = combine(activate(z + p * c, place == U32(_LANE_N)), c, lane)
        o = gate(clip(z + p_o * after))
        o = shuffle(o, subtract(lane_index(), lane) + U32(_LANE_O))
        return o * result(after), after

    return update_with_peepholes
