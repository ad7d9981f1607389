"""A recurrent layer over a chunk of frames: directions, lengths, initial states; one walk for all.

Where the specification is silent or ONNX Runtime departs from it, ONNX Runtime is followed; not in
swallowing NaN, which its LSTM and GRU clamp to a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.numerics.floats import FloatNumerics, FloatParameters
from edgelstm.numerics.integer_arithmetic import complete, float_matrix, prepared
from edgelstm.numerics.integers import (
    STATE_TYPES,
    IntegerNumerics,
    IntegerParameters,
    argument_first,
)
from edgelstm.numerics.products import FloatWeights, Int8Weights, Weights
from edgelstm.numerics.tape import Observer, Step, step_of

Array = NDArray[Any]
States = tuple[Array, ...]


class Direction(NamedTuple):
    """One direction of a layer, ready to step.

    Args:
        step: of its cell.
        parameters: its weights.
        frames: what all frames contribute to the sums.
        shown: the first state as the layer's output.
    """

    step: Step
    parameters: Any
    frames: Callable[[Array], Array]
    shown: Callable[[Array], Array]


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
        kept: the final states are those after so many frames; None: after all.
    """

    direction: str
    hidden: int
    state_types: Sequence[Any]
    shown: Any
    observer: Observer | None = None
    kept: int | None = None

    def run(self, directions: Sequence[Direction], given: Operands) -> list[Array]:
        """Y (T, D, B, H), then the final states (D, B, H) each.

        Raises:
            StreamError: lengths out of range.
        """
        steps, batch = given.x.shape[:2]
        lens, count = given.lengths, len(directions)
        if lens is not None and np.any((lens < 0) | (lens > steps)):
            raise StreamError(f"sequence_lens {lens.tolist()} must lie within 0 and {steps} frames")
        if steps == 1 and count == 1 and lens is None:
            return self._one_frame(directions[0], given)
        y = np.empty((steps, count, batch, self.hidden), self.shown)
        finals = [np.empty((count, batch, self.hidden), kind) for kind in self.state_types]
        for d, each in enumerate(directions):
            states = self._initial(given, d, batch)
            is_reverse = self.direction == "reverse" or d == 1
            order = range(steps - 1, -1, -1) if is_reverse else range(steps)
            hs = np.zeros((steps, batch, self.hidden), self.state_types[0])
            states = self._walk(each, each.frames(given.x), states, order, lens, hs)
            y[:, d] = each.shown(hs)
            for final, state in zip(finals, states, strict=True):
                final[d] = state
        return [y, *finals]

    def _initial(self, given: Operands, d: int, batch: int) -> States:
        return tuple(
            np.zeros((batch, self.hidden), kind) if start is None else start[d]
            for start, kind in zip(given.initial, self.state_types, strict=False)
        )

    def _one_frame(self, direction: Direction, given: Operands) -> list[Array]:
        """The same for a step of a stream, without arrays to gather frames in."""
        frames = direction.frames(given.x)
        states = self._initial(given, 0, given.x.shape[1])
        h, *others = direction.step.run(direction.parameters, frames[0], states, self.observer)
        finals = [
            np.asarray(state, kind)[None]
            for state, kind in zip((h, *others), self.state_types, strict=True)
        ]
        return [np.asarray(direction.shown(finals[0]), self.shown)[None], *finals]

    def _walk(
        self,
        direction: Direction,
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
        final = None
        for t in order:
            after = direction.step.run(direction.parameters, frames[t], states, self.observer)
            if lens is None:
                hs[t] = after[0]
                states = after
                if t + 1 == self.kept:
                    final = states
                continue
            is_inside = (t < lens)[:, None]
            hs[t] = np.where(is_inside, after[0], after[0].dtype.type(0))
            states = tuple(
                np.where(is_inside, new, old) for new, old in zip(after, states, strict=True)
            )
        if lens is None:
            return states if final is None else final
        # ONNX Runtime gives zeros for a sequence of length 0, not its initial states.
        return tuple(np.where((lens > 0)[:, None], state, state.dtype.type(0)) for state in states)


class _Made(NamedTuple):
    """A layer's directions, and the arrays that they were made of."""

    sources: tuple[Any, ...]
    directions: list[Direction]


@dataclass(slots=True)
class RecurrentLayer:
    """A recurrent operator, to be computed again and again.

    Its weights are made ready once where they are constant: arrays that nobody may write.

    Args:
        fields: of the operator.
        make: from operands, and what stands behind them, to directions.
        types: element types of the states and of Y, by that of x.
    """

    fields: Mapping[str, Any]
    make: Callable[[RecurrentLayer, Operands, Sequence[Array | None]], list[Direction]]
    types: Callable[[Mapping[str, Any], Any], tuple[list[Any], Any]]
    _walks: dict[Any, Walk] = field(default_factory=dict)
    _made: _Made | None = None

    def __call__(
        self, inputs: Sequence[Array | None], observer: Observer | None = None
    ) -> list[Array]:
        """Y and the final states."""
        given = Operands.of(inputs)
        walk = self._walk_of(given.x.dtype)
        if observer is not None:
            walk = replace(walk, observer=observer)
        return walk.run(self._directions(given, inputs[8:]), given)

    def _directions(self, given: Operands, more: Sequence[Array | None]) -> list[Direction]:
        sources = (given.x.dtype, given.w, given.r, given.b, given.p, *more)
        made = self._made
        if made is not None and all(map(is_, sources, made.sources)):
            return made.directions
        directions = self.make(self, given, more)
        if not any(each.flags.writeable for each in sources[1:] if each is not None):
            self._made = _Made(sources, directions)
        return directions

    def _walk_of(self, dtype: Any) -> Walk:
        walk = self._walks.get(dtype)
        if walk is None:
            fields = self.fields
            types, shown = self.types(fields, dtype)
            walk = Walk(
                fields["direction"],
                int(fields["hidden"]),
                types,
                shown,
                kept=fields.get("kept"),
            )
            self._walks[dtype] = walk
        return walk


def float_layer(fields: Mapping[str, Any]) -> RecurrentLayer:
    """A layer in floating point: the element type of its data."""
    return RecurrentLayer(fields, _plain_directions, _float_types)


def int8_layer(fields: Mapping[str, Any]) -> RecurrentLayer:
    """The same with products of int8 weights; everything else is in floating point."""
    return RecurrentLayer(fields, _int8_directions, _float_types)


def integer_layer(fields: Mapping[str, Any]) -> RecurrentLayer:
    """A layer in integers: Y is int8, or int16 where it is wide."""
    return RecurrentLayer(fields, _integer_directions, _integer_types)


LAYERS: Mapping[str, Callable[[Mapping[str, Any]], RecurrentLayer]] = {
    "Recurrent": float_layer,
    "Int8Recurrent": int8_layer,
    "IntegerRecurrent": integer_layer,
}
"""By operator."""


def _float_types(fields: Mapping[str, Any], dtype: Any) -> tuple[list[Any], Any]:
    return [dtype] * len(fields["cell"].states), dtype


def _integer_types(fields: Mapping[str, Any], dtype: Any) -> tuple[list[Any], Any]:
    del dtype
    shown = np.int16 if fields.get("is_wide", False) else np.int8
    return [STATE_TYPES[state.form] for state in fields["cell"].states], shown


def _plain_directions(
    layer: RecurrentLayer, given: Operands, more: Sequence[Array | None]
) -> list[Direction]:
    del more
    w = [FloatWeights(each.T) for each in given.w]
    r = None if given.r is None else [FloatWeights(each.T) for each in given.r]
    return _float_directions(layer, given, w, r)


def _int8_directions(
    layer: RecurrentLayer, given: Operands, more: Sequence[Array | None]
) -> list[Direction]:
    fields = layer.fields
    w_scale, r_scale, x_inverse = more
    assert w_scale is not None
    assert x_inverse is not None
    zero_point, x_dtype = int(fields["x_zero_point"]), fields["x_dtype"]
    w = prepared(
        (given.w, w_scale, x_inverse),
        f"directions {x_dtype} {zero_point}",
        lambda: _int8_weights(given.w, w_scale, x_inverse, zero_point, x_dtype),
    )
    r = None
    if given.r is not None:
        assert r_scale is not None
        h_inverse = np.array([fields["h_inverse"]], np.float32)
        r = prepared(
            (given.r, r_scale),
            f"directions {fields['h_inverse']!r}",
            lambda: _int8_weights(given.r, r_scale, h_inverse, 0, "i8"),
        )
    return _float_directions(layer, given, w, r)


def _float_directions(
    layer: RecurrentLayer,
    given: Operands,
    w: Sequence[Weights],
    r: Sequence[Weights] | None,
) -> list[Direction]:
    fields, dtype = layer.fields, given.x.dtype
    cell, hidden = fields["cell"], int(fields["hidden"])
    rows, functions = len(cell.gates) * hidden, len(cell.function_ranges)
    directions = []
    for d, inputs in enumerate(w):
        bias = np.zeros(2 * rows, dtype) if given.b is None else given.b[d]
        numerics = FloatNumerics(
            cell=cell,
            hidden=hidden,
            activations=fields["activations"][d * functions : (d + 1) * functions],
            clip=fields["clip"],
            dtype=dtype,
        )
        parameters = FloatParameters(
            inputs=inputs,
            recurrent=None if r is None else r[d],
            input_bias=bias[:rows],
            recurrent_bias=bias[rows:],
            peepholes=None if given.p is None else given.p[d].reshape(-1, hidden),
        )
        step = step_of(numerics)
        directions.append(Direction(step, parameters, parameters.frames, numerics.shown))
    return directions


def _int8_weights(
    weights: Array, scale: Array, inverse: Array, zero_point: int, dtype: str
) -> list[Int8Weights]:
    kind = DType(dtype).numpy
    return [
        Int8Weights.of(q, s, inverse, zero_point, kind) for q, s in zip(weights, scale, strict=True)
    ]


def _integer_directions(
    layer: RecurrentLayer, given: Operands, more: Sequence[Array | None]
) -> list[Direction]:
    """The directions; what constant weights become is shared with other sessions."""
    fields, cell = layer.fields, layer.fields["cell"]
    x_multiplier, h_multiplier, tables = more
    constants = [given.w, given.r, given.b, x_multiplier, h_multiplier, tables, given.p]
    largest = -int(np.iinfo(given.x.dtype).min)
    hidden, ranges = int(fields["hidden"]), cell.function_ranges

    def make() -> list[IntegerParameters]:
        assert x_multiplier is not None
        assert h_multiplier is not None
        assert tables is not None
        values = [complete(table) for table in tables]
        return [
            IntegerParameters(
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
    # Another layer may stand on the very same constants.
    purpose = f"directions {largest} {hidden} {fields['tables']} {ranges}"
    parameters: list[IntegerParameters] = prepared(present, purpose, make)
    numerics = IntegerNumerics(cell, fields, hidden)
    step = step_of(numerics)
    return [
        Direction(step, each, partial(numerics.frames, each), numerics.shown) for each in parameters
    ]
