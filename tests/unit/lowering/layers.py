"""Recurrent kernels of every cell, for tests of packing."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.kernels import RecurrentKernel, phases_of
from edgelstm_compiler.ir.ops import Direction

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
