"""Which output of a model is the state that one of its inputs wants at the next step.

Candidates have equal extents but for those of one, and one type. Evidence for a pair is, in this
order of weight: both are the same state of the same cell; they have one name; the input's elements
reach the output by being moved and by element-wise operators alone. The sum over all pairs is made
as large as possible; at least one input stays data. Equally good ways are refused with the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgelstm.errors import ModelError
from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.types import TensorType, Value
from edgelstm_compiler.streaming.carry.assignment import (
    best_with_a_row_left,
    equally_good,
)
from edgelstm_compiler.streaming.carry.influence import Influence, find_influence
from edgelstm_compiler.streaming.carry.names import is_signal, name_evidence
from edgelstm_compiler.streaming.carry.wiring import Wiring

ONE_CELL, OVERLAPPING_CELLS, OTHER_CELLS = 4.0, 2.0, -4.0
PATH = 1.5
BESIDE_A_CELL_STATE = 0.75
SEQUENCE_OUTPUT = -0.25
FIRST_VALUE = 0.5
NO_INFLUENCE = -0.125
"""A window that shifts by all of its length hands nothing on, but is carried all the same."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an input and an output are taken for one state.

    Args:
        score: the sum of what speaks for it.
        reasons: in words.
        is_guess: it rests on a path of element-wise operators alone, as a mask on a signal does.
        is_of_cell: both are one state of one recurrent layer.
    """

    score: float
    reasons: tuple[str, ...]
    is_guess: bool
    is_of_cell: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A state: read from an input, written to an output.

    Args:
        before: name of the input.
        after: name of the output.
        evidence: why; None where the caller says so.
    """

    before: str
    after: str
    evidence: Evidence | None = None

    @property
    def is_guess(self) -> bool:
        """Whether it should be looked at."""
        return self.evidence is not None and self.evidence.is_guess

    def __str__(self) -> str:
        if self.evidence is None:
            return f"{self.before} <- {self.after} (as given)"
        guess = "a guess: " if self.is_guess else ""
        return f"{self.before} <- {self.after} ({guess}{', '.join(self.evidence.reasons)})"


@dataclass(frozen=True, slots=True)
class Pairing:
    """All states of a model.

    Args:
        pairs: in the order of the inputs.
        free: inputs that stay data.
    """

    pairs: tuple[Pair, ...] = ()
    free: tuple[str, ...] = ()

    @property
    def rests_on_cells(self) -> bool:
        """Whether a state of a recurrent layer is among the pairs."""
        return any(pair.evidence is not None and pair.evidence.is_of_cell for pair in self.pairs)


class AmbiguousStatesError(ModelError):
    """Several ways to feed outputs back are equally likely."""


def find_pairs(
    graph: Graph,
    given: Mapping[str, str] | None = None,
    never: Sequence[str] = (),
    barely: Sequence[str] = (),
    likely: Sequence[str] = (),
) -> Pairing:
    """Pair inputs with outputs.

    Args:
        graph: the imported model, control inputs fixed.
        given: output by input, as the caller says.
        never: inputs that are data, whatever speaks for them.
        barely: inputs that may be weights: only one cell or one name makes them states.
        likely: inputs that have a default in a file whose weights are no inputs.

    Raises:
        AmbiguousStatesError: several ways are equally good; it lists them.
        ModelError: what the caller says does not fit the model.
    """
    given = given or {}
    _expect_possible(graph, given)
    inputs = [v for v in graph.inputs if v.name not in given and v.name not in never]
    outputs = [o for o in graph.outputs if o.name not in given.values()]
    evidence = _Evidence(graph, frozenset(barely), frozenset(likely)).of(inputs, outputs)
    scores = {places: found.score for places, found in evidence.items() if found.score > 0}
    rows = len(inputs)
    # Inputs that are data anyway may leave none of the others alone.
    is_free = any(value.name in never for value in graph.inputs)
    chosen = best_with_a_row_left(rows + is_free, len(outputs), scores)
    others = equally_good(rows + is_free, len(outputs), scores, chosen)
    if others:
        raise _ambiguous(inputs, outputs, [chosen, *others])
    pairs = {name: Pair(name, after) for name, after in given.items()}
    for row, column in chosen.items():
        before = inputs[row].name
        pairs[before] = Pair(before, outputs[column].name, evidence[row, column])
    return Pairing(
        tuple(pairs[value.name] for value in graph.inputs if value.name in pairs),
        tuple(value.name for value in graph.inputs if value.name not in pairs),
    )


def fits(before: TensorType, after: TensorType) -> bool:
    """Whether a tensor can take another one's place but for extents of one."""
    return before.dtype is after.dtype and _extents(before) == _extents(after)


def _extents(tensor: TensorType) -> tuple[int, ...]:
    return tuple(extent for extent in tensor.shape if extent != 1)


