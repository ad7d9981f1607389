"""Self-attention in a stream: keys and values of the newest frames in rings.

A value of frames against frames is its newest row in a step: one query, and as many keys as a frame
sees. Masks and biases are cut to that row, which is the same for every frame; keys in front of the
first frame have no share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgelstm_compiler.ir.ops import (
    Broadcast,
    Compare,
    Comparison,
    MatMul,
    Reduce,
    Reduction,
    Slice,
    Softmax,
    Where,
)
from edgelstm_compiler.ir.time import Time, aligned
from edgelstm_compiler.ir.types import Array, Node, Op, Value
from edgelstm_compiler.streaming.attention import Attention
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.reduction_rule import neutral
from edgelstm_compiler.streaming.refusal import CannotStepError


def concerns_attention(node: Node, builder: StepBuilder) -> bool:
    """Whether a node reads or makes a value of frames against frames."""
    values = (*node.inputs, *node.outputs)
    relates = builder.attentions.relates_frames
    return builder.steps > 1 and any(relates(value) for value in values if value is not None)


def step_attention(node: Node, builder: StepBuilder) -> None:
    """The newest row of a value of frames against frames, or what is summed over its keys.

    Raises:
        CannotStepError: frames are seen that are not there, or not any more; it is no attention.
    """
    for value in (*node.inputs, *node.outputs):
        if value is not None and builder.attentions.relates_frames(value):
            _attention_of(value, node, builder)
    makes_rows = [builder.attentions.relates_frames(value) for value in node.outputs]
    if all(makes_rows):
        _step_rows(node, builder)
    elif isinstance(node.op, (MatMul, Reduce)):
        _sum_keys(node, builder)
    else:
        raise CannotStepError("it relates all frames to all frames (attention over time)")


def _attention_of(value: Value, node: Node, builder: StepBuilder) -> Attention:
    found = builder.attentions.of(value)
    if found is None:
        raise CannotStepError(
            f"{value.name!r} relates all frames to all frames (attention over time)"
        )
    why = found.why_not(builder.context)
    if why is not None:
        raise CannotStepError(why, found.origin)
    if builder.context is not None and found.context > builder.context:
        raise CannotStepError(
            f"it is attention over time: each frame sees {found.context} frames, and "
            f"--attention-context keeps {builder.context}",
            found.origin,
        )
    return found


def _step_rows(node: Node, builder: StepBuilder) -> None:
    (output,) = node.outputs
    attention = _attention_of(output, node, builder)
    axes = builder.attentions.axes_of(output)
    assert axes is not None
    query, key = axes
    sides = [_side(node, place, axes, builder) for place in range(len(node.inputs))]
    time = _together(node, sides, attention, builder)
    operands = [
        _operand(value, side, key, time, attention, builder)
        for value, side in zip(node.inputs, sides, strict=True)
    ]
    if isinstance(node.op, Softmax) and node.op.axis == key:
        (x,) = operands
        assert x is not None
        lowest = neutral(Reduction.MAX, x.type.dtype)
        operands = [_where_there(x, key, lowest, time, attention, builder)]
    op: Op = node.op.resized(query, 1).resized(key, attention.context)
    try:
        (tensor,) = op.infer([value.type if value is not None else None for value in operands])
    except ValueError as error:
        raise CannotStepError(f"it cannot be computed for one frame alone: {error}") from error
    wanted = _row_type(output, axes, attention)
    if tensor.shape != wanted:
        raise CannotStepError(
            f"{output.name!r} is {tensor} for one frame and the {attention.context} that it sees"
        )
    row = builder.define(output, tensor=tensor)
    builder.nodes.append(Node(op, tuple(operands), (row,), node.name, node.origin))
    builder.rows[output] = time


def _row_type(value: Value, axes: tuple[int, int], attention: Attention) -> tuple[int, ...]:
    return tuple(
        1 if axis == axes[0] else attention.context if axis == axes[1] else extent
        for axis, extent in enumerate(value.type.shape)
    )


def _side(node: Node, place: int, axes: tuple[int, int], builder: StepBuilder) -> str:
    """Whether an operand holds queries, keys, both, or neither."""
    value = node.inputs[place]
    if value is None:
        return ""
    times = builder.axes.time_axes(value)
    if not times:
        if builder.is_reduced(value):
            raise CannotStepError("it gives every frame what is known only after the last one")
        return ""
    types = [item.type if item is not None else None for item in node.inputs]
    results = [item.type for item in node.outputs]
    ties = {
        tie.input_axis: tie.output_axis
        for tie in (*node.op.ties(types, results), *node.op.moves(types, results))
        if tie.input == place
    }
    found = tuple(ties.get(axis) for axis in times)
    if len(times) == 2:
        own = builder.attentions.axes_of(value)
        assert own is not None
        if (ties.get(own[0]), ties.get(own[1])) == axes:
            return "both"
    elif found == (axes[0],):
        return "queries"
    elif found == (axes[1],):
        return "keys"
    raise CannotStepError(f"{node.op.kind} mixes frames along time")


def _together(node: Node, sides: list[str], attention: Attention, builder: StepBuilder) -> Time:
    """When a row is there."""
    times = []
    for value, side in zip(node.inputs, sides, strict=True):
        if value is None or not side or builder.constant(value) is not None:
            continue
        if side == "both":
            times.append(builder.rows[value])
            continue
        time = None if builder.is_repeated(value) else builder.time_of(value)
        if time is not None:
            times.append(_seen(time, attention) if side == "keys" else time)
    if not times:
        raise CannotStepError("it relates frames to frames by constants alone")
    time = aligned(times)
    if time is None:
        raise CannotStepError("its queries and keys have different rates")
    return time


def _seen(time: Time, attention: Attention) -> Time:
    """Keys or values, as far as they reach back."""
    if time.reach is None:
        return time
    return replace(time, reach=time.reach + time.stride * attention.behind)


def _operand(
    value: Value | None,
    side: str,
    key: int,
    time: Time,
    attention: Attention,
    builder: StepBuilder,
) -> Value | None:
    if value is None or not side:
        return builder.use(value)
    data = builder.constant(value)
    if side == "both":
        if data is not None:
            return builder.add_constant(value.name, _row_of(value, data, attention, builder))
        return _row(value, time, builder)
    if side == "keys":
        return newest(value, time, attention, builder)
    if data is not None or builder.is_repeated(value):
        return builder.use(value)
    return builder.history.lagged(value, time.delay)


def _row(value: Value, time: Time, builder: StepBuilder) -> Value:
    """A row that was made before.

    Raises:
        CannotStepError: in an earlier step.
    """
    if builder.rows[value].delay != time.delay:
        raise CannotStepError("it joins frames against frames that are there at different times")
    found = builder.use(value)
    assert found is not None
    return found


def _row_of(value: Value, data: Array, attention: Attention, builder: StepBuilder) -> Array:
    """What a constant of frames against frames holds for one frame.

    Raises:
        CannotStepError: it differs from frame to frame.
    """
    axes = builder.attentions.axes_of(value)
    assert axes is not None
    count, context = data.shape[axes[0]], attention.context
    square = np.moveaxis(data, axes, (0, 1))
    last = square[-1, count - context :]
    for frame in range(count):
        seen = square[frame, max(0, frame - context + 1) : frame + 1]
        if seen.tobytes() != last[context - len(seen) :].tobytes():
            raise CannotStepError(
                f"the constant {value.name!r} differs from frame to frame: it weights frames by "
                "their place in the sequence, not by how far they are apart"
            )
    return np.ascontiguousarray(np.moveaxis(last[None], (0, 1), axes))


def newest(value: Value, time: Time, attention: Attention, builder: StepBuilder) -> Value:
    """The keys or values that the query of this step sees, oldest first."""
    axis = builder.time_axis(value)
    assert axis is not None
    context = attention.context
    if builder.constant(value) is not None or builder.is_repeated(value):
        single = builder.use(value)
        assert single is not None
        shape = list(single.type.shape)
        shape[axis] = context
        return builder.compute(Broadcast(tuple(shape)), single)
    own = builder.time_of(value)
    assert own is not None
    elements, rest = divmod(time.delay - own.delay, own.stride)
    length = context - 1 + elements + bool(rest)

    def kept_keys() -> Value:
        whole, kept = builder.history.ring(value, length, own)
        source = kept if rest else whole
        if source.type.shape[axis] == context:
            return source
        return builder.compute(Slice(axis, 0, 1, context), source)

    return builder.once(("keys", value, time.delay, context), kept_keys)


def _where_there(
    row: Value, key: int, fill: float, time: Time, attention: Attention, builder: StepBuilder
) -> Value:
    """A row with `fill` for keys in front of the first frame."""
    context = attention.context
    if context == 1:
        return row
    shape = [context if axis == key else 1 for axis in range(row.type.rank)]
    back = np.arange(context - 1, -1, -1, dtype=np.int32).reshape(shape)
    is_there = builder.once(
        ("is there", context, key, row.type.rank, time.stride, time.delay),
        lambda: builder.compute(
            Compare(Comparison.LESS_OR_EQUAL),
            builder.add_constant("attention.back", back),
            builder.clock.index(time),
        ),
    )
    nothing = builder.add_constant("attention.nothing", np.full((), fill, row.type.dtype.numpy))
    return builder.compute(Where(), is_there, row, nothing)


def _sum_keys(node: Node, builder: StepBuilder) -> None:
    """The product of weights and values, or a reduction of the keys."""
    (output,) = node.outputs
    relates = builder.attentions.relates_frames
    place = next(i for i, v in enumerate(node.inputs) if v is not None and relates(v))
    rows = node.inputs[place]
    assert rows is not None
    attention = _attention_of(rows, node, builder)
    axes = builder.attentions.axes_of(rows)
    assert axes is not None
    others = [v for i, v in enumerate(node.inputs) if i != place and v is not None]
    if any(relates(value) for value in others):
        raise CannotStepError("it multiplies frames with frames twice (attention over time)")
    if builder.constant(rows) is not None:
        raise CannotStepError(
            f"the constant {rows.name!r} weights frames: its weights are to come from frames"
        )
    times = [builder.rows[rows]]
    for value in others:
        summed = value.type.rank - (2 if place == 0 else 1)
        if value.type.rank < 2 or builder.time_axis(value) != summed:
            raise CannotStepError("it sums up frames with weights that are no frames")
        if builder.constant(value) is None and not builder.is_repeated(value):
            own = builder.time_of(value)
            assert own is not None
            times.append(_seen(own, attention))
    time = aligned(times)
    if time is None:
        raise CannotStepError("its weights and what they weight have different rates")
    weights = _row(rows, time, builder)
    fill = 0.0
    if isinstance(node.op, Reduce):
        if node.op.reduction is Reduction.PROD or axes[1] not in node.op.axes:
            raise CannotStepError(f"{node.op.kind} mixes frames along time")
        fill = neutral(node.op.reduction, weights.type.dtype)
    if not _is_share(rows, builder):
        weights = _where_there(weights, axes[1], fill, time, attention, builder)
    operands: list[Value | None] = [
        weights if i == place else newest(v, time, attention, builder) if v is not None else None
        for i, v in enumerate(node.inputs)
    ]
    builder.stand_for(output, builder.compute(node.op, *operands, name=node.name))
    builder.set_time(output, time)


def _is_share(rows: Value, builder: StepBuilder) -> bool:
    """Whether what is not there has no weight already."""
    node = builder.producers.get(rows)
    return node is not None and type(node.op) is Softmax
