"""The graph under construction: nodes, constants, and the names that everything gets at the end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.names import unique_name
from edgelstm_compiler.ir.ops import Concat, CumSum, Windows
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.onnx_import.tensors import first_non_finite, is_other_float

MAX_VALUE_BYTES = 1 << 30
"""A tensor that is computed at run time and larger than this is a wrong shape, not a model."""


Growth: TypeAlias = "tuple[int | None, ...]"
"""What each extent of a tensor grows by with one frame more; None: no straight line."""


class Names:
    """Gives every name once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wish: str) -> str:
        """The wished name, with a number behind it where it is taken."""
        return unique_name(wish, self._taken)


class GraphBuilder:
    """Collects nodes and constants; `finish` drops what no output needs and names the rest.

    Args:
        frames: the trial number of frames, where extents grow with it.
    """

    def __init__(self, frames: int = 1) -> None:
        self.frames = frames
        self._growth: dict[Value, Growth] = {}
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._constants: dict[int, tuple[Array, Value, str]] = {}
        self._data: dict[Value, Array] = {}
        self._producers: dict[Value, Node] = {}
        self._wishes: dict[Value, str] = {}
        # The first array is kept, so that no other one takes its id.
        self._widened: dict[int, tuple[Array, Array]] = {}

    def add_input(self, name: str, kind: TensorType, time: Collection[int] = ()) -> Value:
        """A graph input; its axes `time` count frames."""
        check_extents(f"the input '{name}'", kind)
        value = Value(name, kind)
        self._inputs.append(value)
        if time:
            self._growth[value] = tuple(int(axis in time) for axis in range(kind.rank))
        return value

    def growth(self, value: Value) -> Growth:
        """What each extent of a value grows by with one frame more."""
        return self._growth.get(value, (0,) * value.type.rank)

    def constant(self, name: str, data: Array, reader: str, growth: Growth = ()) -> Value:
        """The graph's value of a known tensor; the same array gives the same value."""
        found = self._constants.get(id(data))
        if found is None:
            try:
                kind = TensorType.of(data)
            except KeyError as error:
                raise ModelError(
                    f"{reader}: the constant '{name}' has elements of type {data.dtype}, which "
                    "edgelstm does not compute with; cast it to float32 or int64"
                ) from error
            check_extents(f"{reader}: the constant '{name}'", kind)
            # The array is kept, so that its id stays its own; it is copied only if it is needed.
            found = (data, Value(name, kind), reader)
            self._constants[id(data)] = found
            self._data[found[1]] = data
            if any(grows != 0 for grows in growth):
                self._growth[found[1]] = growth
        return found[1]

    def in_float32(self, data: Array) -> Array:
        """Other floats as float32; the same array gives the same one again."""
        if not is_other_float(data.dtype):
            return data
        found = self._widened.get(id(data))
        if found is None:
            with np.errstate(over="ignore"):
                found = self._widened[id(data)] = (data, data.astype(np.float32))
        return found[1]

    def emit(
        self,
        op: Op,
        inputs: tuple[Value | None, ...],
        name: str,
        origin: str,
        growth: Growth | None = None,
    ) -> tuple[Value, ...]:
        """Add a node and return its outputs.

        Args:
            op: what it does.
            inputs: what it reads.
            name: of the node.
            origin: how messages call it.
            growth: of its one output; None: as its axes run through.

        Raises:
            ShapeError: the inputs contradict the operator.
        """
        types = [None if value is None else value.type for value in inputs]
        try:
            results = op.infer(types)
        except ValueError as error:
            raise ShapeError(f"{origin}: {error}") from error
        outputs = []
        for kind in results:
            check_extents(f"{origin}: its result", kind)
            outputs.append(Value(f"{name}.{op.kind.lower()}", kind))
        node = Node(op, inputs, tuple(outputs), name, origin)
        self._nodes.append(node)
        self._producers.update(dict.fromkeys(outputs, node))
        if any(value in self._growth for value in inputs) or any(g != 0 for g in growth or ()):
            found = [growth] if growth is not None else self._growth_through(op, inputs, outputs)
            self._growth.update(zip(outputs, found, strict=True))
        return tuple(outputs)

    def _growth_through(
        self, op: Op, inputs: Sequence[Value | None], outputs: Sequence[Value]
    ) -> list[Growth]:
        """Axes that run through grow as they did; those of Concat add up.

        Of the others nothing is known where an axis that grows ends in the operator, unless the
        shape stays what it was.
        """
        types = [None if value is None else value.type for value in inputs]
        results = [value.type for value in outputs]
        ties = op.ties(types, results)
        moves = op.moves(types, results) if isinstance(op, (Windows, CumSum)) else ()
        through = {(tie.input, tie.input_axis) for tie in (*ties, *moves)}
        is_lost = any(
            grows != 0 and (place, axis) not in through
            for place, value in enumerate(inputs)
            if value is not None
            for axis, grows in enumerate(self.growth(value))
        )
        found: list[list[int | None]] = [
            [None if is_lost else 0] * value.type.rank for value in outputs
        ]
        first = inputs[0]
        for place, value in enumerate(outputs):
            if is_lost and first is not None and first.type.shape == value.type.shape:
                found[place] = list(self.growth(first))
        for tie in ties:
            source = inputs[tie.input]
            grows = 0 if source is None else self.growth(source)[tie.input_axis]
            if grows != 0 or found[tie.output][tie.output_axis] is None:
                found[tie.output][tie.output_axis] = grows
        for tie in moves:
            source = inputs[tie.input]
            grows = 0 if source is None else self.growth(source)[tie.input_axis]
            if grows != 0:
                found[tie.output][tie.output_axis] = _moved(op, tie.input_axis, grows)
        if isinstance(op, Concat):
            parts = [0 if value is None else self.growth(value)[op.axis] for value in inputs]
            known = [part for part in parts if part is not None]
            found[0][op.axis] = sum(known) if len(known) == len(parts) else None
        return [tuple(growth) for growth in found]

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes so far, in order."""
        return self._nodes

    def constant_arrays(self) -> Mapping[Value, Array]:
        """The known tensors that nodes read, by value."""
        return self._data

    def data_of(self, value: Value) -> Array | None:
        """The elements of a known tensor; None of a computed value."""
        return self._data.get(value)

    def producer(self, value: Value) -> Node | None:
        """The node that computes a value; None of inputs and known tensors."""
        return self._producers.get(value)

    def wish(self, value: Value, name: str) -> None:
        """Ask for a name; the first wish counts."""
        self._wishes.setdefault(value, name)

    def finish(
        self, name: str, outputs: Sequence[tuple[str, Value]], *, check_finite: bool = True
    ) -> Graph:
        """The graph of everything that the outputs need.

        Raises:
            ModelError: a constant that is needed holds NaN or infinity.
        """
        nodes, needed = self._needed_by({value for _, value in outputs})
        used = [entry for entry in self._constants.values() if entry[1] in needed]
        for data, value, reader in used if check_finite else ():
            check_weights(value.name, data, reader)
        # Inputs come first and keep their names, then the outputs.
        wishes = {value: value.name for value in self._inputs}
        for output_name, value in outputs:
            wishes.setdefault(value, output_name)
        for value in (value for node in nodes for value in node.outputs):
            wishes.setdefault(value, self._wishes.get(value, value.name))
        for _, value, _ in used:
            wishes.setdefault(value, value.name)
        names, node_names = Names(), Names()
        given = {value: names.unique(wish) for value, wish in wishes.items()}
        constants = {value: Constant.of(given[value], data) for data, value, _ in used}
        fresh = {value: Value(given[value], value.type) for value in given}
        fresh.update({value: value for value in self._inputs})
        fresh.update({value: constant.value for value, constant in constants.items()})
        return Graph(
            name=name,
            inputs=tuple(self._inputs),
            outputs=tuple(Output(output_name, fresh[value]) for output_name, value in outputs),
            nodes=tuple(
                Node(
                    node.op,
                    tuple(None if item is None else fresh[item] for item in node.inputs),
                    tuple(fresh[item] for item in node.outputs),
                    node_names.unique(node.name),
                    node.origin,
                )
                for node in nodes
            ),
            constants=tuple(constants.values()),
        )

    def needed_for(self, results: Iterable[Value]) -> tuple[list[Node], dict[Value, Array]]:
        """The nodes that some values need, in order, and the constants that these read."""
        nodes, needed = self._needed_by(set(results))
        used = {value: data for data, value, _ in self._constants.values() if value in needed}
        return nodes, used

    def _needed_by(self, results: set[Value]) -> tuple[list[Node], set[Value]]:
        """The nodes that some values need, in order, and everything these nodes read."""
        needed, nodes = set(results), []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.outputs):
                nodes.append(node)
                needed.update(value for value in node.inputs if value is not None)
        return nodes[::-1], needed


def check_extents(what: str, kind: TensorType) -> None:
    """Refuse tensors without elements and tensors of absurd size."""
    if kind.size == 0:
        raise ShapeError(f"{what} has the shape {kind.shape}, which holds no elements")
    if kind.size < 0 or kind.nbytes > MAX_VALUE_BYTES:
        raise ShapeError(
            f"{what} has the shape {kind.shape} of {kind.dtype.value}, {kind.nbytes} bytes; "
            f"at most {MAX_VALUE_BYTES} are computed with: is an extent wrong?"
        )


def check_weights(name: str, data: Array, reader: str) -> None:
    """Refuse weights that are not finite."""
    where = first_non_finite(data)
    if where is not None:
        raise ModelError(
            f"{reader}: the constant '{name}' holds {data[where]} at {list(where)}; "
            "the training diverged or the file is damaged"
        )


def _moved(op: Op, axis: int, grows: int | None) -> int | None:
    """Growth of an axis that a kernel moves along; every few elements are no straight line."""
    if not isinstance(op, Windows) or grows is None:
        return grows
    spread, stride = op.spread[axis - 2], op.stride[axis - 2]
    return grows * spread // stride if grows * spread % stride == 0 else None
