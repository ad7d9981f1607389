"""Loops that are an LSTM, a GRU or an RNN written out: recognised by what they compute.

A loop over a sequence has been unrolled; the weights in its copies, taken together in every way
that fits, are tried as the weights of a recurrent operator, and what gives the same numbers in
float64 on random input takes the copies' place. Nothing is recognised by names or by the order of
nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import RELU, SIGMOID, TANH
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand

TOLERANCE = 1e-9
"""Largest difference in float64, relative to the largest value where that exceeds 1."""

PROBED = 3
"""Frames on which a guess is tried first."""

MAX_GUESSES = 5_000
"""Ways to put weights together that are tried for one loop."""


@dataclass(frozen=True, slots=True)
class _Sought:
    """What the copies compute on random input, and the weights that they read.

    Shapes:
        x (T, B, I); states (B, H) each; results by place among the loop's results.
    """

    x: Value
    frames: Array
    states: tuple[Array, ...]
    results: Mapping[int, Array]
    weights: tuple[Array, ...]

    @property
    def hidden(self) -> int:
        return int(self.states[0].shape[-1])


def recognize(
    node: OnnxNode, copies: Sequence[Node], carried: Sequence[Operand], results: Sequence[Operand]
) -> list[Operand] | None:
    """The results of a loop by a recurrent operator, or None where it is none.

    Args:
        node: the loop; receives the operator.
        copies: the nodes of its unrolled bodies.
        carried: what it carries, before the first iteration.
        results: of the loop: what it carried, then what it collected.
    """
    sought = _observe(node, copies, carried, results)
    if sought is None:
        return None
    for guess in _guesses(sought):
        matched = _matched(guess, sought)
        if matched is not None:
            return _replaced(node, guess, sought, carried, results, matched)
    return None


@dataclass(frozen=True, slots=True)
class _Guess:
    op: Recurrent
    w: Array
    r: Array
    b: Array


def _observe(
    node: OnnxNode, copies: Sequence[Node], carried: Sequence[Operand], results: Sequence[Operand]
) -> _Sought | None:
    """Run the copies; None where they read anything but one sequence, states and weights."""
    data = node.builder.constant_arrays()
    made = {value for copy in copies for value in copy.outputs}
    read = {value for copy in copies for value in copy.inputs if value is not None}
    outside = [value for value in read - made if value not in data]
    changed = [
        item
        for item, result in zip(carried, results, strict=False)
        if isinstance(result, Value) and result in made
    ]
    sequences = [value for value in outside if value not in changed]
    kinds = [_type(item) for item in changed]
    if len(sequences) != 1 or not 1 <= len(changed) <= 2 or sequences[0].type.rank != 3:
        return None
    if any(kind != kinds[0] or kind.rank != 2 or kind.dtype is not DType.F32 for kind in kinds):
        return None
    (x,) = sequences
    if x.type.dtype is not DType.F32 or x.type.shape[1] != kinds[0].shape[0]:
        return None
    rng = np.random.default_rng(0)
    given = {x: rng.standard_normal(x.type.shape)}
    states = []
    for item in changed:
        if isinstance(item, Value):
            given[item] = rng.uniform(-0.9, 0.9, item.type.shape)
        states.append(given[item] if isinstance(item, Value) else item.data.astype(np.float64))
    shown = {place: item for place, item in enumerate(results) if item in made}
    graph = Graph(
        "copies",
        tuple(given),
        tuple(Output(str(place), value) for place, value in shown.items()),
        tuple(copies),
        tuple(Constant(value, array) for value, array in data.items() if value in read),
    )
    inputs = {value.name: array for value, array in given.items()}
    if len(inputs) != len(given):
        return None
    found = evaluate(graph, inputs, dtype=DType.F64).outputs
    # In the order of the last copy: of the first one, whose states may be zero, parts are folded.
    last = {value: place for place, copy in enumerate(copies) for value in copy.inputs}
    ordered = sorted((value for value in data if value in read), key=lambda value: last[value])
    weights = tuple(
        array
        for value in ordered
        # The ones and zeros of 1 - z and of initial states are no weights.
        if (array := data[value]).dtype == np.float32 and array.size and array.min() < array.max()
    )
    return _Sought(
        x, given[x], tuple(states), {int(place): y for place, y in found.items()}, weights
    )


def _guesses(sought: _Sought) -> Iterator[_Guess]:
    """Recurrent operators that the weights could be of, in ONNX's order of gates."""
    hidden, features = sought.hidden, sought.frames.shape[-1]
    tried = 0
    for op in _operators(len(sought.states), hidden):
        gates = op.gates
        columns = gates * hidden
        inputs = list(_joined(sought.weights, features, columns))
        recurrent = list(_joined(sought.weights, hidden, columns))
        for both in _joined(sought.weights, features + hidden, columns):
            inputs.append(both[:features])
            recurrent.append(both[features:])
        biases = [np.zeros(columns), *(row for row in _rows(sought.weights, columns))]
        for w, r, b_w, b_r in product(inputs, recurrent, biases, biases):
            for order in permutations(range(gates)):
                tried += 1
                if tried > MAX_GUESSES:
                    return
                places = np.concatenate(
                    [np.arange(gate * hidden, (gate + 1) * hidden) for gate in order]
                )
                yield _Guess(
                    op,
                    np.ascontiguousarray(w[:, places].T)[None],
                    np.ascontiguousarray(r[:, places].T)[None],
                    np.concatenate([b_w[places], b_r[places]])[None],
                )


