"""How the inputs of a layer's sums vary together: what compensated rounding needs to know."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.numerics.cells import Cell, GatedSum, Let, Matrix
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.ir.trace import trace_layer
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.cell_trace import CellWeights, previous_h
from edgelstm_compiler.quant.extremes import Spread

WIDEST = 1024
"""Layers of more inputs are rounded to the nearest: their moments would fill megabytes."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the joint operand [x; h] of a layer's rows, by direction.

    Args:
        deviation: standard deviations (D, V, K), V the kinds of rows (`row_kinds`).
        correlation: (D, V, K, K), in the resolution of halves.
    """

    deviation: Array
    correlation: Array

    def selected(self, channels: Array) -> Moments:
        """Of some channels of x, (I,) of booleans, and all of h."""
        kept = np.ones(self.deviation.shape[-1], bool)
        kept[: len(channels)] = channels
        both = self.correlation[..., kept, :][..., kept]
        return Moments(self.deviation[..., kept], both)

    def turned(self, signs: Array) -> Moments:
        """With the signs of some channels of x changed, (I,) of 1 and -1."""
        turned = np.ones(self.deviation.shape[-1])
        turned[: len(signs)] = signs
        return Moments(self.deviation, self.correlation * turned * turned[:, None])

    def to_json(self) -> dict[str, Any]:
        """The upper halves of the correlations, as text."""
        upper = np.triu_indices(self.deviation.shape[-1], 1)
        halves = self.correlation[..., upper[0], upper[1]].astype("<f2")
        return {
            "deviation": self.deviation.tolist(),
            "correlation": base64.b64encode(halves.tobytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, data: Any) -> Moments:
        """Read what `to_json` wrote."""
        deviation = np.asarray(data["deviation"], np.float64)
        count = deviation.shape[-1]
        upper = np.triu_indices(count, 1)
        halves = np.frombuffer(base64.b64decode(data["correlation"], validate=True), "<f2")
        correlation = np.zeros((*deviation.shape, count))
        flat = halves.astype(np.float64).reshape(*deviation.shape[:-1], len(upper[0]))
        correlation[..., upper[0], upper[1]] = flat
        correlation += np.swapaxes(correlation, -1, -2) + np.eye(count)
        return cls(deviation, correlation)


def row_kinds(cell: Cell) -> tuple[list[tuple[str, str | None]], list[int]]:
    """What the rows of R multiply, and what scales their sums.

    Returns:
        The distinct kinds (operand of R, unit that scales the sum or None), and the kind of each
        gate. A GRU has two: the R of its candidate reads h through the reset gate.
    """
    units = {
        statement.node.inner: statement.node.unit
        for statement in cell.statements
        if isinstance(statement, Let) and isinstance(statement.node, GatedSum)
    }
    kinds: list[tuple[str, str | None]] = []
    positions = [0] * len(cell.gates)
    for total in cell.sums:
        for term in total.terms:
            if term.matrix is Matrix.R:
                kind = (term.operand, units.get(total.name))
                if kind not in kinds:
                    kinds.append(kind)
                positions[term.gate] = kinds.index(kind)
    return kinds, positions


class MomentSums:
    """Sums over recordings, of which `Moments` are made."""

    def __init__(self) -> None:
        self._count = 0.0
        self._first: Array | None = None
        self._second: Array | None = None

    def add(self, first: Array, second: Array, count: int) -> None:
        """Sums of operands (D, V, K) and of their products (D, V, K, K)."""
        self._count += count
        self._first = first if self._first is None else self._first + first
        self._second = second if self._second is None else self._second + second

    def moments(self) -> Moments | None:
        """Centered and normalized; None where nothing was added."""
        if self._first is None or self._second is None or not self._count:
            return None
        mean = self._first / self._count
        covariance = self._second / self._count - mean[..., :, None] * mean[..., None, :]
        variance = np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0.0)
        deviation = np.sqrt(variance)
        safe = np.where(deviation > 0, deviation, np.inf)
        found = covariance / safe[..., :, None] / safe[..., None, :]
        rounded = np.clip(found, -1.0, 1.0).astype(np.float16).astype(np.float64)
        eye = np.eye(deviation.shape[-1])
        return Moments(deviation, rounded * (1.0 - eye) + eye)


def add_dense(sums: MomentSums, x: Array) -> None:
    """A recording's inputs (n, K) of a dense layer."""
    rows = _quiet(x)
    if rows.shape[-1] <= WIDEST:
        sums.add(rows.sum(axis=0)[None, None], (rows.T @ rows)[None, None], len(rows))


def add_recurrent(
    sums: MomentSums,
    op: Recurrent,
    weights: CellWeights,
    x: Array,
    h: Array,
    initial_h: Array,
) -> None:
    """A recording of a recurrent layer: x (T, B, I), h (T, D, B, H) and h before it (D, B, H)."""
    if x.shape[-1] + op.hidden > WIDEST:
        return
    quiet = _quiet(x)
    before = previous_h(op, h, initial_h)
    kinds, _ = row_kinds(op.cell())
    first_state = op.cell().state_names[0]
    names = {name for kind in kinds for name in kind if name not in (None, first_state)}
    seen = _inside(op, weights, x, before, [name for name in names if name is not None])
    seen[first_state] = before.transpose(1, 0, 2, 3)
    flat = {
        name: value.astype(np.float64).reshape(len(value), -1, op.hidden)
        for name, value in seen.items()
    }
    found = [
        [
            _sums(quiet, flat[operand][d], None if unit is None else flat[unit][d])
            for operand, unit in kinds
        ]
        for d in range(h.shape[1])
    ]
    firsts, seconds = (np.array([[pair[i] for pair in row] for row in found]) for i in (0, 1))
    sums.add(firsts, seconds, len(quiet))


def _sums(x: Array, h: Array, unit: Array | None) -> tuple[Array, Array]:
    """Sums of the joint operand (K,) and of its products (K, K).

    A unit scales the sum of its own row only: it counts on average over the rows.
    """
    weighted = h
    if unit is not None:
        weighted = h * np.sqrt(np.square(unit).mean(axis=-1, keepdims=True))
        h = h * unit.mean(axis=-1, keepdims=True)
    joint = np.concatenate([x, h], axis=-1)
    second = joint.T @ joint
    second[x.shape[-1] :, x.shape[-1] :] = weighted.T @ weighted
    return joint.sum(axis=0), second


def _inside(
    op: Recurrent, weights: CellWeights, x: Array, before: Array, names: Sequence[str]
) -> dict[str, Array]:
    """Values of the cell in every frame (D, T*B, 1, H), from the h that each starts from."""
    if not names:
        return {}
    start = before.transpose(1, 0, 2, 3).reshape(before.shape[1], -1, op.hidden)
    frames = x.reshape(1, -1, x.shape[-1])
    operands = [frames, weights.w, weights.r, weights.b, None, start, None, weights.p]
    return trace_layer(op, operands, names)


def _quiet(x: Array) -> Array:
    """Rows (n, K) with the median in place of glitches."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    spread = Spread.of(rows)
    return np.where(spread.extreme, spread.median, rows)
