"""Writes the body of a cell's phase: its statements in order, by the nodes of a numerics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgelstm.numerics.cells import Cell, CellPhase, Let, Store
from edgelstm_targets.tvm_cpu.cells.slots import Slot


class Numerics(Protocol):
    """What a body asks of a numerics, beside one method for each node.

    A value that one statement reads may stay an expression (`keeps`); what several read is written
    once, in front of the first of them (`named`).
    """

    def total(self, value: Any) -> Any:
        """A sum as nodes read it."""

    def load(self, slot: Slot, *, is_unit: bool) -> Any:
        """The old value of a state, or what an earlier phase handed on."""

    def store(self, slot: Slot, value: Any, *, is_unit: bool) -> None:
        """Write a new value."""

    def keeps(self, made: Let, reader: Let | Store, phase: CellPhase) -> bool:
        """Whether a result stays an expression where only `reader` reads it."""

    def named(self, value: Any) -> Any:
        """The value, computed once here."""


@dataclass(frozen=True, slots=True)
class UnitMemory:
    """Where a block of units keeps what its cell remembers.

    Args:
        old: states as they were, and what phases handed on, by name.
        new: where new states and handed values go, by name.
    """

    old: Mapping[str, Slot]
    new: Mapping[str, Slot]


def write_body(
    cell: Cell, index: int, numerics: Numerics, sums: Sequence[Any], memory: UnitMemory
) -> None:
    """Write one phase of a cell.

    Args:
        cell: the cell.
        index: of the phase.
        numerics: how nodes are written.
        sums: of the phase, in order.
        memory: memory of the block's units.
    """
    phase, units = cell.phases[index], cell.unit_values
    values: dict[str, Any] = {
        total.name: numerics.total(value) for total, value in zip(phase.sums, sums, strict=True)
    }
    for name in cell.reads(phase):
        values[name] = numerics.load(memory.old[name], is_unit=name in units)
    uses, shared = phase.uses, set[str]()

    def read(name: str) -> Any:
        if name in shared:
            shared.discard(name)
            values[name] = numerics.named(values[name])
        return values[name]

    for position, statement in enumerate(phase.body):
        if isinstance(statement, Store):
            target = statement.target
            value = read(statement.value)
            numerics.store(memory.new[target], value, is_unit=target in units)
            continue
        name, node = statement.name, statement.node
        result = getattr(numerics, node.method)(node, *map(read, node.operands))
        if uses[name] > 1:
            shared.add(name)
        else:
            reader = next(s for s in phase.body[position + 1 :] if name in _reads(s))
            if not numerics.keeps(statement, reader, phase):
                result = numerics.named(result)
        values[name] = result


def _reads(statement: Let | Store) -> tuple[str, ...]:
    return (statement.value,) if isinstance(statement, Store) else statement.node.operands
