"""What happens inside of a recurrent layer over a sequence: gates and cell states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.engines.numpy_ops.activations import activate
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import LSTM, Recurrent, Unary
from edgelstm_compiler.ir.types import Array

_STILL = 1e-3
"""A unit or gate whose range stays below this never moved."""


@dataclass(frozen=True, slots=True)
class CellWeights:
    """A layer's float weights, as the operator takes them."""

    w: Array
    r: Array
    b: Array | None
    p: Array | None


@dataclass(frozen=True, slots=True)
class CellTrace:
    """Statistics of one layer; arrays are by direction and unit, (D, H) or (D, G, H).

    Args:
        h_largest: largest |h|.
        h_mean: mean of h.
        h_range: largest minus smallest h.
        c_largest: largest |c| (LSTM), else zeros.
        saturated: share of frames in which a pre-activation lies beyond +-6.
        still: gates whose activation never moved.
    """

    h_largest: Array
    h_mean: Array
    h_range: Array
    c_largest: Array
    saturated: Array
    still: Array


def trace_cell(
    op: Recurrent, weights: CellWeights, x: Array, h: Array, initial_h: Array
) -> CellTrace:
    """Recompute the gates of a sequence whose hidden states are known.

    The cell state is followed from zero: what it was at the start is forgotten as it is in the
    layer itself.

    Shapes:
        x (T, B, I), h (T, D, B, H) as the layer gave it, initial_h (D, B, H).
    """
    gates, hidden = op.gates, op.hidden
    found: dict[str, list[Array]] = {"c": [], "saturated": [], "still": []}
    for d in range(op.direction.count):
        backward = d == 1 or op.direction.value == "reverse"
        xs, hs = (x[::-1], h[::-1, d]) if backward else (x, h[:, d])
        before = np.concatenate([initial_h[d][None], hs[:-1]])
        sums = xs @ weights.w[d].T + before @ weights.r[d].T
        if weights.b is not None:
            sums = sums + weights.b[d].reshape(2, -1).sum(axis=0)
        frames = sums.reshape(*sums.shape[:2], gates, hidden)
        cells = np.zeros_like(hs)
        if isinstance(op, LSTM):
            cells = _follow_cells(op, weights.p, d, frames)
        flat = frames.reshape(-1, gates, hidden)
        moved = 1.0 / (1.0 + np.exp(-np.clip(flat, -60, 60)))
        found["c"].append(np.abs(cells).max(axis=(0, 1)))
        found["saturated"].append((np.abs(flat) > 6.0).mean(axis=0))
        found["still"].append(moved.max(axis=0) - moved.min(axis=0) < _STILL)
    return CellTrace(
        h_largest=np.abs(h).max(axis=(0, 2)),
        h_mean=h.mean(axis=(0, 2)),
        h_range=h.max(axis=(0, 2)) - h.min(axis=(0, 2)),
        c_largest=np.stack(found["c"]),
        saturated=np.stack(found["saturated"]),
        still=np.stack(found["still"]),
    )


def _follow_cells(op: LSTM, p: Array | None, d: int, frames: Array) -> Array:
    """C of every frame (T, B, H) from pre-activations (T, B, 4, H)."""
    f, g = (
        op_fields(Unary(activation))["activation"] for activation in op.activations[3 * d :][:2]
    )
    peephole = np.zeros((3, op.hidden), frames.dtype) if p is None else p[d].reshape(3, -1)
    bound = np.inf if op.clip is None else op.clip
    c = np.zeros_like(frames[0, :, 0])
    cells = np.empty_like(frames[:, :, 0])
    for t, frame in enumerate(frames):
        i = activate(f, np.clip(frame[:, 0] + peephole[0] * c, -bound, bound))
        forget = 1 - i
        if not op.input_forget:
            forget = activate(f, np.clip(frame[:, 2] + peephole[2] * c, -bound, bound))
        c = forget * c + i * activate(g, np.clip(frame[:, 3], -bound, bound))
        cells[t] = c
    return cells
