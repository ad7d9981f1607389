"""Text form of graphs: one node a line, printed and parsed back.

```
step "model" mode=stream
in %x: f32[1,1,6] time=1 batch=0
const %w: f32[2,2] = [1.0, 0.5, 0.25, 2.0]
const %big: f32[64,64] = @0a1b2c3d
state h: f32[1,1,64] init=@0a1b2c3d read=%h_in write=%h_out
%y: f32[1,1,1,64], %h_out: f32[1,1,64] = LSTM {"clip": null, ...} (%x, %w, -) # "l" "LSTM 'l'"
out "probability" = %y time=0 batch=2 stride=1 delay=0 warm_up=0
```
Values longer than 16 elements stand beside the text, under the first 16 digits of their SHA-256.
Names with other characters than letters, digits and _ . / : - are written as JSON strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import InvalidGraphError
from edgelstm.sessions import MODES
from edgelstm_compiler.ir.cursor import MISFITS, PLAIN_NAME, Cursor
from edgelstm_compiler.ir.fields import make_op, op_fields
from edgelstm_compiler.ir.graph import (
    Graph,
    Output,
    State,
    StepGraph,
    StepInput,
    StepOutput,
)
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value

INLINE_ELEMENTS = 16

_TIMING = (("stride=", 1), ("delay=", 0), ("warm_up=", 0), ("tail=", 0), ("reach=", 0))
"""Numbers of an output, with what they are where the text leaves them out."""


def print_graph(graph: Graph | StepGraph) -> str:
    """The graph as text; `graph_data` gives what does not fit into it."""
    head = "graph" if isinstance(graph, Graph) else "step"
    mode = f" mode={graph.mode}" if isinstance(graph, StepGraph) else ""
    if isinstance(graph, StepGraph) and graph.most_frames is not None:
        mode += f" most frames={graph.most_frames}"
    lines = [f"{head} {json.dumps(graph.name)}{mode}"]
    if isinstance(graph, Graph):
        lines += [f"in {_typed(value)}" for value in graph.inputs]
    else:
        lines += [
            f"in {_typed(item.value)}{_axes(item.time_axis, item.batch_axis)}"
            for item in graph.inputs
        ]
    lines += [f"const {_typed(item.value)} = {_data(item.data)}" for item in graph.constants]
    if isinstance(graph, StepGraph):
        lines += [
            f"state {_word(state.name)}: {state.type} init={_data(state.init)} "
            f"read={_ref(state.read)} write={_ref(state.write)}"
            for state in graph.states
        ]
    lines += [_print_node(node) for node in graph.nodes]
    if isinstance(graph, Graph):
        lines += [f"out {json.dumps(item.name)} = {_ref(item.value)}" for item in graph.outputs]
    else:
        lines += [
            f"out {json.dumps(out.name)} = {_ref(out.value)}{_axes(out.time_axis, out.batch_axis)}"
            f" stride={out.stride} delay={out.delay} warm_up={out.warm_up}"
            f"{f' tail={out.tail}' if out.tail else ''}"
            f"{f' reach={out.reach}' if out.reach else ''}"
            for out in graph.outputs
        ]
    return "\n".join(lines) + "\n"


def graph_data(graph: Graph | StepGraph) -> dict[str, Array]:
    """The arrays that `print_graph` names by digest."""
    arrays = [constant.data for constant in graph.constants]
    if isinstance(graph, StepGraph):
        arrays += [state.init for state in graph.states]
    return {_digest(array): array for array in arrays if not _is_inline(array)}


def parse_graph(text: str, data: Mapping[str, Array] | None = None) -> Graph | StepGraph:
    """Read what `print_graph` wrote.

    Args:
        text: the text form.
        data: arrays by digest, from `graph_data`.

    Raises:
        InvalidGraphError: a line that is not in the form; it is quoted with its number.
    """
    parser = _Parser(data or {})
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            parser.line(line)
        except MISFITS as error:
            raise InvalidGraphError(f"line {number}: {line!r}: {error}") from error
    return parser.graph()


def _print_node(node: Node) -> str:
    outputs = ", ".join(_typed(value) for value in node.outputs)
    inputs = ", ".join("-" if value is None else _ref(value) for value in node.inputs)
    fields = json.dumps(op_fields(node.op), sort_keys=True)
    note = f"{json.dumps(node.name)} {json.dumps(node.origin)}"
    return f"{outputs} = {node.op.kind} {fields} ({inputs}) # {note}"


def _word(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else json.dumps(name)


def _ref(value: Value) -> str:
    return "%" + _word(value.name)


def _typed(value: Value) -> str:
    return f"{_ref(value)}: {value.type}"


def _axes(time_axis: int | None, batch_axis: int | None) -> str:
    return f" time={_optional(time_axis)} batch={_optional(batch_axis)}"


def _optional(number: int | None) -> str:
    return "-" if number is None else str(number)


def _is_inline(array: Array) -> bool:
    return array.size <= INLINE_ELEMENTS


def _digest(array: Array) -> str:
    head = str(TensorType.of(array)).encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _data(array: Array) -> str:
    if not _is_inline(array):
        return "@" + _digest(array)
    # float(...) of a float32 prints all digits it takes to read the same float32 back.
    return json.dumps(array.ravel().tolist())


class _Parser:
    """Reads lines in order and knows the values so far."""

    def __init__(self, data: Mapping[str, Array]) -> None:
        self.data = data
        self.head: tuple[str, str, str | None] | None = None
        self.values: dict[str, Value] = {}
        self.inputs: list[StepInput] = []
        self.constants: list[Constant] = []
        self.most_frames: int | None = None
        self.states: list[tuple[str, TensorType, Array, Value, str]] = []
        self.nodes: list[Node] = []
        self.outputs: list[StepOutput] = []

    def line(self, line: str) -> None:
        cursor = Cursor(line)
        if self.head is None:
            stage = cursor.take(r"graph|step")
            name = cursor.json()
            mode = None
            if stage == "step":
                cursor.expect("mode=")
                mode = cursor.take(rf"(?:{'|'.join(MODES)})\b")
                self.most_frames = cursor.number("frames=") if cursor.skip("most ") else None
            self.head = (stage, name, mode)
        elif cursor.skip("in "):
            value = self.define(cursor)
            self.inputs.append(StepInput(value, *cursor.axes()))
        elif cursor.skip("const "):
            value = self.define(cursor)
            cursor.expect("=")
            self.constants.append(Constant(value, self.array(cursor, value.type)))
        elif cursor.skip("state "):
            name = cursor.word()
            cursor.expect(":")
            tensor = cursor.type()
            cursor.expect("init=")
            init = self.array(cursor, tensor)
            cursor.expect("read=%")
            read = self.add(cursor.word(), tensor)
            cursor.expect("write=%")
            self.states.append((name, tensor, init, read, cursor.word()))
        elif cursor.skip("out "):
            name = cursor.json()
            cursor.expect("=")
            cursor.expect("%")
            value = self.values[cursor.word()]
            axes = cursor.axes()
            numbers = [
                int(cursor.take(r"\d+")) if cursor.skip(key) else default
                for key, default in _TIMING
            ]
            self.outputs.append(StepOutput(name, value, *axes, *numbers))
        else:
            self.node(cursor)
        cursor.end()

    def node(self, cursor: Cursor) -> None:
        outputs = [self.define(cursor)]
        while cursor.skip(","):
            outputs.append(self.define(cursor))
        cursor.expect("=")
        op = make_op(cursor.take(r"\w+"), cursor.json())
        cursor.expect("(")
        inputs: list[Value | None] = []
        while not cursor.skip(")"):
            cursor.skip(",")
            if cursor.skip("-"):
                inputs.append(None)
            else:
                cursor.expect("%")
                inputs.append(self.values[cursor.word()])
        cursor.expect("#")
        name, origin = cursor.json(), cursor.json()
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), name, origin))

    def define(self, cursor: Cursor) -> Value:
        cursor.expect("%")
        name = cursor.word()
        cursor.expect(":")
        return self.add(name, cursor.type())

    def add(self, name: str, tensor: TensorType) -> Value:
        if name in self.values:
            raise ValueError(f"%{name} is defined twice")
        return self.values.setdefault(name, Value(name, tensor))

    def array(self, cursor: Cursor, tensor: TensorType) -> Array:
        if cursor.skip("@"):
            digest = cursor.take(r"[0-9a-f]{16}")
            if digest not in self.data:
                raise ValueError(f"the data @{digest} is missing beside the text")
            array = self.data[digest]
        else:
            array = _elements(cursor.json(), tensor.dtype).reshape(tensor.shape)
        return Constant.of("", array).data

    def graph(self) -> Graph | StepGraph:
        if self.head is None:
            raise InvalidGraphError("the text is empty")
        stage, name, mode = self.head
        nodes, constants = tuple(self.nodes), tuple(self.constants)
        if stage == "graph":
            results = tuple(Output(out.name, out.value) for out in self.outputs)
            values = tuple(item.value for item in self.inputs)
            return Graph(name, values, results, nodes, constants)
        try:
            states = tuple(
                State(state, tensor, init, read, self.values[write])
                for state, tensor, init, read, write in self.states
            )
        except KeyError as error:
            raise InvalidGraphError(f"a state writes {error}, which is not defined") from error
        return StepGraph(
            name,
            mode or "",
            tuple(self.inputs),
            tuple(self.outputs),
            nodes,
            constants,
            states,
            self.most_frames,
        )


def _elements(numbers: Any, dtype: DType) -> Array:
    """A list of JSON numbers as elements of that type, none of them changed by it."""
    if dtype is DType.BOOL:
        kinds: tuple[type, ...] = (bool,)
    else:
        kinds = (int, float) if dtype.is_float else (int,)
    if not isinstance(numbers, list) or any(type(number) not in kinds for number in numbers):
        raise ValueError(f"expected a list of {dtype.value} numbers")
    # NumPy 1 wraps integers that are too large; both turn such floats into infinity.
    if np.issubdtype(dtype.numpy, np.integer):
        limits = np.iinfo(str(dtype.numpy))
        is_fitting = all(limits.min <= number <= limits.max for number in numbers)
        array = np.array(numbers if is_fitting else [], dtype.numpy)
    else:
        with np.errstate(over="ignore"):
            array = np.array(numbers, np.float64).astype(dtype.numpy)
        is_fitting = bool(np.all(np.isinf(array) == np.isinf(np.array(numbers, np.float64))))
    if not is_fitting:
        raise ValueError(f"a number is beyond the range of {dtype.value}")
    return array


def same_structure(a: Graph | StepGraph, b: Graph | StepGraph) -> bool:
    """Whether two graphs print alike (and so compute alike): equality up to identity of values."""
    return print_graph(a) == print_graph(b)
