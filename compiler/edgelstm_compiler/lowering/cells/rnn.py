"""RNN: one sum per unit."""

from __future__ import annotations

from edgelstm_compiler.ir.kernels import Bias, Phase, Section, Source
from edgelstm_compiler.ir.ops import RNN


def rnn_phases(op: RNN, features: int) -> tuple[Phase, ...]:
    """One phase."""
    return (
        Phase(
            biases=(Bias((0,), (0,)),),
            sections=(
                Section(Source.X, features, (0,), (0,)),
                Section(Source.H, op.hidden, (0,), (0,)),
            ),
        ),
    )
