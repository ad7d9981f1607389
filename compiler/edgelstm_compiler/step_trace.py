"""A step graph over a sequence in NumPy: every row of its outputs, its states, and what saturates.

A weight that is wrong by a fifth may move a saturated probability by less than float32 resolves.
What stands before a softmax or sigmoid moves all the same, so it is shown beside the outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgelstm.dtypes import DType, is_floating
from edgelstm.sessions.due import due_rows
from edgelstm.signature import END
from edgelstm_compiler.comparison import relative_error
from edgelstm_compiler.ir.activations import Fn
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph, StepOutput
from edgelstm_compiler.ir.ops import ArgReduce, Compare, Dense, Softmax, Unary
from edgelstm_compiler.ir.types import Array, Node, Value

SATURATING = frozenset(
    {Fn.SIGMOID, Fn.TANH, Fn.SCALED_TANH, Fn.HARD_SIGMOID, Fn.SOFTSIGN, Fn.CLIP, Fn.ERF, Fn.RELU}
)

PERTURBATION = 2.0**-24
"""Relative rounding of a float32."""


def open_heads(graph: StepGraph) -> tuple[StepGraph, dict[str, str]]:
    """The graph with what its softmaxes and saturating functions read as further outputs.

    The states after each step are further outputs, too.

    Returns:
        The graph, and by name of each further output the node that reads it, or the state.
    """
    nodes: list[Node] = []
    shown: dict[str, tuple[Value, str]] = {}
    for node in graph.nodes:
        name = f"before {node.name}"
        op = node.op
        if isinstance(op, Dense) and op.activation is not None and op.activation.fn in SATURATING:
            inner = Value(f"{node.outputs[0].name}.before", node.outputs[0].type)
            nodes.append(dataclasses.replace(node, op=Dense(None), outputs=(inner,)))
            last = Node(Unary(op.activation), (inner,), node.outputs, f"{node.name}.head")
            nodes.append(dataclasses.replace(last, origin=node.origin))
            shown[name] = (inner, node.name)
            continue
        nodes.append(node)
        is_head = isinstance(op, (Softmax, ArgReduce, Compare)) or (
            isinstance(op, Unary) and op.activation.fn in SATURATING
        )
        source = node.inputs[0] if node.inputs else None
        if is_head and source is not None and source.type.dtype.is_float:
            shown[name] = (source, node.name)
    for state in graph.states:
        shown[f"state {state.name}"] = (state.write, state.name)
    outputs = [StepOutput(name, value) for name, (value, _) in shown.items()]
    opened = dataclasses.replace(graph, nodes=tuple(nodes), outputs=(*graph.outputs, *outputs))
    return opened, {name: reader for name, (_, reader) in shown.items()}


class StepTrace:
    """The rows of a step graph over given inputs, in float64 and in float32; computed when asked.

    Args:
        graph: a stream's step graph, or a call's.
        inputs: as the model takes a sequence of them.
        total: frames in the inputs; 1 in calls.
    """

    def __init__(self, graph: StepGraph, inputs: Mapping[str, Array], total: int) -> None:
        self.graph = graph
        self._inputs = inputs
        self._total = total
        self._known: dict[tuple[str, int], tuple[dict[str, Array], dict[str, Array]]] = {}

    def exact(self, count: int) -> dict[str, Array]:
        """In float64, for each output (count, *shape in the graph)."""
        return self._run("float64", count)[0]

    def whole(self, count: int) -> dict[str, Array]:
        """In float64, the rows that come of a recording of so many frames, to its end."""
        return self._run("to the end", count)[0]

    def states(self, count: int) -> dict[str, Array]:
        """In float64, the states after so many frames."""
        return self._run("float64", count)[1]

    def noise(self, name: str, count: int) -> float:
        """How far float32 arithmetic, and rounding the inputs, put an output from float64."""
        return self._noise(name, count, 0)

    def state_noise(self, name: str, count: int) -> float:
        """The same for a state."""
        return self._noise(name, count, 1)

    def is_finite(self) -> bool:
        """Whether all outputs and states stay finite in float32."""
        rows, states = self._run("float32", self._total)
        return all(np.isfinite(x).all() for x in (*rows.values(), *states.values()))

    def frame(self, index: int) -> dict[str, Array]:
        """The inputs of one step in the graph's shapes."""
        return {
            item.value.name: (
                self._inputs[item.value.name]
                if item.time_axis is None
                else np.take(self._inputs[item.value.name], [index], item.time_axis)
            )
            for item in self.graph.inputs
        }

    def _noise(self, name: str, count: int, part: int) -> float:
        exact = self._run("float64", count)[part][name]
        runs = [
            self._run(kind, count)[part][name] for kind in ("float32", "rounded 1", "rounded 2")
        ]
        return max(relative_error(found, exact) for found in runs)

    def _run(self, kind: str, count: int) -> tuple[dict[str, Array], dict[str, Array]]:
        count = min(count, self._total)
        key = (kind, count)
        if key not in self._known:
            self._known[key] = self._evaluate(kind, count)
        return self._known[key]

    def _evaluate(self, kind: str, count: int) -> tuple[dict[str, Array], dict[str, Array]]:
        dtype = None if kind == "float32" else DType.F64
        rng = np.random.default_rng(len(kind) + ord(kind[-1])) if "rounded" in kind else None
        rows: dict[str, list[Array]] = {output.name: [] for output in self.graph.outputs}
        states: Mapping[str, Array] | None = None
        is_ended = kind == "to the end"
        tail = max((out.tail for out in self.graph.outputs), default=0) if is_ended else 0
        with np.errstate(all="ignore"):
            for index in range(count + tail):
                frame = self.frame(min(index, count - 1))
                if index == count:
                    states = {**(states or {}), END: np.full(1, count, np.int32)}
                if rng is not None:
                    frame = {name: rounded(x, rng) for name, x in frame.items()}
                result = evaluate(self.graph, frame, dtype=dtype, states=states)
                states = result.states
                for name, collected in rows.items():
                    collected.append(result.outputs[name])
        stacked = {name: np.stack(items) for name, items in rows.items()}
        if is_ended:
            outputs = self.graph.outputs
            stacked = {
                out.name: stacked[out.name][due_rows(out, 0, count + tail, count)]
                for out in outputs
            }
        return stacked, dict(states or {})


def rounded(x: Array, rng: np.random.Generator) -> Array:
    """The input as if its last bit had been rounded the other way."""
    if not is_floating(x.dtype):
        return x
    moved = x.astype(np.float64) * (1.0 + PERTURBATION * rng.choice((-1.0, 1.0), x.shape))
    return np.asarray(moved)
