"""Slice and Gather along time in a stream: the newest frames, all but a few, one in several."""

from __future__ import annotations

from edgelstm_compiler.ir.ops import Gather, Reshape, Slice, Taken
from edgelstm_compiler.ir.time import picked_of
from edgelstm_compiler.ir.types import Node, Value
from edgelstm_compiler.ir.walks import is_spread, walk_of
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.refusal import CannotStepError
from edgelstm_compiler.streaming.walk_rule import Walked


def step_selection(node: Node, builder: StepBuilder) -> None:
    """Slice or Gather.

    Raises:
        CannotStepError: frames are taken that are not counted from the end of the stream.
    """
    frames = node.inputs[0]
    assert frames is not None
    axis = builder.time_axis(frames)
    whole = builder.crops.get(frames)
    if whole is not None and _takes_last(node, builder):
        # The newest of a crop is the newest of all, also before there are as many as it holds.
        _gather_newest(node, whole, 0, builder)
    elif axis is None or axis != getattr(node.op, "axis", None):
        step_per_frame(node, builder)
    elif isinstance(node.op, Slice):
        _slice_frames(node, node.op, frames, builder)
    elif isinstance(node.op, Gather):
        _gather_frames(node, frames, builder)


def _slice_frames(node: Node, op: Slice, frames: Value, builder: StepBuilder) -> None:
    (output,) = node.outputs
    if output.type == frames.type and (op.step > 0 or op.count == 1):
        _alias(output, frames, builder)
        return
    match op.taken(frames.type):
        case Taken.ONWARD:
            time = builder.time_of(frames)
            assert time is not None
            later = op.time(time, 0, op.axis, [frames.type])
            taken = time.without(op.start)
            # The element that is there in a step of the result, or one that came before.
            wait = later.delay - taken.delay
            source = builder.history.lagged(frames, time.delay + wait)
            builder.stand_for(output, source)
            builder.set_time(output, later)
        case Taken.NEWEST:
            _newest(output, frames, op.count, op.behind(frames.type), builder)
        case Taken.OTHERS:
            raise CannotStepError(_why_not_taken(op, frames))


def _alias(output: Value, frames: Value, builder: StepBuilder) -> None:
    """The same frames under another name."""
    source = builder.use(frames)
    assert source is not None
    builder.stand_for(output, source)
    newest = builder.newest(frames)
    if newest is not None:
        builder.set_newest(output, newest)
    if not builder.is_repeated(frames):
        time = builder.time_of(frames)
        assert time is not None
        builder.set_time(output, time)


def _newest(output: Value, frames: Value, count: int, behind: int, builder: StepBuilder) -> None:
    """So many of the newest elements, but for the last ones."""
    time = builder.time_of(frames)
    assert time is not None
    axis = builder.time_axis(frames)
    assert axis is not None
    seen = picked_of(time, count + behind)
    ticks = builder.clock.has(time)
    if ticks is None and count + behind == 1:
        source = builder.use(frames)
        assert source is not None
        builder.stand_for_newest(output, source, seen)
        return
    if behind == 0:
        builder.crops[output] = frames
    kept = builder.history.held(frames, count + behind, time)
    source = builder.compute(Slice(axis, 0, 1, count), kept)
    builder.stand_for_newest(output, source, seen)


def _gather_frames(node: Node, frames: Value, builder: StepBuilder) -> None:
    indices = builder.constant(node.inputs[1])
    axis = builder.time_axis(frames)
    assert axis is not None
    extent = frames.type.shape[axis]
    walk = None if indices is None else walk_of(indices, extent)
    if walk is not None:
        (output,) = node.outputs
        walked = Walked(output.name, frames, walk)
        builder.set_time(output, walked.time(builder))
        builder.walked[output] = walked
        return
    if indices is not None and is_spread(indices, extent):
        raise CannotStepError(
            f"it gives {indices.size / extent:g} frames for one (Resize along time), and a step "
            "gives one"
        )
    if indices is None or indices.size != 1:
        raise CannotStepError(
            "it takes frames by index: in a stream only the newest frames can be taken, or all"
        )
    place = int(indices.reshape(-1)[0])
    place = place + extent if place < 0 else place
    behind = extent - 1 - place
    if behind < 0 or (behind and 2 * place < extent):
        raise CannotStepError(
            "it takes frames by index: in a stream only the newest frames can be taken, or all"
        )
    _gather_newest(node, frames, behind, builder)


def _takes_last(node: Node, builder: StepBuilder) -> bool:
    """Whether a Gather or Slice of a crop takes the last of its frames alone."""
    frames, (output,) = node.inputs[0], node.outputs
    assert frames is not None
    axis = builder.time_axis(builder.crops[frames])
    assert axis is not None
    last = frames.type.shape[axis] - 1
    if axis != getattr(node.op, "axis", None) or output.type.size * (last + 1) != frames.type.size:
        return False
    if isinstance(node.op, Slice):
        return node.op.count == 1 and node.op.start == last
    indices = builder.constant(node.inputs[1])
    return indices is not None and int(indices.reshape(-1)[0]) in (last, -1)


def _gather_newest(node: Node, frames: Value, behind: int, builder: StepBuilder) -> None:
    """One frame, counted from the newest."""
    axis = builder.time_axis(frames)
    assert axis is not None
    (output,) = node.outputs
    time = builder.time_of(frames)
    assert time is not None
    if behind == 0 and builder.clock.has(time) is None:
        source = builder.use(frames)
        assert source is not None
    else:
        kept = builder.history.held(frames, 1 + behind, time)
        source = builder.compute(Slice(axis, 0, 1, 1), kept)
    taken = builder.compute(Reshape(output.type.shape), source, name=node.name)
    builder.stand_for_newest(output, taken, picked_of(time, 1 + behind))


def _why_not_taken(op: Slice, frames: Value) -> str:
    extent = frames.type.shape[op.axis]
    last = op.start + op.step * (op.count - 1)
    stride = f", every {abs(op.step)}." if abs(op.step) > 1 and op.count > 1 else ""
    places = f"frames {_place(op.start, extent)} to {_place(last, extent)}{stride}"
    if op.count == 1:
        places = f"frame {_place(op.start, extent)}"
    return (
        f"it takes the {places}: a stream has no fixed beginning, only its newest frames, "
        "or all but a few, can be taken"
    )


def _place(frame: int, extent: int) -> str:
    """A frame by its place, counted from the nearer end: the length may be one that was tried."""
    behind = extent - 1 - frame
    if behind == 0:
        return "-1 (the newest)"
    return str(frame) if frame <= behind else str(-1 - behind)
