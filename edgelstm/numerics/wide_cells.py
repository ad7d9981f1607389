"""Cells whose hidden state keeps its 16 bits: what outputs and dense layers read of integers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from edgelstm.numerics.cells import Cell, Let, Narrow, StateForm, Store


@cache
def widened(cell: Cell) -> Cell:
    """The cell with a first state that keeps its 16 bits; products alone read it as int8."""
    first, *others = cell.states
    if first.form is not StateForm.NARROW:
        return cell
    wide = {
        statement.name: statement.node.value
        for statement in cell.statements
        if isinstance(statement, Let) and isinstance(statement.node, Narrow)
    }
    phases = []
    for phase in cell.phases:
        body = tuple(
            replace(statement, value=wide.get(statement.value, statement.value))
            if isinstance(statement, Store)
            else statement
            for statement in phase.body
            if isinstance(statement, Store) or statement.name not in wide
        )
        phases.append(replace(phase, body=body))
    states = (replace(first, form=StateForm.SIGNED), *others)
    return replace(cell, states=states, phases=tuple(phases))
