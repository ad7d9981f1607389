"""A recurrent cell as data: gates, states, and how one frame turns the old states into the new.

A frame is one or more phases. A phase names sums (products of weight rows with x, with a state or
with a value that an earlier phase handed on), then follows a body in single-assignment form over
the nodes below. What a node computes is up to a numerics: floating point or integers in NumPy, a
code generator. The nodes say what is meant, not how: a numerics rounds, saturates and shares
divisions inside of one. Time, direction, masks and initial states are the walker's business.

The order of the statements is the order in which code is written; a value that is read once may be
kept as an expression.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, NamedTuple, get_type_hints

X = "x"
"""The name of the frame among the operands of products."""


class Matrix(StrEnum):
    """Which weights a product takes its rows from."""

    W = "W"  # (G*H, I)
    R = "R"  # (G*H, H)


class Range(StrEnum):
    """What an integer numerics may rely on, of a value that a function gives."""

    UNIT = "unit"  # [0, 1]
    SIGNED = "signed"  # [-1, 1]


class StateForm(StrEnum):
    """How integers carry a state."""

    NARROW = "narrow"  # in [-1, 1], as products read it: int8
    # Within [-1, 1], or a power of two that it begins in, and the memory itself: int16, which
    # products read as int8.
    SIGNED = "signed"
    FREE = "free"  # of calibrated size: int16 with a power of two


class Node:
    """Base of the nodes: their `str` fields name the sums and values that they read."""

    __slots__ = ()

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the sums and values that it reads, in order."""
        kind: Any = type(self)
        return tuple(getattr(self, name) for name in _operand_fields(kind))

    @property
    def method(self) -> str:
        """Which method of a numerics computes it: its name in lower case."""
        kind: Any = type(self)
        return _method(kind)


@cache
def _operand_fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name, hint in get_type_hints(kind).items() if hint is str)


@cache
def _method(kind: Any) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", str(kind.__name__)).lower()


@dataclass(frozen=True, slots=True)
class Gate(Node):
    """Function number `function` of a sum, which the cell's clip bounds first."""

    sum: str
    function: int
    range: Range


@dataclass(frozen=True, slots=True)
class Peephole(Node):
    """The sum plus row `row` of P times a value; a sum again."""

    sum: str
    row: int
    value: str


@dataclass(frozen=True, slots=True)
class GatedSum(Node):
    """The sum plus a unit value times another sum; a sum again."""

    sum: str
    unit: str
    inner: str


@dataclass(frozen=True, slots=True)
class Complement(Node):
    """1 - u of a unit value."""

    unit: str


@dataclass(frozen=True, slots=True)
class MulAdd(Node):
    """The new cell state f*c + i*g: two unit values, a state, a signed value."""

    f: str
    c: str
    i: str
    g: str


@dataclass(frozen=True, slots=True)
class Lerp(Node):
    """The mixture (1 - z)*n + z*h of two values by a unit value."""

    z: str
    n: str
    h: str


@dataclass(frozen=True, slots=True)
class Scale(Node):
    """A unit value times a signed one."""

    unit: str
    value: str


@dataclass(frozen=True, slots=True)
class Apply(Node):
    """Function number `function` of a state's new value; no clip bounds it."""

    function: int
    value: str


@dataclass(frozen=True, slots=True)
class Flush(Node):
    """A value that is carried on, as it is carried: code flushes what would become denormal."""

    value: str


@dataclass(frozen=True, slots=True)
class Narrow(Node):
    """A signed value as the first state keeps it; nothing in floating point.

    That is the resolution that products read, or, of a state of 16 bits, its power of two.
    """

    value: str


NODES: tuple[type[Node], ...] = (
    Gate,
    Peephole,
    GatedSum,
    Complement,
    MulAdd,
    Lerp,
    Scale,
    Apply,
    Flush,
    Narrow,
)
"""Every node that a body may hold."""


@dataclass(frozen=True, slots=True)
class Term:
    """The rows of one gate of a matrix times an operand, plus those rows' bias.

    Args:
        matrix: W or R.
        gate: index of the gate.
        operand: `X`, the first state, or a value that an earlier phase stored.
    """

    matrix: Matrix
    gate: int
    operand: str


