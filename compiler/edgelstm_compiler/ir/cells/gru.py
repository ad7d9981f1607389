"""GRU."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.numerics.cells import (
    Cell,
    CellPhase,
    Flush,
    Gate,
    GatedSum,
    Lerp,
    Let,
    Range,
    Scale,
    State,
    StateForm,
    Store,
    Sum,
)
from edgelstm_compiler.ir.cells.terms import of_both, of_frame, of_memory
from edgelstm_compiler.ir.ops.recurrent import Recurrent

_F, _G = range(2)  # the operator's two functions
_Z, _R, _N = range(3)  # gates

_GATES = (Let("z", Gate("z_sum", _F, Range.UNIT)), Let("r", Gate("r_sum", _F, Range.UNIT)))
_GATE_SUMS = (of_both("z_sum", _Z), of_both("r_sum", _R))


@dataclass(frozen=True, slots=True)
class GRU(Recurrent):
    """Gated recurrent unit, with the reset gate before or after the recurrent product.

    z = f(...), r = f(...); n = g(Wn x + Rn (r*h) + b) or, with linear_before_reset,
    n = g(Wn x + r*(Rn h + Rb) + Wb); h' = (1 - z)*n + z*h.  Source: ONNX operators, GRU-22.
    """

    linear_before_reset: bool = False

    def build(self, *, peepholes: bool) -> Cell:
        """With linear_before_reset one phase, else a second one that multiplies r*h of all units.

        In one phase the candidate's recurrent part is a sum of its own, because r scales it.
        """
        del peepholes
        if self.linear_before_reset:
            sums = (*_GATE_SUMS, Sum("n_sum", (of_frame(_N),)), Sum("inner", (of_memory(_N),)))
            candidate = Let("n_total", GatedSum("n_sum", "r", "inner"))
            body = (*_GATES, candidate, *_mixture("n_total"))
            phases: tuple[CellPhase, ...] = (CellPhase(sums, body),)
        else:
            body = (
                *_GATES,
                Store("z", "z"),
                Let("scaled_h", Scale("r", "h")),
                Let("flushed_h", Flush("scaled_h")),
                Store("reset_h", "flushed_h"),
            )
            phases = (
                CellPhase(_GATE_SUMS, body),
                CellPhase((of_both("n_sum", _N, "reset_h"),), _mixture("n_sum")),
            )
        gates = ("update gate", "reset gate", "candidate")
        return Cell("GRU", gates, (State("h", StateForm.SIGNED),), phases)


def _mixture(candidate: str) -> tuple[Let | Store, ...]:
    """The candidate's function, mixed with h by z."""
    return (
        Let("n", Gate(candidate, _G, Range.SIGNED)),
        Let("mixed", Lerp("z", "n", "h")),
        Let("new_h", Flush("mixed")),
        Store("h", "new_h"),
    )
