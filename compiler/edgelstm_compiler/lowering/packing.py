"""Packs weights as the mat-vec reads them, and unpacks them; the layout is in `ir/kernels.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.kernels import DenseKernel, Phase, RecurrentKernel, Source
from edgelstm_compiler.ir.types import Array


@dataclass(frozen=True, slots=True)
class CellWeights:
    """Weights of one direction in ONNX order.

    Shapes:
        w (G, H, I), r (G, H, H) or None where no section reads h, wb (G, H), rb (G, H),
        peepholes (rows, H), or None.
    """

    w: Array
    r: Array | None
    wb: Array
    rb: Array
    peepholes: Array | None


def pack_recurrent(
    kernel: RecurrentKernel, w: Array, r: Array | None, b: Array | None, p: Array | None
) -> Array:
    """All directions of a layer, one after another.

    Shapes:
        w (D, G*H, I), r (D, G*H, H) or None, b (D, 2*G*H) or None, p (D, rows*H) or None -> (n,)
    """
    directions, gates, hidden = w.shape[0], kernel.op.gates, kernel.op.hidden
    parts: list[Array] = []
    for d in range(directions):
        bias = (
            np.zeros((2, gates, hidden), w.dtype) if b is None else b[d].reshape(2, gates, hidden)
        )
        weights = CellWeights(
            w[d].reshape(gates, hidden, -1),
            None if r is None else r[d].reshape(gates, hidden, hidden),
            bias[0],
            bias[1],
            None if p is None else p[d].reshape(-1, hidden),
        )
        parts += pack_phases(kernel.phases, weights, hidden, kernel.unit_block)
    return np.concatenate(parts)


def pack_dense(kernel: DenseKernel, w: Array, b: Array | None) -> Array:
    """Weights of a dense layer.

    Shapes:
        w (K, N), b (N,) or None -> (n,)
    """
    bias = np.zeros((1, kernel.units), w.dtype)
    if b is not None:
        bias[0] = b
    weights = CellWeights(w.T[None], None, bias, np.zeros_like(bias), None)
    return np.concatenate(
        list(pack_phases(kernel.phases, weights, kernel.units, kernel.unit_block))
    )


def pack_phases(
    phases: Sequence[Phase], weights: CellWeights, units: int, unit_block: int
) -> Iterator[Array]:
    """The flat parts of one direction in order."""
    for phase in phases:
        for first in range(0, units, unit_block):
            block = slice(first, first + unit_block)
            for bias in phase.biases:
                total = sum(
                    [weights.wb[gate, block] for gate in bias.input_gates]
                    + [weights.rb[gate, block] for gate in bias.recurrent_gates],
                    np.zeros_like(weights.wb[0, block]),
                )
                yield _padded(total, unit_block)
            if weights.peepholes is not None:
                for row in weights.peepholes:
                    yield _padded(row[block], unit_block)
            for section in phase.sections:
                matrix = weights.w if section.source is Source.X else weights.r
                assert matrix is not None
                rows = _padded(matrix[list(section.gates), block], unit_block, axis=1)
                # (gate, unit, k) -> (k, gate, unit)
                yield rows.transpose(2, 0, 1).reshape(-1)


def unpack_recurrent(
    kernel: RecurrentKernel, packed: Array
) -> tuple[Array, Array | None, Array, Array | None]:
    """The inverse of `pack_recurrent`, with the biases of an accumulator put into one row.

    Shapes:
        (n,) -> w (D, G*H, I), r (D, G*H, H) or None, b (D, 2*G*H), p (D, rows*H) or None
    """
    op = kernel.op
    directions, gates, hidden = op.direction.count, op.gates, op.hidden
    w = np.zeros((directions, gates, hidden, kernel.features), packed.dtype)
    r = np.zeros((directions, gates, hidden, hidden), packed.dtype)
    b = np.zeros((directions, 2, gates, hidden), packed.dtype)
    p = np.zeros((directions, kernel.cell.peepholes, hidden), packed.dtype)
    at = 0
    for d in range(directions):
        weights = CellWeights(w[d], r[d], b[d, 0], b[d, 1], p[d])
        at = _unpack_phases(kernel, packed, at, weights)
    assert at == packed.size
    return (
        w.reshape(directions, -1, kernel.features),
        r.reshape(directions, -1, hidden) if kernel.cell.is_recurrent else None,
        b.reshape(directions, -1),
        p.reshape(directions, -1) if kernel.has_peepholes else None,
    )


def unpack_dense(kernel: DenseKernel, packed: Array) -> tuple[Array, Array]:
    """The inverse of `pack_dense`: w (K, N) and b (N,)."""
    block, features = kernel.unit_block, kernel.features
    lines = packed.reshape(-1, 1 + features, block)
    b = lines[:, 0].reshape(-1)[: kernel.units]
    w = lines[:, 1:].transpose(1, 0, 2).reshape(features, -1)[:, : kernel.units]
    return w, b


def _unpack_phases(kernel: RecurrentKernel, packed: Array, at: int, weights: CellWeights) -> int:
    block, hidden = kernel.unit_block, kernel.op.hidden

    def take(count: int) -> Array:
        nonlocal at
        at += count
        return packed[at - count : at]

    for phase in kernel.phases:
        for first in range(0, hidden, block):
            live = min(block, hidden - first)
            units = slice(first, first + live)
            for bias in phase.biases:
                line = take(block)[:live]
                target = weights.wb if bias.input_gates else weights.rb
                target[(bias.input_gates or bias.recurrent_gates)[0], units] = line
            if kernel.has_peepholes:
                assert weights.peepholes is not None
                for row in weights.peepholes:
                    row[units] = take(block)[:live]
            for section in phase.sections:
                matrix = weights.w if section.source is Source.X else weights.r
                assert matrix is not None
                count = len(section.gates)
                rows = take(section.extent * count * block).reshape(section.extent, count, block)
                matrix[list(section.gates), units] = rows[:, :, :live].transpose(1, 2, 0)
    return at


def _padded(data: Array, extent: int, axis: int = 0) -> Array:
    missing = extent - data.shape[axis]
    if missing == 0:
        return data
    widths = [(0, missing if place == axis else 0) for place in range(data.ndim)]
    return np.pad(data, widths)