def _expect_possible(graph: Graph, given: Mapping[str, str]) -> None:
    values = {value.name: value for value in graph.inputs}
    shown = {output.name: output.value for output in graph.outputs}
    for before, after in given.items():
        for what, name, known in (("input", before, values), ("output", after, shown)):
            if name not in known:
                raise ModelError(
                    f"--carry {before}={after}: the model has no {what} {name!r}; its {what}s are: "
                    f"{', '.join(known) or 'none'}"
                )
        a, b = values[before].type, shown[after].type
        if not fits(a, b):
            raise ModelError(
                f"--carry {before}={after}: the input is {a}, the output {b}: a state has one "
                "shape (but for extents of one) and one type before and after a step"
            )
    doubled = [name for name in given.values() if list(given.values()).count(name) > 1]
    if doubled:
        raise ModelError(
            f"--carry: the output {doubled[0]!r} is given for several inputs; a state is one output"
        )


def _ambiguous(
    inputs: Sequence[Value], outputs: Sequence[Output], ways: Sequence[Mapping[int, int]]
) -> AmbiguousStatesError:
    lines, options = [], []
    for way in ways:
        pairs = [f"{inputs[row].name}={outputs[column].name}" for row, column in way.items()]
        lines.append(f"  {', '.join(pairs)}")
        options.append(" ".join(f"--carry {pair}" for pair in pairs))
    return AmbiguousStatesError(
        "several ways to feed outputs back into inputs are equally likely:\n"
        + "\n".join(lines)
        + f"\n  say which: {options[0]} (or another of these); --no-carry leaves all inputs and "
        "outputs to the caller, with --mode call"
    )


@dataclass(slots=True)
class _Evidence:
    """Scores of all candidates of a graph."""

    graph: Graph
    barely: frozenset[str]
    likely: frozenset[str]
    wiring: Wiring = field(init=False)
    influence: Influence = field(init=False)

    def __post_init__(self) -> None:
        self.wiring = Wiring(self.graph)

    def of(
        self, inputs: Sequence[Value], outputs: Sequence[Output]
    ) -> dict[tuple[int, int], Evidence]:
        """What speaks for each pair of places."""
        candidates = [
            (row, column)
            for row, value in enumerate(inputs)
            for column, output in enumerate(outputs)
            if fits(value.type, output.value.type)
        ]
        if not candidates:
            return {}
        self.influence = find_influence(self.graph)
        slots = {value: self.wiring.slots_from(value) for value in inputs}
        distances = {value: self.wiring.distances_from(value) for value in inputs}
        found: dict[tuple[int, int], Evidence] = {}
        for row, column in candidates:
            value, output = inputs[row], outputs[column]
            if self.influence.is_copy(value.name, output.name):
                continue  # what comes in goes out: nothing would ever change the state
            score, reasons = 0.0, []
            before, after = slots[value], self.wiring.slots_to(output.value)
            if any(slot.is_backward for slot in before | after):
                continue
            if before and after:
                score += _cells(before, after)
                if before & after:
                    cells = ", ".join(sorted({slot.node for slot in before & after}))
                    reasons.append(f"state of {cells}")
                    if self.wiring.is_sequence_output(output.value):
                        score += SEQUENCE_OUTPUT
            names = name_evidence(value.name, output.name)
            if names and self._is_reached(value, output, distances):
                score += names
                reasons.append("by name")
            is_certain = bool(reasons)
            if value.name in self.barely and not is_certain:
                continue
            steps = distances[value].get(output.value)
            if steps is not None and not (is_signal(value.name) and not is_certain):
                score += PATH / (1 + 0.25 * steps)
                reasons.append(_way(steps))
                if not self.influence.reaches(value.name, output.name) and not is_certain:
                    score += NO_INFLUENCE
            if value.name in self.likely and reasons:
                score += FIRST_VALUE
                reasons.append("has a first value in the file")
            if score > 0 and reasons:
                found[row, column] = Evidence(
                    score, tuple(reasons), not is_certain, bool(before & after)
                )
        self._add_neighbours(inputs, outputs, candidates, distances, found)
        return found

    def _is_reached(
        self, value: Value, output: Output, distances: Mapping[Value, Mapping[Value, int]]
    ) -> bool:
        """Whether the output has anything to do with the input: a window that shifts may not."""
        is_wired = output.value in distances[value]
        return is_wired or self.influence.reaches(value.name, output.name)

    def _add_neighbours(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Output],
        candidates: Sequence[tuple[int, int]],
        distances: Mapping[Value, Mapping[Value, int]],
        found: dict[tuple[int, int], Evidence],
    ) -> None:
        """The h of an LSTM that is written out: it has no path, but stands beside a c that has."""
        for row, column in candidates:
            value, output = inputs[row], outputs[column]
            if (row, column) in found or is_signal(value.name):
                continue
            if output.value in distances[value] or self.wiring.slots_from(value):
                continue
            beside = [
                other
                for place, other in enumerate(inputs)
                if other is not value
                and fits(other.type, value.type)
                and output.value in distances[other]
                and any(r == place and c != column for r, c in found)
            ]
            if beside and self.influence.reaches(value.name, output.name):
                reason = f"beside {beside[0].name!r} in a cell that is written out"
                found[row, column] = Evidence(BESIDE_A_CELL_STATE, (reason,), True)


def _way(steps: int) -> str:
    if steps == 0:
        return "its elements are moved there"
    return f"{steps} element-wise operation{'s' * (steps > 1)} on the way"


def _cells(before: frozenset[object], after: frozenset[object]) -> float:
    if before == after:
        return ONE_CELL
    return OVERLAPPING_CELLS if before & after else OTHER_CELLS
