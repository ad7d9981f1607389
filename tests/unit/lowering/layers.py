"""Recurrent kernels of every cell, for tests of packing."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel, phases_of
from edgelstm_compiler.ir.ops import Direction
from edgelstm_compiler.lowering.compact_layout import form_of
from edgelstm_compiler.lowering.layer_rows import (
    LayerRows,
    Rows,
    pack_layer,
    spread_biases,
    sum_biases,
    unpack_layer,
)
from edgelstm_compiler.lowering.unpacking import empty_rows

SIZES = st.integers(1, 37)
BLOCKS = st.sampled_from([4, 8, 16])


def kernel_of(
    kind: Any, hidden: int, features: int, block: int, direction: Direction, **fields: Any
) -> RecurrentKernel:
    """A layer of one frame."""
    peepholes = fields.pop("peepholes", False)
    functions = {LSTM: (SIGMOID, TANH, TANH), GRU: (SIGMOID, TANH), RNN: (TANH,)}[kind]
    op = kind(hidden, direction, functions * direction.count, None, **fields)
    phases = phases_of(op.cell(peepholes=peepholes), hidden, features)
    return RecurrentKernel(op, 1, 1, features, peepholes, block, phases)


@st.composite
def kernels(draw: st.DrawFn) -> RecurrentKernel:
    """Every cell with odd sizes."""
    kind = draw(st.sampled_from([LSTM, GRU, RNN]))
    fields: dict[str, Any] = {}
    if kind is LSTM:
        fields = {"peepholes": draw(st.booleans()), "input_forget": draw(st.booleans())}
    elif kind is GRU:
        fields = {"linear_before_reset": draw(st.booleans())}
    direction = draw(st.sampled_from(Direction))
    return kernel_of(kind, draw(SIZES), draw(SIZES), draw(BLOCKS), direction, **fields)


def pack_recurrent(
    kernel: RecurrentKernel, w: np.ndarray, r: np.ndarray, b: np.ndarray | None, p: Any
) -> np.ndarray:
    """Packed float32 weights, from an operator's own."""
    op, count = kernel.op, len(w)
    shape = (count, op.gates, op.hidden)
    rows = (
        np.zeros((count, 2, *shape[1:]), np.float32)
        if b is None
        else b.reshape(count, 2, *shape[1:])
    )
    layer = LayerRows(
        Rows(w.reshape(*shape, -1), None),
        Rows(r.reshape(*shape, -1), None),
        sum_biases(kernel.phases, rows),
        None if p is None else p.reshape(count, -1, op.hidden),
    )
    return pack_layer(form_of(kernel), kernel.phases, layer).view(np.float32)


def unpack_recurrent(kernel: RecurrentKernel, packed: np.ndarray) -> tuple[Any, ...]:
    """W, R, B (each sum's in one of its rows) and P."""
    rows, count = empty_rows(kernel), kernel.op.direction.count
    unpack_layer(form_of(kernel), kernel.phases, rows, packed.view(np.uint8))
    assert rows.h is not None
    b = spread_biases(kernel.phases, rows.bias, kernel.op.gates)
    p = None if rows.peepholes is None else rows.peepholes.reshape(count, -1)
    w, r = (part.steps.reshape(count, -1, part.steps.shape[-1]) for part in (rows.x, rows.h))
    return w, r, b.reshape(count, -1), p


def pack_dense(kernel: DenseKernel, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """Packed float32 weights, from w (K, N) and b (N,)."""
    bias = np.zeros(kernel.units, np.float32) if b is None else b
    layer = LayerRows(Rows(w.T[None, None], None), None, bias[None, None], None)
    return pack_layer(form_of(kernel), kernel.phases, layer).view(np.float32)


def unpack_dense(kernel: DenseKernel, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W (K, N) and b (N,)."""
    rows = empty_rows(kernel)
    unpack_layer(form_of(kernel), kernel.phases, rows, packed.view(np.uint8))
    return rows.x.steps[0, 0].T, rows.bias[0, 0]
