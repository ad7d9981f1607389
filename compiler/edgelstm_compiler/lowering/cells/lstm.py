"""LSTM: four sums per unit (i, o, f, candidate) over the frame and the hidden state."""

from __future__ import annotations

from edgelstm_compiler.ir.kernels import Bias, Phase, Section, Source
from edgelstm_compiler.ir.ops import LSTM

GATES = (0, 1, 2, 3)


def lstm_phases(op: LSTM, features: int) -> tuple[Phase, ...]:
    """One phase; input and recurrent bias of a gate are added up."""
    return (
        Phase(
            biases=tuple(Bias((gate,), (gate,)) for gate in GATES),
            sections=(
                Section(Source.X, features, GATES, GATES),
                Section(Source.H, op.hidden, GATES, GATES),
            ),
        ),
    )
