"""A recurrent layer over a chunk of frames: directions, lengths, initial states; one walk for all.

Where the specification is silent or ONNX Runtime departs from it, ONNX Runtime is followed; not in
swallowing NaN, which its LSTM and GRU clamp to a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.numerics.cells import Cell, PlannedSum
from edgelstm.numerics.floats import FloatNumerics
from edgelstm.numerics.integer_arithmetic import complete, float_matrix, prepared
from edgelstm.numerics.integers import STATE_TYPES, IntegerNumerics, argument_first
from edgelstm.numerics.products import FloatWeights, Int8Weights, Weights

Array = NDArray[Any]
Values = dict[str, Any]
States = tuple[Array, ...]
Observer = Callable[[str, Array], None]
"""Called with the name and value of every sum, node and new state, frame by frame."""


class Numerics(Protocol):
    """What a walk asks of a numerics, beside one method for each node."""

    @property
    def cell(self) -> Cell:
        """What is computed."""

    def frames(self, x: Array) -> Array:
        """What all frames contribute to the sums."""

    def total(self, total: PlannedSum, frame: Array, values: Values, products: Values) -> Array:
        """A sum; `products` keeps what sums of a frame share."""

    def load(self, name: str, value: Array) -> Array:
        """A state as nodes read it."""

    def store(self, name: str, value: Array) -> Array:
        """A new value as it is carried."""

    def shown(self, h: Array) -> Array:
        """The first state as the layer's output."""


class Operands(NamedTuple):
    """The inputs of a recurrent operator by name; those of quantized operators stand behind them.

    Shapes:
        x (T, B, I), w (D, G*H, I), r (D, G*H, H) or None, b (D, 2*G*H) or None, lengths (B,) or
        None, initial: for each state (D, B, H) or None, p (D, rows*H) or None.
    """

    x: Any
    w: Any
    r: Any
    b: Any
    lengths: Any
    initial_h: Any
    initial_c: Any
    p: Any

    @classmethod
    def of(cls, inputs: Sequence[Any]) -> Operands:
        """The first eight inputs; trailing ones may be left out."""
        return cls(*inputs[:8], *[None] * (8 - len(inputs)))

    @property
    def initial(self) -> tuple[Any, Any]:
        """The initial states in order."""
        return (self.initial_h, self.initial_c)


@dataclass(frozen=True, slots=True)
class Walk:
    """What the directions of a layer have in common.

    Args:
        direction: forward, reverse or bidirectional.
        hidden: H.
        state_types, shown: element types of the states and of Y.
        observer: sees the inside of every frame, or None.
    """

    direction: str
    hidden: int
    state_types: Sequence[Any]
    shown: Any
    observer: Observer | None = None

    def run(self, numerics: Sequence[Numerics], given: Operands) -> list[Array]:
        """Y (T, D, B, H), then the final states (D, B, H) each.

        Raises:
            StreamError: lengths out of range.
        """
        steps, batch = given.x.shape[:2]
        lens, count = given.lengths, len(numerics)
        if lens is not None and np.any((lens < 0) | (lens > steps)):
            raise StreamError(f"sequence_lens {lens.tolist()} must lie within 0 and {steps} frames")
        y = np.empty((steps, count, batch, self.hidden), self.shown)
        finals = [np.empty((count, batch, self.hidden), kind) for kind in self.state_types]
        for d, each in enumerate(numerics):
            states: States = tuple(
                np.zeros((batch, self.hidden), kind) if start is None else start[d]
                for start, kind in zip(given.initial, self.state_types, strict=False)
            )
            is_reverse = self.direction == "reverse" or d == 1
            order = range(steps - 1, -1, -1) if is_reverse else range(steps)
            hs = np.zeros((steps, batch, self.hidden), self.state_types[0])
            states = self._walk(each, each.frames(given.x), states, order, lens, hs)
            y[:, d] = each.shown(hs)
            for final, state in zip(finals, states, strict=True):
                final[d] = state
        return [y, *finals]

    def _walk(
        self,
        numerics: Numerics,
        frames: Array,
        states: States,
        order: Iterable[int],
        lens: Array | None,
        hs: Array,
    ) -> States:
        """Step through the frames, writing h into hs (T, B, H); returns the states at the end.

        A frame at or beyond a sequence's length leaves its states alone and its row of y zero. So
        the backward walk of a short sequence starts at that sequence's own last frame.
        """
        for t in order:
            after = step(numerics, frames[t], states, self.observer)
            if lens is None:
                hs[t] = after[0]
                states = after
                continue
            is_inside = (t < lens)[:, None]
            hs[t] = np.where(is_inside, after[0], after[0].dtype.type(0))
            states = tuple(
                np.where(is_inside, new, old) for new, old in zip(after, states, strict=True)
            )
        if lens is None:
            return states
        # ONNX Runtime gives zeros for a sequence of length 0, not its initial states.
        return tuple(np.where((lens > 0)[:, None], state, state.dtype.type(0)) for state in states)


def step(
    numerics: Numerics, frame: Array, states: States, observer: Observer | None = None
) -> States:
    """The new states after one frame, whose products with W are given."""
    cell = numerics.cell
    names = cell.state_names
    values: Values = {
        name: numerics.load(name, state) for name, state in zip(names, states, strict=True)
    }
    products: Values = {}
    stored: Values = {}
    for phase in cell.plan:
        for total in phase.sums:
            values[total.name] = numerics.total(total, frame, values, products)
            if observer is not None:
                observer(total.name, values[total.name])
        handed: Values = {}
        for name, method, node, operands in phase.actions:
            given = [values[operand] for operand in operands]
            if node is not None:
                result = values[name] = getattr(numerics, method)(node, *given)
            else:
                result = stored[name] = numerics.store(name, *given)
                if name not in names:
                    handed[name] = result
            # A value handed on under its own name has been seen.
            if observer is not None and (node is not None or (name,) != tuple(operands)):
                observer(name, result)
        values.update(handed)
    return tuple(stored[name] for name in names)


