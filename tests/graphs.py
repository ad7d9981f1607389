"""Small graphs of the compiler's own kind, built by hand and seeded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.signature import END
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, Output, StepGraph
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Body,
    BodyNode,
    Broadcast,
    Concat,
    Direction,
    Gather,
    LayerNorm,
    LogSoftmax,
    MatMul,
    Recurrent,
    Reshape,
    Scan,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.types import Array, Constant, Node, Op, Value


class GraphBuilder:
    """Collects nodes and constants; each method gives the value that it adds."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.constants: list[Constant] = []
        self.inputs: list[Value] = []

    def input(self, name: str, *shape: int, dtype: type = np.float32) -> Value:
        """An input of the graph."""
        value = Constant.of(name, np.zeros(shape, dtype)).value
        self.inputs.append(value)
        return value

    def constant(self, data: Array, name: str = "") -> Value:
        """A constant with this data."""
        constant = Constant.of(name or f"c{len(self.constants)}", data)
        self.constants.append(constant)
        return constant.value

    def random(self, *shape: int, scale: float = 0.3) -> Value:
        """A constant of normal random numbers."""
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op: Op, *inputs: Value | None, name: str = "") -> tuple[Value, ...]:
        """A node with its outputs, named after the operator."""
        name = name or f"{op.kind.lower()}{len(self.nodes)}"
        types = op.infer([value.type if value is not None else None for value in inputs])
        outputs = tuple(Value(f"{name}:{index}", tensor) for index, tensor in enumerate(types))
        self.nodes.append(Node(op, inputs, outputs, name, f"{op.kind} {name!r}"))
        return outputs

    def cell(
        self,
        kind: type[LSTM] | type[GRU] | type[RNN],
        x: Value,
        hidden: int,
        direction: Direction = Direction.FORWARD,
        *,
        peepholes: bool = False,
        **fields: object,
    ) -> tuple[Value, ...]:
        """A recurrent layer with random weights and bias: Y, Y_h (and Y_c)."""
        count = direction.count
        functions = {LSTM: (SIGMOID, TANH, TANH), GRU: (SIGMOID, TANH), RNN: (TANH,)}[kind]
        op = kind(hidden, direction, functions * count, None, **fields)  # type: ignore[arg-type]
        rows = op.gates * hidden
        p = self.random(count, 3 * hidden) if peepholes else None
        return self.node(
            op,
            x,
            self.random(count, rows, x.type.shape[2]),
            self.random(count, rows, hidden),
            self.random(count, 2 * rows),
            None,
            None,
            None,
            p,
        )

    def graph(self, **outputs: Value) -> Graph:
        """The graph that shows these values as outputs."""
        results = tuple(Output(name, value) for name, value in outputs.items())
        return Graph("model", tuple(self.inputs), results, tuple(self.nodes), tuple(self.constants))


