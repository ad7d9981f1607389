"""The graph under construction: nodes, constants, and the names that everything gets at the end."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, TensorType, Value
from edgelstm_compiler.onnx_import.tensors import first_non_finite

MAX_VALUE_BYTES = 1 << 30
"""A tensor that is computed at run time and larger than this is a wrong shape, not a model."""


class Names:
    """Gives every name once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wish: str) -> str:
        """The wished name, with a number behind it where it is taken."""
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}.{count}"
        self._taken.add(name)
        return name


class GraphBuilder:
    """Collects nodes and constants; `finish` drops what no output needs and names the rest."""

    def __init__(self) -> None:
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._constants: dict[int, tuple[Array, Value, str]] = {}
        self._wishes: dict[Value, str] = {}

    def add_input(self, name: str, kind: TensorType) -> Value:
        """A graph input."""
        check_extents(f"the input '{name}'", kind)
        value = Value(name, kind)
        self._inputs.append(value)
        return value

    def constant(self, name: str, data: Array, reader: str) -> Value:
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
        return found[1]

    def emit(
        self, op: Op, inputs: tuple[Value | None, ...], name: str, origin: str
    ) -> tuple[Value, ...]:
        """Add a node and return its outputs.

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
        self._nodes.append(Node(op, inputs, tuple(outputs), name, origin))
        return tuple(outputs)

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