def _operators(states: int, hidden: int) -> Iterator[Recurrent]:
    if states == 2:
        yield LSTM(hidden, Direction.FORWARD, (SIGMOID, TANH, TANH), None, input_forget=False)
        return
    for before in (True, False):
        yield GRU(hidden, Direction.FORWARD, (SIGMOID, TANH), None, linear_before_reset=before)
    for function in (TANH, RELU):
        yield RNN(hidden, Direction.FORWARD, (function,), None)


def _joined(weights: Sequence[Array], rows: int, columns: int) -> Iterator[Array]:
    """Matrices of that shape: one of the weights, or up to four side by side."""
    parts = [w for w in weights if w.ndim == 2 and w.shape[0] == rows and w.shape[1] <= columns]
    for chosen in _side_by_side(parts, columns):
        yield np.concatenate(chosen, axis=1).astype(np.float64)


def _rows(weights: Sequence[Array], columns: int) -> Iterator[Array]:
    """Biases of that length, each row of a matrix by itself; also their parts side by side."""
    rows = [
        row
        for w in weights
        if w.size <= 2 * columns and w.shape[-1] <= columns
        for row in w.reshape(-1, w.shape[-1])
        if w.size // w.shape[-1] <= 2
    ]
    for chosen in _side_by_side(rows, columns):
        yield np.concatenate(chosen).astype(np.float64)


def _side_by_side(parts: Sequence[Array], columns: int) -> Iterator[tuple[Array, ...]]:
    """Up to four parts that are together so wide.

    Equally wide ones in the order in which they are read: that of the gates is tried afterwards.
    """
    for count in range(1, 5):
        for chosen in permutations(range(len(parts)), count):
            widths = [parts[place].shape[-1] for place in chosen]
            if sum(widths) == columns and (len(set(widths)) > 1 or list(chosen) == sorted(chosen)):
                yield tuple(parts[place] for place in chosen)


def _matched(guess: _Guess, sought: _Sought) -> dict[int, str] | None:
    """Which output of the operator every result is; None where one is none of them."""
    collected = [y for y in sought.results.values() if y.ndim >= 3]
    if collected:
        probed = sought.frames[:PROBED]
        expected = collected[0][: len(probed)]
        y = _computed(guess, probed, sought.states)["Y"]
        if y.size != expected.size or not _is_near(y.reshape(expected.shape), expected):
            return None
    outputs = _computed(guess, sought.frames, sought.states)
    matched = {}
    for place, result in sought.results.items():
        name = next(
            (
                name
                for name, y in outputs.items()
                if y.size == result.size and _is_near(y.reshape(result.shape), result)
            ),
            None,
        )
        if name is None:
            return None
        matched[place] = name
    return matched


def _computed(guess: _Guess, frames: Array, states: Sequence[Array]) -> dict[str, Array]:
    """The operator's outputs in float64."""
    x, w, r, b = (
        Value(name, TensorType(DType.F32, data.shape))
        for name, data in (("x", frames), ("w", guess.w), ("r", guess.r), ("b", guess.b))
    )
    initial = [Value(f"s{k}", TensorType(DType.F32, (1, *s.shape))) for k, s in enumerate(states)]
    types = [None if item is None else item.type for item in (x, w, r, b, None, *initial)]
    results = [Value(f"y{k}", kind) for k, kind in enumerate(guess.op.infer(types))]
    cell = Node(guess.op, (x, w, r, b, None, *initial), tuple(results), "cell", "")
    names = ("Y", "Y_h", "Y_c")[: len(results)]
    graph = Graph(
        "cell",
        (x, w, r, b, *initial),
        tuple(Output(name, value) for name, value in zip(names, results, strict=True)),
        (cell,),
        (),
    )
    inputs = {"x": frames, "w": guess.w, "r": guess.r, "b": guess.b}
    inputs |= {f"s{k}": state[None] for k, state in enumerate(states)}
    return evaluate(graph, inputs, dtype=DType.F64).outputs


def _replaced(
    node: OnnxNode,
    guess: _Guess,
    sought: _Sought,
    carried: Sequence[Operand],
    results: Sequence[Operand],
    matched: Mapping[int, str],
) -> list[Operand]:
    """The loop's results from one recurrent operator; what it only counted stays known."""
    weights = (
        Known(f"{node.name}.{name}", data.astype(np.float32))
        for name, data in (("W", guess.w), ("R", guess.r), ("B", guess.b))
    )
    states = [item for place, item in enumerate(carried) if place in matched]
    if len(states) == 2 and _names(matched, carried) == ["Y_c", "Y_h"]:
        states.reverse()
    initial = [node.reshape(item, (1, *_type(item).shape)) for item in states]
    outputs = node.emit_all(guess.op, sought.x, *weights, None, *initial)
    shown = dict(zip(("Y", "Y_h", "Y_c"), outputs, strict=False))
    return [
        node.reshape(shown[matched[place]], _type(item).shape) if place in matched else item
        for place, item in enumerate(results)
    ]


def _names(matched: Mapping[int, str], carried: Sequence[Operand]) -> list[str]:
    return [matched[place] for place in range(len(carried)) if place in matched]


def _is_near(found: Array, expected: Array) -> bool:
    if not np.isfinite(expected).all():
        return False
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
    return bool(np.abs(found - expected).max(initial=0.0) <= bound)


def _type(item: Operand) -> TensorType:
    return item.type if isinstance(item, Value) else TensorType.of(item.data)