def recurrent(
    fields: Mapping[str, Any], inputs: Sequence[Array | None], observer: Observer | None = None
) -> list[Array]:
    """Y and the final states of a layer in floating point."""
    given = Operands.of(inputs)
    w = [FloatWeights(each.T) for each in given.w]
    r = None if given.r is None else [FloatWeights(each.T) for each in given.r]
    return _run_float(fields, given, w, r, observer)


def int8_recurrent(
    fields: Mapping[str, Any], inputs: Sequence[Array | None], observer: Observer | None = None
) -> list[Array]:
    """The same with products of int8 weights; everything else is in floating point."""
    given = Operands.of(inputs)
    w_scale, r_scale, x_inverse = inputs[8:]
    assert w_scale is not None
    assert x_inverse is not None
    zero_point, x_dtype = int(fields["x_zero_point"]), fields["x_dtype"]
    w = prepared(
        (given.w, w_scale, x_inverse),
        f"directions {x_dtype} {zero_point}",
        lambda: _directions(given.w, w_scale, x_inverse, zero_point, x_dtype),
    )
    r = None
    if given.r is not None:
        assert r_scale is not None
        h_inverse = np.array([fields["h_inverse"]], np.float32)
        r = prepared(
            (given.r, r_scale),
            f"directions {fields['h_inverse']!r}",
            lambda: _directions(given.r, r_scale, h_inverse, 0, "i8"),
        )
    return _run_float(fields, given, w, r, observer)


def integer_recurrent(
    fields: Mapping[str, Any], inputs: Sequence[Array | None], observer: Observer | None = None
) -> list[Array]:
    """Y (int8, or int16 where it is wide) and the final states of an integer layer."""
    given, cell = Operands.of(inputs), fields["cell"]
    types = [STATE_TYPES[state.form] for state in cell.states]
    shown = np.int16 if fields.get("is_wide", False) else np.int8
    walk = Walk(fields["direction"], int(fields["hidden"]), types, shown, observer)
    return walk.run(_integer_directions(fields, cell, given, inputs[8:]), given)


def _run_float(
    fields: Mapping[str, Any],
    given: Operands,
    w: Sequence[Weights],
    r: Sequence[Weights] | None,
    observer: Observer | None,
) -> list[Array]:
    cell, hidden, dtype = fields["cell"], int(fields["hidden"]), given.x.dtype
    rows, functions = len(cell.gates) * hidden, len(cell.function_ranges)
    directions = []
    for d, inputs in enumerate(w):
        bias = np.zeros(2 * rows, dtype) if given.b is None else given.b[d]
        directions.append(
            FloatNumerics(
                cell=cell,
                hidden=hidden,
                inputs=inputs,
                recurrent=None if r is None else r[d],
                input_bias=bias[:rows],
                recurrent_bias=bias[rows:],
                peepholes=None if given.p is None else given.p[d].reshape(-1, hidden),
                activations=fields["activations"][d * functions : (d + 1) * functions],
                clip=fields["clip"],
            )
        )
    types = [dtype] * len(cell.states)
    return Walk(fields["direction"], hidden, types, dtype, observer).run(directions, given)


def _directions(
    weights: Array, scale: Array, inverse: Array, zero_point: int, dtype: str
) -> list[Int8Weights]:
    kind = DType(dtype).numpy
    return [
        Int8Weights.of(q, s, inverse, zero_point, kind) for q, s in zip(weights, scale, strict=True)
    ]


def _integer_directions(
    fields: Mapping[str, Any], cell: Cell, given: Operands, more: Sequence[Array | None]
) -> list[IntegerNumerics]:
    """The directions, made once for constant weights."""
    x_multiplier, h_multiplier, tables = more
    constants = [given.w, given.r, given.b, x_multiplier, h_multiplier, tables, given.p]
    largest = -int(np.iinfo(given.x.dtype).min)

    def make() -> list[IntegerNumerics]:
        assert x_multiplier is not None
        assert h_multiplier is not None
        assert tables is not None
        hidden, ranges = int(fields["hidden"]), cell.function_ranges
        values = [complete(table) for table in tables]
        return [
            IntegerNumerics(
                cell=cell,
                fields=fields,
                hidden=hidden,
                inputs=float_matrix(given.w[d], largest),
                recurrent=float_matrix(given.r[d], 128),
                x_multiplier=x_multiplier[d].astype(np.int32),
                h_multiplier=h_multiplier[d].astype(np.int32),
                bias=given.b[d].reshape(-1, hidden).copy(),
                peepholes=None if given.p is None else given.p[d].reshape(-1, hidden).astype("i4"),
                tables=[
                    argument_first(values[n], kind)
                    for n, kind in zip(fields["tables"][d * len(ranges) :], ranges, strict=False)
                ],
            )
            for d in range(len(given.w))
        ]

    present = [array for array in constants if array is not None]
    made: list[IntegerNumerics] = prepared(present, f"directions {largest}", make)
    # Another layer may stand on the very same constants.
    return made if made[0].fields == fields else make()