@dataclass(frozen=True, slots=True)
class Sum:
    """A named sum of terms, one number for each unit."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Let:
    """Gives the result of a node a name."""

    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Store:
    """The new value of a state; or, under any other name, what a later phase reads of all units."""

    target: str
    value: str


@dataclass(frozen=True, slots=True)
class CellPhase:
    """Sums, and what becomes of them; a later phase may read what this one stored."""

    sums: tuple[Sum, ...]
    body: tuple[Let | Store, ...]

    @property
    def uses(self) -> Counter[str]:
        """How many statements read each name."""
        found: Counter[str] = Counter()
        for statement in self.body:
            found.update(
                {statement.value} if isinstance(statement, Store) else set(_reads(statement))
            )
        return found


@dataclass(frozen=True, slots=True)
class State:
    """What a cell carries from frame to frame, one number for each unit.

    Args:
        name: "h" for the first one, which is also the cell's output.
        form: how integers carry it.
    """

    name: str
    form: StateForm


@dataclass(frozen=True, slots=True)
class TracedGate:
    """Where the inside of a gate shows.

    Args:
        gate: its index.
        range: of its values.
        total: what the function is applied to.
        value: what the function gives.
    """

    gate: int
    range: Range
    total: str
    value: str


class PlannedSum(NamedTuple):
    """A sum with its position among all of the cell.

    Args:
        joined: the state where the sum is Wx + Rh of one gate; such sums are added for all gates at
            once. "" where it is another one.
    """

    name: str
    position: int
    terms: tuple[Term, ...]
    joined: str


class Action(NamedTuple):
    """A statement; a store has no method, and its value is the only operand."""

    name: str
    method: str
    node: Node | None
    operands: tuple[str, ...]


class PlannedPhase(NamedTuple):
    """A phase made ready for a walk."""

    sums: tuple[PlannedSum, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Cell:
    """A recurrent cell; what follows from its data is found out once.

    Args:
        name: for messages.
        gates: names of the row blocks of W and R, in order.
        states: the first one is the output; only it is multiplied with R.
        phases: of one frame, in order.
        peepholes: rows of P.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[State, ...]
    phases: tuple[CellPhase, ...]
    peepholes: int = 0

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states in order."""
        return tuple(state.name for state in self.states)

    @cached_property
    def sums(self) -> tuple[Sum, ...]:
        """The sums of all phases in order."""
        return tuple(total for phase in self.phases for total in phase.sums)

    @cached_property
    def statements(self) -> tuple[Let | Store, ...]:
        """The statements of all phases in order."""
        return tuple(statement for phase in self.phases for statement in phase.body)

    @cached_property
    def forms(self) -> dict[str, StateForm]:
        """The form of each state by name."""
        return {state.name: state.form for state in self.states}

    @cached_property
    def plan(self) -> tuple[PlannedPhase, ...]:
        """The phases made ready for a walk."""
        index, planned = 0, []
        for phase in self.phases:
            sums = []
            for total in phase.sums:
                matrices = [term.matrix for term in total.terms]
                gates, last = {term.gate for term in total.terms}, total.terms[-1].operand
                is_joined = matrices == [Matrix.W, Matrix.R] and len(gates) < 2
                joined = last if is_joined and last in self.state_names else ""
                sums.append(PlannedSum(total.name, index, total.terms, joined))
                index += 1
            actions = tuple(
                Action(each.target, "", None, (each.value,))
                if isinstance(each, Store)
                else Action(each.name, each.node.method, each.node, each.node.operands)
                for each in phase.body
            )
            planned.append(PlannedPhase(tuple(sums), actions))
        return tuple(planned)

    @cached_property
    def written(self) -> dict[Any, Any]:
        """What numerics made of the cell, by themselves (`tape.step_of`)."""
        return {}

    @cached_property
    def handed(self) -> tuple[str, ...]:
        """Values that one phase hands to another, in the order in which they are stored."""
        states = self.state_names
        stores = (each for each in self.statements if isinstance(each, Store))
        return tuple(each.target for each in stores if each.target not in states)

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether anything is multiplied with R."""
        return any(term.matrix is Matrix.R for total in self.sums for term in total.terms)

    def reads(self, phase: CellPhase) -> tuple[str, ...]:
        """The states, then the handed values, that the body of a phase reads as they were."""
        own = {statement.name for statement in phase.body if isinstance(statement, Let)}
        names = (*self.state_names, *self.handed)
        return tuple(name for name in names if phase.uses[name] and name not in own)

    @cached_property
    def function_ranges(self) -> tuple[Range, ...]:
        """What each function of the cell has to give: the range of the gates that apply it."""
        found: dict[int, Range] = {}
        for statement in self.statements:
            if isinstance(statement, Let):
                match statement.node:
                    case Gate(function=function, range=values):
                        found[function] = values
                    case Apply(function=function):
                        found.setdefault(function, Range.SIGNED)
        return tuple(found[index] for index in sorted(found))

    @cached_property
    def unit_values(self) -> frozenset[str]:
        """The values in [0, 1], also under the names that they are stored with."""
        found: set[str] = set()
        for statement in self.statements:
            if isinstance(statement, Store):
                if statement.value in found:
                    found.add(statement.target)
            elif isinstance(statement.node, Complement) or (
                isinstance(statement.node, Gate) and statement.node.range is Range.UNIT
            ):
                found.add(statement.name)
        return frozenset(found)

    @cached_property
    def sum_ranges(self) -> tuple[Range | None, ...]:
        """For each sum the range of the gate that it ends in; None where it ends in none."""
        ends: dict[str, Range] = {}
        for phase in reversed(self.phases):
            for statement in reversed(phase.body):
                if not isinstance(statement, Let):
                    continue
                match statement.node:
                    case Gate(sum=total, range=values):
                        ends[total] = values
                    case Peephole(sum=total) if statement.name in ends:
                        ends[total] = ends[statement.name]
                    case GatedSum(sum=total, inner=inner) if statement.name in ends:
                        ends[total] = ends[inner] = ends[statement.name]
        return tuple(ends.get(total.name) for total in self.sums)

    @cached_property
    def shared_biases(self) -> tuple[bool, ...]:
        """For each gate whether one sum has both its biases, that of W and that of R."""
        positions: list[set[str]] = [set() for _ in self.gates]
        for total in self.sums:
            for term in total.terms:
                positions[term.gate].add(total.name)
        return tuple(len(found) <= 1 for found in positions)

    @cached_property
    def traced_gates(self) -> tuple[TracedGate, ...]:
        """The gates that a function makes, by index; one that follows from another is left out."""
        gates = {total.name: total.terms[0].gate for total in self.sums}
        found = []
        for statement in self.statements:
            if not isinstance(statement, Let):
                continue
            match statement.node:
                case Gate(sum=total, range=values):
                    found.append(TracedGate(gates[total], values, total, statement.name))
                case Peephole(sum=total) | GatedSum(sum=total):
                    gates[statement.name] = gates[total]
        return tuple(sorted(found, key=lambda each: each.gate))


