"""Matrix products: the general one, and Dense with constant weights, bias and activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.types import Op, TensorType, Tie


@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """A @ B with NumPy's rules for vectors and broadcast batch axes."""

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Shape of the product."""
        a, b = inputs
        if a is None or b is None or a.dtype is not b.dtype:
            raise ValueError(f"MatMul of {a} and {b}")
        if a.rank < 1 or b.rank < 1 or a.size * b.size == 0:
            raise ValueError(f"MatMul of scalars or empty tensors {a} and {b}")
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if left[-1] != right[-2]:
            raise ValueError(f"MatMul of {a} and {b}: {left[-1]} columns, {right[-2]} rows")
        batches = np.broadcast_shapes(left[:-2], right[:-2])
        rows = left[-2:-1] if a.rank > 1 else ()
        columns = right[-1:] if b.rank > 1 else ()
        return (a.with_shape((*batches, *rows, *columns)),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Batch axes of both, rows of A, columns of B."""
        a, b = inputs
        assert a is not None
        assert b is not None
        (out,) = outputs
        ties: list[Tie] = []
        row_axes = a.rank - 1
        for axis in range(row_axes):
            out_axis = axis + out.rank - a.rank if b.rank > 1 else axis
            if b.rank == 1:
                out_axis = axis + out.rank - row_axes
            if a.shape[axis] == out.shape[out_axis]:
                ties.append(Tie(0, axis, 0, out_axis))
        if b.rank > 1:
            tail = 1 if a.rank == 1 else 0
            for axis in range(b.rank):
                if axis == b.rank - 2:
                    continue
                out_axis = axis + out.rank - b.rank + (tail if axis < b.rank - 2 else 0)
                if 0 <= out_axis < out.rank and b.shape[axis] == out.shape[out_axis]:
                    ties.append(Tie(1, axis, 0, out_axis))
        return tuple(ties)


@dataclass(frozen=True, slots=True)
class Dense(Op):
    """activation(x @ w + b) on the last axis.

    Shapes:
        x (..., K), w (K, N), b (N,) or None -> (..., N).
    """

    activation: Activation | None = None

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """The input's shape with N in place of K."""
        x, w, *rest = inputs
        if x is None or w is None or x.rank < 1 or w.rank != 2 or x.shape[-1] != w.shape[0]:
            raise ValueError(f"Dense of {x} with weights {w}")
        bias = rest[0] if rest else None
        if w.dtype is not x.dtype:
            raise ValueError(f"Dense of {x} with weights {w}")
        if bias is not None and bias != w.with_shape((w.shape[1],)):
            raise ValueError(f"Dense bias {bias}, expected {w.with_shape((w.shape[1],))}")
        return (x.with_shape((*x.shape[:-1], w.shape[1])),)

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """All axes but the last."""
        del inputs
        return tuple(Tie(0, axis, 0, axis) for axis in range(outputs[0].rank - 1))
