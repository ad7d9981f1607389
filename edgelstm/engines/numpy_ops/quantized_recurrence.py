"""Scheme int8-full: the walk over a sequence that the integer cells share.

A cell turns one frame's sums and the states into the new states; it stands in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.quantized_integer import (
    bounded,
    complete,
    float_matrix,
    look_up_complete,
    multiply,
    prepared,
    rounding_shift,
    saturate8,
    saturate16,
    unit_gate,
)
from edgelstm.engines.numpy_ops.recurrence import States, Step, walk
from edgelstm.errors import StreamError

Array = NDArray[Any]
(
    X,
    W,
    R,
    BIAS,
    SEQUENCE_LENS,
    INITIAL_H,
    INITIAL_C,
    P,
    X_MULTIPLIER,
    H_MULTIPLIER,
    TABLES,
) = range(11)

UNIT_FRACTION = 11
"""Fraction bits of the pre-activation of a gate in [0, 1]: Q4.11, within [-16, 16)."""

SIGNED_FRACTION = 12
"""Fraction bits of the pre-activation of a candidate, and of what h() reads: Q3.12."""


@dataclass(frozen=True)
class IntegerCell:
    """What one direction of an integer cell computes with; gates in ONNX order.

    Shapes:
        inputs (I, G*H) and recurrent (H, G*H): the integer weights in floating point,
        x_multiplier, h_multiplier (G*H,) int32, bias (A*H,) int32 for the A accumulators of the
        cell, peepholes (3*H,) int32 or None, functions: complete tables (65536,) int32.
    """

    fields: Mapping[str, Any]
    hidden: int
    inputs: Array
    recurrent: Array
    x_multiplier: Array
    h_multiplier: Array
    bias: Array
    peepholes: Array | None
    functions: Sequence[Array]

    def gate(self, values: Array, first: int, last: int | None = None) -> Array:
        """The columns of one gate, or of the gates up to `last`."""
        end = first if last is None else last
        return values[..., first * self.hidden : (end + 1) * self.hidden]

    def input_sums(self, x: Array) -> Array:
        """rs(W x, x_shift) * x_multiplier of all gates."""
        sums = multiply(x, self.inputs)
        return rounding_shift(sums, self.fields["x_shift"]) * self.x_multiplier

    def recurrent_sums(self, h: Array) -> Array:
        """rs(R h, h_shift) * h_multiplier of all gates."""
        sums = multiply(h, self.recurrent)
        return rounding_shift(sums, self.fields["h_shift"]) * self.h_multiplier

    def unit(self, function: int, sums: Array) -> Array:
        """A gate in [0, 1] as Q0.15 of a pre-activation in Q4.11."""
        within = self.bounded(sums, UNIT_FRACTION)
        return unit_gate(look_up_complete(self.functions[function], within))

    def signed(self, function: int, sums: Array) -> Array:
        """A value in [-1, 1] as Q0.15 of a pre-activation in Q3.12."""
        within = self.bounded(sums, SIGNED_FRACTION)
        return look_up_complete(self.functions[function], within)

    def bounded(self, sums: Array, fraction: int) -> Array:
        """Saturated to int16, and within the cell's clip."""
        clip = self.fields["cell"]["clip"]
        if clip is None:
            return saturate16(sums)
        limit = clip_limit(clip, fraction)
        return bounded(sums, -limit, limit)

    def narrowed(self, h: Array) -> Array:
        """The h in Q0.15 as the int8 that products and outputs take."""
        scaled = h * np.int32(self.fields["output_multiplier"])
        return saturate8(rounding_shift(scaled, self.fields["output_shift"])).astype(np.int8)


def clip_limit(clip: float, fraction: int) -> int:
    """`clip` in fixed point, at most 32767."""
    return int(min(32767.0, np.floor(clip * 2.0**fraction + 0.5)))


