"""The GRU cell on the lanes of a unit; the reset gate before or after the recurrent product."""

from __future__ import annotations

from typing import Any

from numba import cuda

from edgelstm_compiler.ir.cells import GRU
from edgelstm_targets.numba_cuda.device.activations import make_clip, make_function
from edgelstm_targets.numba_cuda.device.intrinsics import (
    F32,
    U32,
    band,
    inline,
    lane_index,
    shuffle,
)
from edgelstm_targets.numba_cuda.device.intrinsics import sub as subtract


def make_gru_after(op: GRU, where: str) -> Any:
    """update(z, h, lane) -> h: the reset gate scales the recurrent product.

    Lanes 0, 1, 2, 3 hold the sums of z, of the candidate's input part, of r, and of its recurrent
    part.  n = g(Wn x + Wb + r*(Rn h + Rb)), h' = (1 - z)*n + z*h.  Source: ONNX operators, GRU-22
    """
    gate, candidate = (make_function(each, where) for each in op.activations[:2])
    clip = make_clip(op.clip)

    @inline
    def update(sums, h, lane):
        value = cuda.selp(band(lane, U32(1)) == U32(0), gate(clip(sums)), sums)
        first = subtract(lane_index(), lane)
        z = shuffle(value, first)
        n_input = shuffle(value, first + U32(1))
        r = shuffle(value, first + U32(2))
        n_recurrent = shuffle(value, first + U32(3))
        n = candidate(clip(n_input + r * n_recurrent))
        return (F32(1) - z) * n + z * h

    return update


def make_gru_before(op: GRU, where: str) -> tuple[Any, Any]:
    """The two phases where the reset gate scales the hidden state.

    Returns:
        gates(sums, lane) -> (z, r): lanes 0 and 1 hold their sums;
        update(sums, z, h) -> h: all lanes hold the candidate's sum.
    """
    gate, candidate = (make_function(each, where) for each in op.activations[:2])
    clip = make_clip(op.clip)

    @inline
    def gates(sums, lane):
        value = gate(clip(sums))
        first = subtract(lane_index(), lane)
        z = shuffle(value, first)
        r = shuffle(value, first + U32(1))
        return z, r

    @inline
    def update(sums, z, h):
        return (F32(1) - z) * candidate(clip(sums)) + z * h

    return gates, update