def random_arrays(graph: Graph, seed: int = 1) -> dict[str, Array]:
    """Standard normal input for every input of the graph."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.standard_normal(value.type.shape).astype(value.type.dtype.numpy)
        for value in graph.inputs
    }


def random_graph(seed: int, size: int = 8) -> Graph:
    """A legal graph of `size` random operators over (time, batch, feature) tensors in any layout.

    Extents are small and often equal, so that axes are easily taken for one another. Most of these
    graphs mix frames somewhere; a graph of a smaller size is a beginning of that of a larger one.
    """
    return _RandomGraph(seed).grow(size)


class _RandomGraph(GraphBuilder):
    """Draws operators and operands, and keeps what fits together."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.extents = [int(n) for n in self.rng.integers(1, 5, 3)]
        if self.rng.random() < 0.4:
            self.extents[self.rng.integers(3)] = self.extents[self.rng.integers(3)]
        frames = self.input("x", *self.extents)
        self.pool = [frames]
        if self.rng.random() < 0.3:
            self.pool.append(self.input("other", *self.shape_like(frames)))
        if self.rng.random() < 0.8:
            self.pool += self.random_cell(frames)

    def grow(self, size: int) -> Graph:
        """Try so many operators, and show what came last."""
        makers = [
            self.random_cell,
            self.random_cell,
            self.random_binary,
            self.random_binary,
            self.random_movement,
            self.random_movement,
            self.random_reshape,
            self.random_reshape,
            self.random_selection,
            self.random_product,
            self.random_normalization,
            self.random_concat,
            self.random_scan,
        ]
        for _ in range(size):
            # Mostly what was computed last, so that graphs grow long.
            recent = self.pool[-4:] if self.rng.random() < 0.7 else self.pool
            x = recent[self.rng.integers(len(recent))]
            try:
                self.pool += makers[self.rng.integers(len(makers))](x)
            except ValueError:
                continue
        if not any(isinstance(node.op, Recurrent) for node in self.nodes):
            self.pool += self.random_cell(self.inputs[0])
        shown = self.pool[-3:]
        return self.graph(**{f"out{index}": value for index, value in enumerate(shown)})

    def one_of(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def shape_like(self, x: Value) -> list[int]:
        """The shape of x with some axes of extent 1, and some leading axes left away."""
        shape = [n if self.rng.random() < 0.7 else 1 for n in x.type.shape]
        return shape[self.rng.integers(0, 2) if len(shape) > 1 else 0 :]

    def operand(self, x: Value) -> Value:
        """A value of the pool, or a constant, possibly the same for all frames."""
        if self.rng.random() < 0.5:
            return self.pool[self.rng.integers(len(self.pool))]
        shape = self.shape_like(x)
        if self.rng.random() < 0.3:
            return self.constant(np.full(shape, 0.5, np.float32))
        return self.random(*shape)

    def random_cell(self, x: Value) -> tuple[Value, ...]:
        if x.type.rank != 3:
            raise ValueError("a cell reads (time, batch, feature)")
        kind = self.one_of(LSTM, LSTM, GRU, RNN)
        direction = self.one_of(*[Direction.FORWARD] * 8, Direction.REVERSE)
        before = len(self.pool)
        hidden = self.one_of(1, 2, 3, x.type.shape[0], x.type.shape[2])
        outputs = self.cell(kind, x, hidden, direction)
        if self.rng.random() < 0.3:
            self._replace_input(outputs, before)
        if self.rng.random() < 0.6:
            # What exporters write behind a cell: the direction goes away.
            y = outputs[0].type.shape
            flat = self.node(Reshape((y[0], y[2], y[3])), outputs[0])
            return (*outputs, *flat)
        return outputs

    def random_scan(self, x: Value) -> tuple[Value, ...]:
        """A body over frames: a state of its own, rows of the state before or after."""
        if x.type.rank != 3:
            raise ValueError("a body reads (time, batch, feature)")
        steps, batch, features = x.type.shape
        hidden = self.one_of(1, 2, features)
        kinds = [(batch, hidden), (batch, features), (features, hidden)]
        body = Body(
            tuple(x.type.with_shape(shape) for shape in kinds),
            (
                BodyNode(MatMul(), (1, 2)),
                BodyNode(Binary(Arithmetic.ADD), (0, 3)),
                BodyNode(Unary(TANH), (4,)),
            ),
            (5, self.one_of(0, 4, 5)),
        )
        fitting = [v for v in self.pool if v.type == x.type.with_shape(kinds[2])]
        weights = self.one_of(*fitting, self.random(features, hidden))
        return self.node(Scan(body, 1, 1, steps), self.random(batch, hidden), x, weights)

    def _replace_input(self, outputs: tuple[Value, ...], before: int) -> None:
        """Give the cell a bias, weights or a state that the graph has, or constant lengths."""
        node = self.nodes[-1]
        place = self.one_of(1, 2, 3, 4, 5)
        steps, batch = node.inputs[0].type.shape[:2] if node.inputs[0] else (1, 1)
        inputs = list(node.inputs)
        if place == 4:
            inputs[4] = self.constant(np.full(batch, self.one_of(steps, steps, 1), np.int32))
        elif place == 5:
            inputs[5] = self.random(*outputs[1].type.shape)
        else:
            size = inputs[place].type.size if inputs[place] else 0
            fitting = [value for value in self.pool[:before] if value.type.size == size]
            if not fitting:
                return
            given = self.one_of(*fitting)
            shape = inputs[place].type.shape if inputs[place] else ()
            self.nodes.pop()
            (inputs[place],) = self.node(Reshape(shape), given)
            self.nodes.append(node)
        self.nodes[-1] = dataclasses.replace(node, inputs=tuple(inputs))

    def random_binary(self, x: Value) -> tuple[Value, ...]:
        kind = self.one_of(Arithmetic.ADD, Arithmetic.SUB, Arithmetic.MUL, Arithmetic.MAX)
        pair = self.one_of((x, self.operand(x)), (self.operand(x), x))
        return self.node(Binary(kind), *pair)

    def random_movement(self, x: Value) -> tuple[Value, ...]:
        if self.rng.random() < 0.2:
            shape = [self.one_of(n, n, *self.extents) if n == 1 else n for n in x.type.shape]
            lead = [self.one_of(1, *self.extents)] if self.rng.random() < 0.5 else []
            return self.node(Broadcast((*lead, *shape)), x)
        if self.rng.random() < 0.2:
            return self.node(Unary(TANH), x)
        return self.node(Transpose(tuple(map(int, self.rng.permutation(x.type.rank)))), x)

    def random_reshape(self, x: Value) -> tuple[Value, ...]:
        shape = list(x.type.shape)
        match self.rng.integers(4):
            case 0:
                shape.insert(self.rng.integers(len(shape) + 1), 1)
            case 1:
                shape = [n for n in shape if n != 1 or self.rng.random() < 0.5]
            case 2 if len(shape) > 1:
                at = self.rng.integers(len(shape) - 1)
                shape[at : at + 2] = [shape[at] * shape[at + 1]]
            case _:
                known = [v.type.shape for v in self.pool if v.type.size == x.type.size]
                shape = list(self.one_of(*known))
        return self.node(Reshape(tuple(shape)), x)

    def random_selection(self, x: Value) -> tuple[Value, ...]:
        axis = int(self.rng.integers(max(1, x.type.rank)))
        extent = x.type.shape[axis] if x.type.rank else 1
        if self.rng.random() < 0.5:
            index = self.one_of(-1, extent - 1, 0, [-1], [extent - 1] * extent, np.arange(extent))
            return self.node(Gather(axis), x, self.constant(np.array(index)))
        start, step, count = self.one_of(
            (extent - 1, 1, 1), (0, 1, extent), (extent - 1, -1, extent), (0, 1, 1), (1, 1, 1)
        )
        return self.node(Slice(axis, start, step, count), x)

    def random_product(self, x: Value) -> tuple[Value, ...]:
        last = x.type.shape[-1] if x.type.rank else 1
        if self.rng.random() < 0.5:
            return self.node(MatMul(), *self.one_of((x, self.operand(x)), (self.operand(x), x)))
        return self.node(MatMul(), x, self.random(last, self.one_of(1, 2, *self.extents)))

    def random_normalization(self, x: Value) -> tuple[Value, ...]:
        axis = int(self.rng.integers(max(1, x.type.rank)))
        if self.rng.random() < 0.5:
            return self.node(self.one_of(Softmax, LogSoftmax)(axis), x)
        # An epsilon that keeps the quotient tame where all elements are equal.
        return self.node(LayerNorm(axis, 0.1), x, self.random(*x.type.shape[axis:]), None)

    def random_concat(self, x: Value) -> tuple[Value, ...]:
        axis = int(self.rng.integers(max(1, x.type.rank)))
        return self.node(Concat(axis), *self.one_of((x, self.operand(x)), (self.operand(x), x)))


def step_through(
    graph: StepGraph,
    inputs: Mapping[str, Array],
    pieces: Sequence[int],
    dtype: DType | None = None,
) -> dict[str, Array]:
    """Whole-sequence outputs of a step graph that is fed in pieces of so many frames, to the end.

    Each piece starts from the states that the one before left; any-time outputs are the last. What
    comes behind the last frame is fetched as sessions do: the end is told, a frame is fed.
    """
    states: dict[str, Array] = {}
    shown: dict[str, list[Array]] = {out.name: [] for out in graph.outputs}
    total = sum(pieces)
    behind = max((out.tail for out in graph.outputs), default=0)

    def step(frame: Mapping[str, Array], place: int) -> None:
        nonlocal states
        result = evaluate(graph, frame, dtype=dtype, states=states)
        states = {name: np.array(data) for name, data in result.states.items()}
        for out in graph.outputs:
            late = place - out.delay
            is_due = late >= 0 and late % out.stride == 0 and place < total + out.tail
            if is_due or out.time_axis is None:
                shown[out.name].append(result.outputs[out.name])

    for place in range(total):
        step(frame_of(graph, inputs, place), place)
    if behind:
        states[END] = np.full(1, total, np.int32)
    last = frame_of(graph, inputs, total - 1)
    for place in range(total, total + behind):
        step(last, place)
    return {
        out.name: shown[out.name][-1]
        if out.time_axis is None
        else np.concatenate(shown[out.name], out.time_axis)
        for out in graph.outputs
        if shown[out.name]
    }


def frame_of(graph: StepGraph, inputs: Mapping[str, Array], frame: int) -> dict[str, Array]:
    """One frame of every input; inputs that are not along time are held."""
    return {
        item.value.name: inputs[item.value.name]
        if item.time_axis is None
        else np.take(inputs[item.value.name], [frame], item.time_axis)
        for item in graph.inputs
    }


def frame_count(graph: Graph) -> int:
    """Frames of the first recurrent layer."""
    cells = [node for node in graph.nodes if isinstance(node.op, Recurrent)]
    assert cells[0].inputs[0] is not None
    return cells[0].inputs[0].type.shape[0]
