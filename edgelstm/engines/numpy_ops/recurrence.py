"""The walk over a sequence that LSTM, GRU and RNN share: directions, lengths and initial states.

A cell is a function from one frame's input products and the states to the new states; it stands in
its own file and knows nothing of time. Where the specification is silent or ONNX Runtime departs
from it, ONNX Runtime is followed; not in swallowing NaN, which its LSTM and GRU clamp to a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.activations import activate
from edgelstm.errors import StreamError

Array = NDArray[Any]
States = tuple[Array, ...]
Step = Callable[[Array, States], States]
X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P = range(8)


@dataclass(frozen=True)
class CellWeights:
    """What one direction of a cell computes with; gates in ONNX order.

    The bias of W is already part of the input products that a step receives.

    Shapes:
        recurrent (H, G*H), recurrent_bias (G*H,), peepholes (3*H,) in order i, o, f, or None.
    """

    hidden: int
    recurrent: Array
    recurrent_bias: Array
    peepholes: Array | None
    activations: Sequence[Mapping[str, Any]]
    clip: float | None

    def gate(self, values: Array, index: int) -> Array:
        """The columns of one gate."""
        return values[..., index * self.hidden : (index + 1) * self.hidden]

    def bounded(self, gate: Array) -> Array:
        """The pre-activation of a gate within [-clip, clip]."""
        if self.clip is None:
            return gate
        bound = gate.dtype.type(self.clip)
        return np.clip(gate, -bound, bound)

    def activate(self, function: int, gate: Array) -> Array:
        """The cell's function number `function` of a pre-activation, clipped first."""
        return activate(self.activations[function], self.bounded(gate))


def run_layer(
    fields: Mapping[str, Any],
    inputs: Sequence[Array | None],
    *,
    gates: int,
    functions: int,
    state_count: int,
    make_step: Callable[[CellWeights], Step],
) -> list[Array]:
    """Run every direction of a recurrent layer.

    Args:
        fields: the operator's own: hidden, direction, activations, clip, ...
        inputs: X, W, R, B, sequence_lens, initial_h, initial_c, P; trailing ones may be left out.
        gates: G of the cell.
        functions: activations per direction.
        state_count: 2 where the cell carries c beside h.
        make_step: builds the cell of one direction.

    Returns:
        Y (T, D, B, H), Y_h (D, B, H), and Y_c where there is a second state.

    Raises:
        StreamError: sequence_lens out of range.
    """
    padded: list[Array | None] = [*inputs, *([None] * (8 - len(inputs)))]
    x, w, r, b = padded[X], padded[W], padded[R], padded[B]
    lens, p = padded[SEQUENCE_LENS], padded[P]
    if x is None or w is None or r is None:
        raise ValueError("X, W and R of a recurrent operator must be given")
    hidden, count = int(fields["hidden"]), w.shape[0]
    steps, batch = x.shape[:2]
    if lens is not None and np.any((lens < 0) | (lens > steps)):
        raise StreamError(f"sequence_lens {lens.tolist()} must lie within 0 and {steps} frames")
    y = np.zeros((steps, count, batch, hidden), x.dtype)
    finals = [np.zeros((count, batch, hidden), x.dtype) for _ in range(state_count)]
    for d in range(count):
        bias = np.zeros(2 * gates * hidden, x.dtype) if b is None else b[d]
        cell = CellWeights(
            hidden=hidden,
            recurrent=r[d].T,
            recurrent_bias=bias[gates * hidden :],
            peepholes=None if p is None else p[d],
            activations=fields["activations"][d * functions : (d + 1) * functions],
            clip=fields["clip"],
        )
        products = x @ w[d].T + bias[: gates * hidden]
        states = tuple(
            np.zeros((batch, hidden), x.dtype) if given is None else given[d]
            for given in padded[INITIAL_H : INITIAL_H + state_count]
        )
        is_reverse = fields["direction"] == "reverse" or d == 1
        order = range(steps - 1, -1, -1) if is_reverse else range(steps)
        states = walk(products, states, make_step(cell), order, lens, y[:, d])
        for final, state in zip(finals, states, strict=True):
            final[d] = state
    return [y, *finals]


def walk(
    products: Array,
    states: States,
    step: Step,
    order: Iterable[int],
    lens: Array | None,
    y: Array,
) -> States:
    """Step through the frames, writing h into y (T, B, H); returns the states at the end.

    A frame at or beyond a sequence's length leaves its states alone and its row of y zero. So the
    backward walk of a short sequence starts at that sequence's own last frame.
    """
    for t in order:
        after = step(products[t], states)
        if lens is None:
            y[t] = after[0]
            states = after
            continue
        is_inside = (t < lens)[:, None]
        y[t] = np.where(is_inside, after[0], after[0].dtype.type(0))
        states = tuple(
            np.where(is_inside, new, old) for new, old in zip(after, states, strict=True)
        )
    if lens is None:
        return states
    # ONNX Runtime gives zeros for a sequence of length 0, not its initial states.
    return tuple(np.where((lens > 0)[:, None], state, state.dtype.type(0)) for state in states)
