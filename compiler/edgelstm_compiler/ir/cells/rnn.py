"""Simple recurrence."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.numerics.cells import (
    Cell,
    CellPhase,
    Flush,
    Gate,
    Let,
    Range,
    State,
    StateForm,
    Store,
)
from edgelstm_compiler.ir.cells.terms import of_both
from edgelstm_compiler.ir.ops.recurrent import Recurrent


@dataclass(frozen=True, slots=True)
class RNN(Recurrent):
    """Simple recurrence h' = f(W x + R h + b).  Source: ONNX operators, RNN-22."""

    def build(self, *, peepholes: bool) -> Cell:
        """One phase, one sum."""
        del peepholes
        body = (
            Let("y", Gate("sum", 0, Range.SIGNED)),
            Let("new_h", Flush("y")),
            Store("h", "new_h"),
        )
        phase = CellPhase((of_both("sum", 0),), body)
        return Cell("RNN", ("candidate",), (State("h", StateForm.SIGNED),), (phase,))
