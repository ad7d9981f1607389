"""GRU: z, r and the candidate, whose recurrent part the reset gate scales before or after."""

from __future__ import annotations

from edgelstm_compiler.ir.kernels import Bias, Phase, Section, Source
from edgelstm_compiler.ir.ops import GRU

Z, R, N = 0, 1, 2


def gru_phases(op: GRU, features: int) -> tuple[Phase, ...]:
    """With linear_before_reset one phase of four sums, else the gates and then the candidate.

    One phase: z, r, the candidate's input part and, apart from it, its recurrent part, which is
    multiplied by r. Two phases: the candidate's recurrent part reads r*h, so r of all units is
    computed first.
    """
    if op.linear_before_reset:
        return (
            Phase(
                biases=(Bias((Z,), (Z,)), Bias((R,), (R,)), Bias((N,)), Bias((), (N,))),
                sections=(
                    Section(Source.X, features, (Z, R, N), (0, 1, 2)),
                    Section(Source.H, op.hidden, (Z, R, N), (0, 1, 3)),
                ),
            ),
        )
    return (
        Phase(
            biases=(Bias((Z,), (Z,)), Bias((R,), (R,))),
            sections=(
                Section(Source.X, features, (Z, R), (0, 1)),
                Section(Source.H, op.hidden, (Z, R), (0, 1)),
            ),
        ),
        Phase(
            biases=(Bias((N,), (N,)),),
            sections=(
                Section(Source.X, features, (N,), (0,)),
                Section(Source.RESET_H, op.hidden, (N,), (0,)),
            ),
        ),
    )
