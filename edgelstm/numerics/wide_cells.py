"""Cells whose hidden state keeps its 16 bits: what outputs and dense layers read of integers.

Such a state is Q0.15; where it begins beyond [-1, 1] it has a power of two, to which `Narrow`
brings what is computed in Q0.15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from edgelstm.numerics.cells import (
    Apply,
    Cell,
    CellPhase,
    Flush,
    Lerp,
    Let,
    MulAdd,
    Narrow,
    Peephole,
    Scale,
    StateForm,
    Store,
)


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


@cache
def ranged(cell: Cell) -> Cell:
    """The cell whose first state, of 16 bits, has a power of two.

    Values made of the state alone (a share of it, a mixture with it) are in its format; all others
    that it takes in are narrowed to that first.

    Raises:
        ValueError: the cell reads the state where only Q0.15 will do.
    """
    first = cell.state_names[0]
    held = {first}
    phases = []
    for phase in cell.phases:
        body: list[Let | Store] = []
        brought: dict[str, str] = {}

        def bring(
            name: str, body: list[Let | Store] = body, brought: dict[str, str] = brought
        ) -> str:
            if name in held:
                return name
            if name not in brought:
                brought[name] = f"{name}_in_{first}"
                body.append(Let(brought[name], Narrow(name)))
            return brought[name]

        for statement in phase.body:
            if isinstance(statement, Store):
                if statement.target == first:
                    body.append(replace(statement, value=bring(statement.value)))
                    continue
                if statement.value in held:
                    held.add(statement.target)
            else:
                statement = _held(statement, held, bring)
            body.append(statement)
        phases.append(CellPhase(phase.sums, tuple(body)))
    return replace(cell, phases=tuple(phases))


def _held(statement: Let, held: set[str], bring: Callable[[str], str]) -> Let:
    """The statement on operands in the state's format; notes whether its value is, too."""
    node = statement.node
    match node:
        case Lerp(z=z, n=n, h=h):
            if {n, h} & held:
                node = Lerp(z, bring(n), bring(h))
                held.add(statement.name)
        case Scale(value=value) | Flush(value=value):
            if value in held:
                held.add(statement.name)
        case Apply() | MulAdd() | Peephole() | Narrow():
            found = sorted(set(node.operands) & held)
            if found:
                raise ValueError(f"{statement.name!r} reads {found[0]!r}, which has a power of two")
        case _:
            pass
    return replace(statement, node=node)
