"""Scan: a body that walks along frames, with values that it carries from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgelstm_compiler.ir.types import Op, TensorType, Tie


@dataclass(frozen=True, slots=True)
class BodyNode:
    """One operation of a body.

    Args:
        op: what it does.
        inputs: numbers of values: the body's inputs come first, then the outputs of its nodes in
            order; None where an optional input is absent.
    """

    op: Op
    inputs: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A graph without constants, as plain data.

    Args:
        inputs: types of the values it is given.
        nodes: in order.
        outputs: numbers of the values it gives.
    """

    inputs: tuple[TensorType, ...]
    nodes: tuple[BodyNode, ...]
    outputs: tuple[int, ...]

    def types(self) -> tuple[TensorType, ...]:
        """The types of all values, by number.

        Raises:
            ValueError: it reads a value before it is computed, or an operator refuses its inputs.
        """
        found = list(self.inputs)
        for node in self.nodes:
            if any(number is not None and not 0 <= number < len(found) for number in node.inputs):
                raise ValueError(f"{node.op.kind} in a body reads what is not computed yet")
            given = [None if number is None else found[number] for number in node.inputs]
            found += node.op.infer(given)
        if any(not 0 <= number < len(found) for number in self.outputs):
            raise ValueError("a body gives what it does not compute")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Scan(Op):
    """A body once a frame.

    Args:
        body: its inputs are the carried values, a frame of each sequence, then what stays the same;
            its outputs the next carried values, then a row of each result.
        states: number of carried values.
        sequences: number of sequences.
        length: number of frames.

    Shapes:
        inputs: carried values, sequences (T, ...), what stays the same; outputs: carried values
        after the last frame, results (T, ...).
    """

    body: Body
    states: int
    sequences: int
    length: int

    @property
    def results(self) -> int:
        """Number of results that have a row for each frame."""
        return len(self.body.outputs) - self.states

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Carried values as they are given, results with one row a frame."""
        if self.length < 1 or self.results < 0 or len(inputs) != len(self.body.inputs):
            raise ValueError(f"a body with {len(self.body.inputs)} inputs is given {len(inputs)}")
        found = self.body.types()
        behind = self.states + self.sequences
        for position, (given, wanted) in enumerate(zip(inputs, self.body.inputs, strict=True)):
            is_sequence = self.states <= position < behind
            expected = wanted.with_shape((self.length, *wanted.shape)) if is_sequence else wanted
            if given != expected:
                raise ValueError(f"input {position} of a body is {given}, expected {expected}")
        outputs = [found[number] for number in self.body.outputs]
        for position in range(self.states):
            if outputs[position] != self.body.inputs[position]:
                raise ValueError(
                    f"a body carries {self.body.inputs[position]} and gives {outputs[position]}"
                )
        rows = outputs[self.states :]
        return (
            *outputs[: self.states],
            *(row.with_shape((self.length, *row.shape)) for row in rows),
        )

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Frames of the sequences and rows of the results, as of a recurrent layer."""
        from edgelstm_compiler.ir.ops.body_axes import unmixed_axes

        behind = self.states + self.sequences
        ties = [
            Tie(position, 0, result, 0)
            for position in range(self.states, behind)
            for result in range(self.states, len(outputs))
        ]
        for axes in unmixed_axes(self.body, self.states):
            given = [
                (position, axis + (self.states <= position < behind))
                for position, axis in axes
                if position < len(inputs)
            ]
            made = [
                (position, axis + (position >= self.states))
                for position, number in enumerate(self.body.outputs)
                for own, axis in axes
                if own == number
            ]
            ties += [Tie(*source, *result) for source in given for result in made]
        return tuple(ties)

    def counts_streams(self) -> bool:
        """Whether axis 1 of the first sequence runs unmixed through all that is carried."""
        from edgelstm_compiler.ir.ops.body_axes import unmixed_axes

        return any(
            (self.states, 0) in axes and {p for p, _ in axes} >= set(range(self.states))
            for axes in unmixed_axes(self.body, self.states)
        )

    def with_ops(self, change: Callable[[Op], Op]) -> Scan:
        """The same with other operators in the body, those of bodies inside of it included."""
        nodes = tuple(
            replace(
                node,
                op=node.op.with_ops(change) if isinstance(node.op, Scan) else change(node.op),
            )
            for node in self.body.nodes
        )
        return replace(self, body=replace(self.body, nodes=nodes))

    def operators(self) -> Iterator[Op]:
        """Every operator of the body, those of bodies inside of it included."""
        for node in self.body.nodes:
            yield node.op
            if isinstance(node.op, Scan):
                yield from node.op.operators()