def expect_sound(cell: Cell) -> None:
    """Check that every name is known where it is read.

    Raises:
        ValueError: it is not, or a number is out of range; the message says which.
    """
    states, handed = cell.state_names, cell.handed
    known = {X, *states[:1]}
    for phase in cell.phases:
        values = {*states, *known} - {X}
        for total in phase.sums:
            for term in total.terms:
                if not 0 <= term.gate < len(cell.gates) or term.operand not in known:
                    raise ValueError(f"cell {cell.name}: sum {total.name!r} has the term {term}")
                if (term.matrix is Matrix.W) is not (term.operand == X):
                    raise ValueError(f"cell {cell.name}: W multiplies x, R the rest: {term}")
            values.add(total.name)
        for statement in phase.body:
            missing = [name for name in _reads(statement) if name not in values]
            if missing:
                raise ValueError(f"cell {cell.name}: {missing[0]!r} is read before it is computed")
            if isinstance(statement, Store):
                known |= {statement.target} & set(handed)
                continue
            node = statement.node
            if isinstance(node, Peephole) and not 0 <= node.row < cell.peepholes:
                raise ValueError(f"cell {cell.name}: P has no row {node.row}")
            if statement.name in values:
                raise ValueError(f"cell {cell.name}: {statement.name!r} is computed twice")
            values.add(statement.name)
    stored = [s.target for s in cell.statements if isinstance(s, Store)]
    if sorted(set(stored)) != sorted(stored) or not set(states) <= set(stored) or not states:
        raise ValueError(f"cell {cell.name}: states {states}, stored {tuple(stored)}")
    unread = [
        statement.name
        for phase in cell.phases
        for statement in phase.body
        if isinstance(statement, Let) and not phase.uses[statement.name]
    ]
    if unread:
        raise ValueError(f"cell {cell.name}: nothing reads {unread[0]!r}")
    nodes = [statement.node for statement in cell.statements if isinstance(statement, Let)]
    functions = sorted({node.function for node in nodes if isinstance(node, (Gate, Apply))})
    if functions != list(range(len(functions))):
        raise ValueError(f"cell {cell.name}: its functions are {functions}")


def _reads(statement: Let | Store) -> tuple[str, ...]:
    return (statement.value,) if isinstance(statement, Store) else statement.node.operands
