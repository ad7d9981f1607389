"""Sums as cells have them: rows of W times the frame, rows of R times what a cell remembers."""

from __future__ import annotations

from edgelstm.numerics.cells import Matrix, Sum, Term, X


def of_frame(gate: int) -> Term:
    """Wx of a gate, with its bias."""
    return Term(Matrix.W, gate, X)


def of_memory(gate: int, operand: str = "h") -> Term:
    """Rh of a gate, with its bias; the operand may be another one than h."""
    return Term(Matrix.R, gate, operand)


def of_both(name: str, gate: int, operand: str = "h") -> Sum:
    """Wx + Rh of a gate, with both biases."""
    return Sum(name, (of_frame(gate), of_memory(gate, operand)))
