"""LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.numerics.cells import (
    Apply,
    Cell,
    CellPhase,
    Complement,
    Flush,
    Gate,
    Let,
    MulAdd,
    Narrow,
    Peephole,
    Range,
    Scale,
    State,
    StateForm,
    Store,
)
from edgelstm_compiler.ir.cells.terms import of_both
from edgelstm_compiler.ir.ops.recurrent import Recurrent

_F, _G, _H = range(3)  # the operator's three functions
_P_I, _P_O, _P_F = range(3)  # rows of P


@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory; with peepholes P and input_forget (f = 1 - i).

    i = f(Wi x + Ri h + b + Pi*c), o = f(... + Po*c'), f = f(... + Pf*c), g = g(...);
    c' = f*c + i*g, h' = o*h(c'); clip bounds the inputs of the gates, not c' before h.
    Source: ONNX operators, LSTM-22; clip as in ONNX Runtime.
    """

    input_forget: bool = False

    def build(self, *, peepholes: bool) -> Cell:
        """One phase; o sees the new c."""

        def gate(name: str, row: int, state: str) -> list[Let | Store]:
            total = f"{name}_sum"
            if not peepholes:
                return [Let(name, Gate(total, _F, Range.UNIT))]
            peeped = f"{name}_peeped"
            return [
                Let(peeped, Peephole(total, row, state)),
                Let(name, Gate(peeped, _F, Range.UNIT)),
            ]

        forget: list[Let | Store] = [Let("f", Complement("i"))]
        body = (
            *gate("i", _P_I, "c"),
            Let("g", Gate("g_sum", _G, Range.SIGNED)),
            *(forget if self.input_forget else gate("f", _P_F, "c")),
            Let("sum_c", MulAdd("f", "c", "i", "g")),
            Let("new_c", Flush("sum_c")),
            Store("c", "new_c"),
            *gate("o", _P_O, "new_c"),
            Let("shown", Apply(_H, "new_c")),
            Let("gated", Scale("o", "shown")),
            Let("flushed", Flush("gated")),
            Let("new_h", Narrow("flushed")),
            Store("h", "new_h"),
        )
        sums = tuple(of_both(f"{name}_sum", gate) for gate, name in enumerate("iofg"))
        return Cell(
            "LSTM",
            ("input gate", "output gate", "forget gate", "candidate"),
            (State("h", StateForm.NARROW), State("c", StateForm.FREE)),
            (CellPhase(sums, body),),
            3 if peepholes else 0,
        )
