"""What happens inside of a recurrent layer over a sequence: gates and cell states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.ir.trace import trace_layer
from edgelstm_compiler.ir.types import Array

_STILL = 1e-3
"""A unit or gate whose range stays below this never moved."""


@dataclass(frozen=True, slots=True)
class CellWeights:
    """A layer's float weights, as the operator takes them."""

    w: Array
    r: Array | None
    b: Array | None
    p: Array | None


@dataclass(frozen=True, slots=True)
class CellTrace:
    """Statistics of one layer; arrays are by direction and unit, (D, H) or (D, G, H).

    Args:
        h_largest: largest |h|.
        h_mean: mean of h.
        h_range: largest minus smallest h.
        c_largest: largest of the states beyond h, or zeros.
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
    op: Recurrent,
    weights: CellWeights,
    x: Array,
    h: Array,
    initial_h: Array,
    initial_c: Array | None = None,
) -> CellTrace:
    """Recompute the gates of a sequence whose hidden states are known.

    Without `initial_c` states beyond h are followed from zero: what they were at the start is
    forgotten as it is in the layer itself.

    Shapes:
        x (T, B, I), h (T, D, B, H) as the layer gave it, initial_h and initial_c (D, B, H).
    """
    others = op.cell().state_names[1:]
    if not others:
        # Every frame starts from a known state: all of them at once.
        before = previous_h(op, h, initial_h)
        initial_h = before.transpose(1, 0, 2, 3).reshape(h.shape[1], -1, op.hidden)
        x = x.reshape(1, -1, x.shape[-1])
    operands = [x, weights.w, weights.r, weights.b, None, initial_h, initial_c, weights.p]
    has_p = weights.p is not None
    gates = op.cell(peepholes=has_p).traced_gates
    names = [gate.total for gate in gates]
    found = trace_layer(op, operands, [*names, *others])
    sums = np.stack([found[name] for name in names], axis=1)
    moved = 1.0 / (1.0 + np.exp(-np.clip(sums, -60, 60)))
    c_largest = np.zeros((h.shape[1], op.hidden), h.dtype)
    for state in others:
        c_largest = np.maximum(c_largest, np.abs(found[state]).max(axis=(1, 2)))
    return CellTrace(
        h_largest=np.abs(h).max(axis=(0, 2)),
        h_mean=h.mean(axis=(0, 2)),
        h_range=h.max(axis=(0, 2)) - h.min(axis=(0, 2)),
        c_largest=c_largest,
        saturated=(np.abs(sums) > 6.0).mean(axis=(2, 3)),
        still=moved.max(axis=(2, 3)) - moved.min(axis=(2, 3)) < _STILL,
    )


def previous_h(op: Recurrent, h: Array, initial_h: Array) -> Array:
    """The h (T, D, B, H) that each frame starts from."""
    before = np.empty_like(h)
    for d in range(h.shape[1]):
        backward = d == 1 or op.direction is Direction.REVERSE
        order = slice(None, None, -1) if backward else slice(None)
        start = initial_h[d][None].astype(h.dtype)
        before[order, d] = np.concatenate([start, h[order, d][:-1]])
    return before
