"""What is kept of earlier elements: rings for windows, delay lines that align branches.

Elements in front of the first step depend on no frame, so that their values are known: they are
what the sequence network computes there, whatever it is fed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph, State
from edgelstm_compiler.ir.ops import Concat, Reshape, Slice
from edgelstm_compiler.ir.time import Newest, Time
from edgelstm_compiler.ir.types import Array, Constant, Value
from edgelstm_compiler.streaming.refusal import CannotStepError

if TYPE_CHECKING:
    from edgelstm_compiler.streaming.builder import StepBuilder


class History:
    """Rings of a step graph.

    Args:
        builder: gets the nodes and states.
        graph: the sequence network.
    """

    def __init__(self, builder: StepBuilder, graph: Graph) -> None:
        self._builder = builder
        self._graph = graph
        self._early: dict[str, Array] | None = None
        self._lagged: dict[tuple[Value, int], Value] = {}

    def ring(
        self,
        value: Value,
        length: int,
        time: Time,
        fill: float | None = None,
        *,
        is_ahead: bool = False,
    ) -> tuple[Value, Value]:
        """The newest elements of a timed value, and those that are kept for the next step.

        Args:
            value: of the sequence network.
            length: elements kept beside the one of this step.
            time: of the value.
            fill: what stands before the first element and behind the last; None: nobody looks.
            is_ahead: it is looked at before the step that has the first element.

        Returns:
            `length + 1` elements along the time axis, right in steps that have one; and the
            `length` that are kept.
        """
        builder = self._builder
        axis = builder.time_axis(value)
        assert axis is not None
        source = builder.use(value)
        assert source is not None
        # What is no element may be anything, also NaN, and is never kept.
        lives = builder.clock.lives(time) if length or fill is not None else None
        if is_ahead:
            lives = builder.clock.both(lives, builder.clock.has_begun(time))
        if lives is not None:
            padding = np.full((1,) * source.type.rank, fill or 0.0, source.type.dtype.numpy)
            fills = builder.add_constant(f"{value.name}.padding", padding)
            source = builder.choose(lives, source, fills)
        init = self._initial(value, axis, length, time, fill or 0.0)
        return self._shift(value.name, source, axis, init, builder.clock.ticks(time))

    def held(self, value: Value, length: int, time: Time) -> Value:
        """The newest elements of the recording, also in steps that have none and behind its end."""
        builder = self._builder
        axis = builder.time_axis(value)
        source = builder.use(value)
        assert axis is not None
        assert source is not None
        init = self._initial(value, axis, length, time, 0.0)
        return self._shift(value.name, source, axis, init, builder.clock.has(time))[1]

    def lagged(self, value: Value, delay: int) -> Value:
        """A timed value of which element j is there in step `j * stride + delay`."""
        builder = self._builder
        time = builder.time_of(value)
        assert time is not None
        key = (value, delay)
        if key not in self._lagged:
            self._lagged[key] = self._lag(value, time, delay)
        return self._lagged[key]

    def later(self, value: Value, newest: Newest, delay: int) -> Value:
        """A value without time as it was some steps ago."""
        builder = self._builder
        source = builder.use(value)
        assert source is not None
        steps = delay - newest.delay
        if steps == 0:
            return source
        key = (value, delay)
        if key not in self._lagged:
            is_defined = builder.clock.has_begun(Time(1, newest.first))
            if is_defined is not None:
                nothing = builder.add_constant(
                    f"{value.name}.none", np.zeros(source.type.shape, source.type.dtype.numpy)
                )
                source = builder.choose(is_defined, source, nothing)
            row = builder.compute(Reshape((1, *source.type.shape)), source)
            init = np.zeros((steps, *source.type.shape), source.type.dtype.numpy)
            whole, _ = self._shift(value.name, row, 0, init, None)
            oldest = builder.compute(Slice(0, 0, 1, 1), whole)
            self._lagged[key] = builder.compute(Reshape(source.type.shape), oldest)
        return self._lagged[key]

    def early(self, value: Value) -> Array:
        """A value of the sequence network; right in elements that depend on no frame."""
        if self._early is None:
            zeros = {
                item.name: np.zeros(item.type.shape, item.type.dtype.numpy)
                for item in self._graph.inputs
            }
            with np.errstate(all="ignore"):
                self._early = evaluate(self._graph, zeros, keep=True).values
        return self._early[value.name]

    def _lag(self, value: Value, time: Time, delay: int) -> Value:
        builder = self._builder
        steps = delay - time.delay
        if steps < 0:
            raise CannotStepError(f"{value.name!r} is used before it is there")
        source = builder.use(value)
        assert source is not None
        if steps == 0:
            return source
        axis = builder.time_axis(value)
        assert axis is not None
        elements, rest = divmod(steps, time.stride)
        whole, kept = self.ring(value, elements + bool(rest), time)
        return builder.compute(Slice(axis, 0, 1, 1), kept if rest else whole)

    def _shift(
        self, name: str, source: Value, axis: int, init: Array, ticks: Value | None
    ) -> tuple[Value, Value]:
        builder = self._builder
        length = init.shape[axis]
        if length == 0:
            return source, source
        read = Value(builder.fresh_name(f"{name}.history_in"), Constant.of("", init).value.type)
        whole = builder.compute(Concat(axis), read, source)
        kept = builder.compute(Slice(axis, 1, 1, length), whole)
        if ticks is not None:
            kept = builder.choose(ticks, kept, read)
        state = builder.fresh_state(f"{name}.history")
        data = Constant.of("", init).data
        builder.states.append(State(state, read.type, data, read, kept))
        return whole, kept

    def _initial(self, value: Value, axis: int, length: int, time: Time, fill: float) -> Array:
        shape = list(self._builder.frame_type(value).shape)
        shape[axis] = length
        init = np.full(shape, fill, value.type.dtype.numpy)
        for place in range(length):
            element = time.early - length + place
            if element >= 0:
                index = [slice(None)] * len(shape)
                index[axis] = slice(place, place + 1)
                init[tuple(index)] = np.take(self.early(value), [element], axis)
        return init
