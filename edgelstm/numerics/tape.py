"""A cell as a flat list of calls: what a frame computes, without names and without choices.

Values stand in slots of one list. The list is made once for a layer, from the cell's data and the
functions that a numerics gives for its nodes; a frame runs through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgelstm.numerics.cells import Cell, PlannedSum

Function = Callable[..., Any]
Operation = Callable[[list[Any]], None]
Observer = Callable[[str, Any], None]
"""Called with the name and value of every sum, node and new state, frame by frame."""

FRAME = 0
"""The slot of what a frame contributes to the sums."""

PARAMETERS = 1
"""The slot of the weights of a direction."""


class Builder(Protocol):
    """What a tape asks of a numerics, beside one method for each node.

    `gate(tape, node, *slots)` and the like write a node's calls, and give its value's slot.
    """

    @property
    def cell(self) -> Cell:
        """What is computed."""

    def total(self, tape: Tape, total: PlannedSum, slots: dict[str, int]) -> int:
        """Write a sum; the slot of its value."""

    @property
    def key(self) -> Any:
        """Hashable: what else the step depends on."""

    def load(self, name: str) -> Function | None:
        """What makes a state readable for nodes; None: it is."""

    def store(self, name: str) -> Function | None:
        """What makes a new value into a state, or into what is handed on; None: it is."""


@dataclass(slots=True)
class Tape:
    """Calls in their order.

    Args:
        size: slots so far.
        operations: what a frame runs.
        shown: what an observer sees: after how many operations, by which name, in which slot.
        once: slots that several sums share, by a key of the numerics.
    """

    size: int = PARAMETERS + 1
    operations: list[Operation] = field(default_factory=list)
    shown: list[tuple[int, str, int]] = field(default_factory=list)
    once: dict[str, int] = field(default_factory=dict)

    def add(self, function: Function, *operands: int) -> int:
        """Call a function with the values of slots; the slot of its result."""
        slot = self.slot()
        self.operations.append(_operation(function, slot, operands))
        return slot

    def share(self, key: str, function: Function, *operands: int) -> int:
        """The same, once in a frame."""
        if key not in self.once:
            self.once[key] = self.add(function, *operands)
        return self.once[key]

    def show(self, name: str, slot: int) -> None:
        """Let observers see a slot; it has its value when the operations so far have run."""
        self.shown.append((len(self.operations), name, slot))

    def slot(self) -> int:
        """A new one."""
        self.size += 1
        return self.size - 1


@dataclass(frozen=True, slots=True)
class Step:
    """From the states and a frame to the new states.

    Args:
        size: slots.
        loads: for each state its slot, and what is called on it first, or None.
        operations, shown: of the tape.
        results: the slots of the new states.
    """

    size: int
    loads: tuple[tuple[int, Function | None], ...]
    operations: tuple[Operation, ...]
    shown: tuple[tuple[int, str, int], ...]
    results: tuple[int, ...]

    def run(
        self,
        parameters: Any,
        frame: Any,
        states: Sequence[Any],
        observer: Observer | None = None,
    ) -> tuple[Any, ...]:
        """The new states after one frame, whose products with W are given."""
        values: list[Any] = [None] * self.size
        values[FRAME], values[PARAMETERS] = frame, parameters
        for (slot, load), state in zip(self.loads, states, strict=True):
            values[slot] = state if load is None else load(state)
        if observer is None:
            for operation in self.operations:
                operation(values)
        else:
            self._run_observed(values, observer)
        return tuple([values[slot] for slot in self.results])

    def _run_observed(self, values: list[Any], observer: Observer) -> None:
        done = 0
        for until, name, slot in self.shown:
            for operation in self.operations[done:until]:
                operation(values)
            done = until
            observer(name, values[slot])
        for operation in self.operations[done:]:
            operation(values)


def step_of(builder: Builder) -> Step:
    """The step of a cell, written when it is first asked for."""
    written, key = builder.cell.written, builder.key
    found: Step | None = written.get(key)
    if found is None:
        found = written[key] = write_step(builder)
    return found


def write_step(builder: Builder) -> Step:
    """The step of a cell."""
    cell, tape = builder.cell, Tape()
    slots = {name: tape.slot() for name in cell.state_names}
    loads = tuple((slots[name], builder.load(name)) for name in cell.state_names)
    stored: dict[str, int] = {}
    for phase in cell.plan:
        for total in phase.sums:
            slots[total.name] = builder.total(tape, total, slots)
            tape.show(total.name, slots[total.name])
        handed: dict[str, int] = {}
        for name, method, node, operands in phase.actions:
            given = [slots[operand] for operand in operands]
            if node is not None:
                slots[name] = slot = getattr(builder, method)(tape, node, *given)
            else:
                store = builder.store(name)
                stored[name] = slot = given[0] if store is None else tape.add(store, given[0])
                if name not in cell.state_names:
                    handed[name] = slot
            # A value handed on under its own name has been seen.
            if node is not None or (name,) != operands:
                tape.show(name, slot)
        slots.update(handed)
    results = tuple(stored[name] for name in cell.state_names)
    return Step(tape.size, loads, tuple(tape.operations), tuple(tape.shown), results)


def _operation(function: Function, slot: int, operands: tuple[int, ...]) -> Operation:
    """A call by the number of its operands: unpacking a list takes longer than most of them."""
    match operands:
        case (a,):

            def operation(values: list[Any]) -> None:
                values[slot] = function(values[a])

        case (a, b):

            def operation(values: list[Any]) -> None:
                values[slot] = function(values[a], values[b])

        case (a, b, c):

            def operation(values: list[Any]) -> None:
                values[slot] = function(values[a], values[b], values[c])

        case _:

            def operation(values: list[Any]) -> None:
                values[slot] = function(*[values[operand] for operand in operands])

    return operation


def columns(start: int, count: int) -> Function:
    """Takes some columns of a value."""
    stop = start + count
    return lambda whole: whole[..., start:stop]
