"""Loops that are an LSTM, a GRU or an RNN written out: recognised by what they compute.

A loop over a sequence has become one Scan; the weights in its body, taken together in every way
that fits, are tried as the weights of a recurrent operator, and what gives the same numbers in
float64 on random input takes the Scan's place. Nothing is recognised by names or by the order of
nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.activations import RELU, SIGMOID, TANH, Fn
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.graph import Graph, Output
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Concat,
    Dense,
    Direction,
    MatMul,
    Recurrent,
    Reshape,
    Scan,
    Slice,
    Transpose,
    Unary,
)
from edgelstm_compiler.ir.types import Array, Node, Op, TensorType, Value

TOLERANCE = 1e-9
"""Largest difference in float64, relative to the largest value where that exceeds 1."""

PROBED = 3
"""Frames on which a guess is tried first."""

OBSERVED = 12
"""Frames on which it has to give the same."""

MAX_GUESSES = 5_000
"""Ways to put weights together that are tried for one loop."""


@dataclass(frozen=True, slots=True)
class _Sought:
    """What the copies compute on random input, and the weights that they read.

    Shapes:
        x (T, B, I); states (B, H) each; results by position among the loop's results.
    """

    x: Value
    frames: Array
    states: tuple[Array, ...]
    results: Mapping[int, Array]
    weights: tuple[Array, ...]

    @property
    def hidden(self) -> int:
        return int(self.states[0].shape[-1])


@dataclass(frozen=True, slots=True)
class FoundCell:
    """A recurrent operator that computes what a Scan does.

    Args:
        op: the operator.
        x: its sequence, a value of the graph.
        w: input weights, in float32.
        r: recurrent weights.
        b: biases.
        states: the Scan's initial values, in the operator's order (h, then c).
        finals: which output of the operator each final value is ("Y_h", "Y_c").
    """

    op: Recurrent
    x: Value
    w: Array
    r: Array
    b: Array
    states: tuple[Value, ...]
    finals: tuple[str, ...]


def find_cell(scan: Node, data: Mapping[Value, Array]) -> FoundCell | None:
    """The recurrent operator that computes what a Scan does, or None where it is none.

    Args:
        scan: a node with a Scan.
        data: what is known of its inputs.
    """
    sought = _observe(scan, data)
    if sought is None:
        return None
    for guess in _guesses(sought):
        matched = _matched(guess, sought)
        if matched is None:
            continue
        count = len(sought.states)
        finals = tuple(matched[position] for position in range(count))
        states = [value for value in scan.inputs[:count] if value is not None]
        if finals == ("Y_c", "Y_h"):
            states.reverse()
        w, r, b = (array.astype(np.float32) for array in (guess.w, guess.r, guess.b))
        return FoundCell(guess.op, sought.x, w, r, b, tuple(states), finals)
    return None


@dataclass(frozen=True, slots=True)
class _Guess:
    op: Recurrent
    w: Array
    r: Array
    b: Array


def _observe(scan: Node, data: Mapping[Value, Array]) -> _Sought | None:
    """Run the loop; None where it reads anything but one sequence, states and weights."""
    op = scan.op
    assert isinstance(op, Scan)
    held = scan.inputs[op.states + op.sequences :]
    if op.sequences != 1 or not 1 <= op.states <= 2 or any(value not in data for value in held):
        return None
    if not all(map(_is_of_cells, op.operators())):
        return None
    x, initial = scan.inputs[op.states], scan.inputs[: op.states]
    assert x is not None
    kinds = op.body.inputs[: op.states]
    if x.type.rank != 3 or x.type.dtype is not DType.F32 or x in data:
        return None
    if any(kind != kinds[0] or kind.rank != 2 or kind.dtype is not DType.F32 for kind in kinds):
        return None
    if x.type.shape[1] != kinds[0].shape[0]:
        return None
    rng = np.random.default_rng(0)
    length = min(op.length, OBSERVED)
    frames = rng.standard_normal((length, *x.type.shape[1:]))
    # Small ones and large ones, so that functions are seen on all sides of their bends.
    frames *= np.resize([1.0, 0.1, 8.0, 30.0], length).reshape(-1, 1, 1)
    states = [
        rng.uniform(-0.9, 0.9, kind.shape)
        if value is None or value not in data
        else data[value].astype(np.float64)
        for value, kind in zip(initial, kinds, strict=True)
    ]
    arrays: list[Array] = [*states, frames]
    arrays += [data[value] for value in held if value is not None]
    short = replace(op, length=length)
    found = apply(short.kind, op_fields(short), [_wide(array) for array in arrays])
    # In the order in which the body reads them.
    weights = tuple(
        array
        for value in held
        if value is not None
        # The ones and zeros of 1 - z and of initial states are no weights.
        if (array := data[value]).dtype == np.float32 and array.size and array.min() < array.max()
    )
    return _Sought(x, frames, tuple(states), dict(enumerate(found)), weights)


def _is_of_cells(op: Op) -> bool:
    """Whether cells are written in it.

    Products, sums and smooth functions that agree on random numbers agree everywhere; what compares
    or selects may differ only where nobody looked.
    """
    if isinstance(op, Binary):
        return op.arithmetic in (Arithmetic.ADD, Arithmetic.SUB, Arithmetic.MUL)
    if isinstance(op, Unary):
        return op.activation.fn in (Fn.SIGMOID, Fn.TANH, Fn.RELU, Fn.NEG)
    moves = (Slice, Concat, Reshape, Transpose, Broadcast)
    return isinstance(op, moves) or (isinstance(op, (Dense, MatMul)) and not _activation(op))


def _activation(op: Op) -> bool:
    return isinstance(op, Dense) and op.activation is not None


def _wide(data: Array) -> Array:
    return data.astype(np.float64) if data.dtype.kind == "f" else data


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
                positions = np.concatenate(
                    [np.arange(gate * hidden, (gate + 1) * hidden) for gate in order]
                )
                yield _Guess(
                    op,
                    np.ascontiguousarray(w[:, positions].T)[None],
                    np.ascontiguousarray(r[:, positions].T)[None],
                    np.concatenate([b_w[positions], b_r[positions]])[None],
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
            widths = [parts[position].shape[-1] for position in chosen]
            if sum(widths) == columns and (len(set(widths)) > 1 or list(chosen) == sorted(chosen)):
                yield tuple(parts[position] for position in chosen)


def _matched(guess: _Guess, sought: _Sought) -> dict[int, str] | None:
    """Which output of the operator every result is; None where one is none of them."""
    count = len(sought.states)
    if len(sought.results) > count:
        probed = sought.frames[:PROBED]
        expected = sought.results[count][: len(probed)]
        y = _computed(guess, probed, sought.states)["Y"]
        if y.size != expected.size or not _is_near(y.reshape(expected.shape), expected):
            return None
    outputs = _computed(guess, sought.frames, sought.states)
    matched = {}
    for position, result in sought.results.items():
        names = ("Y_h", "Y_c") if position < count else ("Y",)
        name = next(
            (
                name
                for name in names
                if name in outputs
                and outputs[name].size == result.size
                and _is_near(outputs[name].reshape(result.shape), result)
            ),
            None,
        )
        if name is None:
            return None
        matched[position] = name
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


def _is_near(found: Array, expected: Array) -> bool:
    if not np.isfinite(expected).all():
        return False
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
    return bool(np.abs(found - expected).max(initial=0.0) <= bound)