def run_integer_layer(
    fields: Mapping[str, Any],
    inputs: Sequence[Array | None],
    *,
    functions: int,
    state_types: Sequence[type[np.generic]],
    make_step: Callable[[IntegerCell], Step],
    spread: Callable[[Array], Array],
    show: Callable[[IntegerCell, Array], Array],
) -> list[Array]:
    """Run every direction of an integer layer.

    Args:
        fields: the operator's own.
        inputs: X, W, R, BIAS, sequence_lens, initial_h, initial_c, P, the multipliers, tables.
        functions: activations per direction.
        state_types: element types of the states.
        make_step: builds the cell of one direction.
        spread: puts the scaled products of x (..., G*H) into accumulators (..., A*H).
        show: the output frames of one direction from its states h, as int8.

    Returns:
        Y (T, D, B, H), Y_h (D, B, H), and Y_c where there is a second state.

    Raises:
        StreamError: sequence_lens out of range.
    """
    x, lens = inputs[X], inputs[SEQUENCE_LENS]
    assert x is not None
    hidden = int(fields["cell"]["hidden"])
    steps, batch = x.shape[:2]
    if lens is not None and np.any((lens < 0) | (lens > steps)):
        raise StreamError(f"sequence_lens {lens.tolist()} must lie within 0 and {steps} frames")
    cells = _cells(fields, inputs, functions)
    count = len(cells)
    y = np.empty((steps, count, batch, hidden), np.int8)
    finals = [np.empty((count, batch, hidden), kind) for kind in state_types]
    for d, cell in enumerate(cells):
        products = spread(cell.input_sums(x)) + cell.bias
        states: States = tuple(
            np.zeros((batch, hidden), kind) if given is None else given[d]
            for given, kind in zip(inputs[INITIAL_H:P], state_types, strict=False)
        )
        is_reverse = fields["cell"]["direction"] == "reverse" or d == 1
        order = range(steps - 1, -1, -1) if is_reverse else range(steps)
        hs = np.zeros((steps, batch, hidden), state_types[0])
        states = walk(products, states, make_step(cell), order, lens, hs)
        y[:, d] = show(cell, hs)
        for final, state in zip(finals, states, strict=True):
            final[d] = state
    return [y, *finals]


def _cells(
    fields: Mapping[str, Any], inputs: Sequence[Array | None], functions: int
) -> list[IntegerCell]:
    """The cells of all directions, made once for constant weights."""
    x = inputs[X]
    constants = [inputs[place] for place in (W, R, BIAS, X_MULTIPLIER, H_MULTIPLIER, TABLES, P)]
    assert x is not None
    largest = -int(np.iinfo(x.dtype).min)
    given = [array for array in constants if array is not None]
    cells: list[IntegerCell] = prepared(
        given, f"cells {largest}", lambda: _make_cells(fields, constants, functions, largest)
    )
    if cells[0].fields != fields:
        # Another layer on the very same constants.
        return _make_cells(fields, constants, functions, largest)
    return cells


def _make_cells(
    fields: Mapping[str, Any], constants: Sequence[Array | None], functions: int, largest: int
) -> list[IntegerCell]:
    w, r, bias, x_multiplier, h_multiplier, tables, p = constants
    assert w is not None
    assert r is not None
    assert bias is not None
    assert x_multiplier is not None
    assert h_multiplier is not None
    assert tables is not None
    values = [complete(table) for table in tables]
    return [
        IntegerCell(
            fields=fields,
            hidden=int(fields["cell"]["hidden"]),
            inputs=float_matrix(w[d], largest),
            recurrent=float_matrix(r[d], 128),
            x_multiplier=x_multiplier[d].astype(np.int32),
            h_multiplier=h_multiplier[d].astype(np.int32),
            bias=bias[d].copy(),
            peepholes=None if p is None else p[d].astype(np.int32),
            functions=[values[n] for n in fields["tables"][d * functions :][:functions]],
        )
        for d in range(len(w))
    ]
