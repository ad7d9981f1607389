"""Recurrent layers in a stream: the final state of a frame is the initial state of the next."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.graph import State
from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_H, SEQUENCE_LENS, B, P, R, W, X
from edgelstm_compiler.ir.time import newest_of
from edgelstm_compiler.ir.types import Array, Constant, Node, TensorType, Value
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.refusal import CannotStepError


def step_recurrent(node: Node, builder: StepBuilder) -> None:
    """The cell for one frame with h (and c) as states.

    Raises:
        CannotStepError: it runs backward, or its lengths or initial states vary with the input.
    """
    op = node.op
    assert isinstance(op, Recurrent)
    padded = (*node.inputs, *([None] * (8 - len(node.inputs))))
    if op.direction is not Direction.FORWARD:
        ways = "Ways out: a bounded look-ahead, whole windows, or train a forward layer"
        if builder.steps == 1:
            ways = "The model holds one frame, so there is no window: train a forward layer"
        raise CannotStepError(
            f"it runs {op.direction.value}, from the last frame back: the last frame of a stream "
            f"is never known. {ways}"
        )
    frames = padded[X]
    assert frames is not None
    if builder.time_axis(frames) != 0:
        raise CannotStepError("its sequence axis is not the model's time axis")
    # Of a single frame its result is a frame: a step over layers that hand on their final state.
    if builder.is_reduced(frames) and builder.steps > 1:
        raise CannotStepError("it reads the last frame's result as its sequence")
    time = builder.time_of(frames)
    assert time is not None
    for weights in (padded[place] for place in (W, R, B, P)):
        if weights is not None and (
            builder.is_reduced(weights) or builder.time_axis(weights) is not None
        ):
            raise CannotStepError(
                f"its weights {weights.name!r} are computed from the frames: every frame would "
                "need what is known only after the last one"
            )
    if builder.steps == 1 and any(builder.axes.time_axes(y)[-1:] > (0,) for y in node.outputs[1:]):
        raise CannotStepError("its units, or its batch, are the sequence of another layer")
    lengths = padded[SEQUENCE_LENS]
    if lengths is not None:
        expect_whole(builder.constant(lengths), frames.type.shape[0])
    outputs = node.outputs[1:]
    later = time.fed()
    inputs = [builder.use(value) for value in padded]
    if builder.steps > 1 and not builder.is_repeated(frames):
        inputs[X] = builder.history.lagged(frames, later.delay)
    has = builder.clock.has(later)
    inputs[SEQUENCE_LENS] = None
    carried = []
    states = op.cell().state_names
    for place, (output, state) in enumerate(zip(outputs, states, strict=True), start=INITIAL_H):
        name = f"{node.name}.{state}"
        read = Value(builder.fresh_name(f"{name}_in"), output.type)
        inputs[place] = read
        carried.append((name, read, _initial(padded[place], output.type, builder)))
    cell = builder.emit(node, op, tuple(inputs))
    builder.set_time(node.outputs[0], later.remembering())
    for output, (name, read, init), new in zip(outputs, carried, cell.outputs[1:], strict=True):
        write = new if has is None else builder.choose(has, new, read)
        builder.states.append(State(name, read.type, init, read, write))
        builder.stand_for_newest(output, write, newest_of(later))


def expect_whole(data: Array | None, steps: int) -> None:
    """Refuse sequence_lens that leave frames out.

    Args:
        data: of the lengths; None: they are computed.
        steps: frames of the sequence.

    Raises:
        CannotStepError: says why.
    """
    if data is None:
        raise CannotStepError(
            "its sequence_lens are an input: in a stream every frame counts. Remove the input, "
            "or use --mode call"
        )
    if not np.all(data == steps):
        raise CannotStepError(
            f"its constant sequence_lens {data.tolist()} end before the {steps} frames"
        )


def _initial(value: Value | None, tensor: TensorType, builder: StepBuilder) -> Array:
    if value is None:
        return Constant.of("", np.zeros(tensor.shape, tensor.dtype.numpy)).data
    data = builder.constant(value)
    if data is None and (builder.is_reduced(value) or builder.time_axis(value) is not None):
        raise CannotStepError(
            f"its initial state {value.name!r} is computed from the frames, as a decoder starts "
            "where its encoder ended: it is known only after the last frame, and a stream has none"
        )
    if data is None:
        by_hand = (
            "; --mode call computes one frame from the state that you give, and the next state"
        )
        raise CannotStepError(
            f"its initial state {value.name!r} is computed from an input: a stream carries the "
            "state itself. Export the model with zero or constant initial states"
            f"{by_hand if builder.steps == 1 else ''}"
        )
    return Constant.of("", data).data
