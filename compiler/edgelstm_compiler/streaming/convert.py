"""Sequence graph -> step graph: every node for one frame, cells with carried states."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_compiler.ir.graph import Graph, Output, StepGraph, StepInput, StepOutput
from edgelstm_compiler.ir.ops import (
    ArgReduce,
    Binary,
    Concat,
    CumSum,
    Gather,
    Recurrent,
    Reduce,
    Scan,
    Slice,
    Softmax,
    Windows,
)
from edgelstm_compiler.ir.time import Newest, Time
from edgelstm_compiler.ir.types import Node, Op, Value
from edgelstm_compiler.streaming.attention_rule import concerns_attention, step_attention
from edgelstm_compiler.streaming.axes import AxisClasses, walked_values
from edgelstm_compiler.streaming.builder import StepBuilder
from edgelstm_compiler.streaming.frame_rules import step_per_frame
from edgelstm_compiler.streaming.join_rule import step_join
from edgelstm_compiler.streaming.recurrent_rule import step_recurrent
from edgelstm_compiler.streaming.reduction_rule import (
    step_arg_reduce,
    step_cum_sum,
    step_mean,
    step_reduce,
)
from edgelstm_compiler.streaming.refusal import CALL_INSTEAD, CannotStepError, refuse
from edgelstm_compiler.streaming.scan_rule import step_scan
from edgelstm_compiler.streaming.selection_rule import step_selection
from edgelstm_compiler.streaming.unrolled import why_nothing_is_carried
from edgelstm_compiler.streaming.weights_rule import is_shifted, step_softmax, step_weights
from edgelstm_compiler.streaming.windows_rule import step_windows

Rule = Callable[[Node, StepBuilder], None]


def step_binary(node: Node, builder: StepBuilder) -> None:
    """Means and shares over time are seen in their last step; all else is frame by frame."""
    if not is_shifted(node, builder):
        step_mean(node, builder)


RULES: dict[type[Op], Rule] = {
    Recurrent: step_recurrent,
    Scan: step_scan,
    Slice: step_selection,
    Gather: step_selection,
    Windows: step_windows,
    Concat: step_join,
    Reduce: step_reduce,
    ArgReduce: step_arg_reduce,
    CumSum: step_cum_sum,
    Binary: step_binary,
    Softmax: step_softmax,
}
"""How a class of operators is stepped; all others step every frame alone (`step_per_frame`)."""


def to_steps(graph: Graph, advice: str = CALL_INSTEAD, context: int | None = None) -> StepGraph:
    """One frame of a causal network, its memory as explicit states.

    Args:
        graph: the network over some number of frames.
        advice: what the error says to do.
        context: frames that attention sees at most, where no mask of the graph says it; None:
            attention without such a mask is refused.

    Raises:
        StreamabilityError: naming every node that cannot be stepped, and why.
    """
    axes = AxisClasses(graph)
    steps = _sequence_length(graph, axes, advice)
    found = _convert(StepBuilder(graph, axes, steps, context=context), graph, advice)
    if any(output.tail for output in found.outputs):
        builder = StepBuilder(graph, axes, steps, drains=True, context=context)
        return _convert(builder, graph, advice)
    return found


def _convert(builder: StepBuilder, graph: Graph, advice: str) -> StepGraph:
    axes = builder.axes
    reasons: list[tuple[str, str]] = []
    inputs: list[StepInput] = []
    for value in graph.inputs:
        if len(axes.time_axes(value)) > 1:
            reasons.append((f"input {value.name!r}", "it has more than one time axis"))
            continue
        new = builder.define(value)
        axis = builder.time_axis(value)
        if axis is not None:
            builder.set_time(value, Time())
        inputs.append(StepInput(new, axis, axes.batch_axis(value)))
    failed: set[Value] = set()
    if reasons:
        raise refuse(reasons, advice)
    for node in graph.nodes:
        if any(value in failed for value in node.inputs):
            failed.update(node.outputs)
            weights = [builder.weights.pop(v) for v in node.inputs if v in builder.weights and v]
            reasons += [(item.origin, str(item.refusal())) for item in weights]
            continue
        reason = _step(node, builder)
        if reason is not None:
            reasons.append(reason)
            failed.update(node.outputs)
    outputs = []
    for output in graph.outputs:
        if output.value in failed:
            continue
        try:
            outputs.append(_shown(output, builder))
        except CannotStepError as error:
            reasons.append((error.origin or f"output {output.name!r}", str(error)))
    if reasons:
        raise refuse(reasons, advice)
    if any((o.stride, o.delay, o.warm_up, o.tail) != (1, 0, 0, 0) for o in outputs):
        builder.clock.show(max(output.tail for output in outputs))
    builder.states.extend(builder.clock.states([output.stride for output in outputs]))
    return StepGraph(
        graph.name,
        "stream",
        tuple(inputs),
        tuple(outputs),
        tuple(builder.nodes),
        builder.constants(),
        tuple(builder.states),
        builder.most_frames,
    )


def _shown(output: Output, builder: StepBuilder) -> StepOutput:
    """The output, in no step before its frame of the input."""
    value = output.value
    axis, batch = builder.time_axis(value), builder.axes.batch_axis(value)
    newest = builder.newest(value)
    if axis is None or builder.constant(value) is not None or builder.is_repeated(value):
        new = builder.use(value)
        assert new is not None
        seen = newest or Newest()
        tail, reach = seen.delay, seen.reach or 0
        return StepOutput(output.name, new, axis, batch, 1, seen.delay, seen.first, tail, reach)
    time = builder.time_of(value)
    assert time is not None
    fed = time.fed()
    new = builder.history.lagged(value, fed.delay)
    return StepOutput(
        output.name,
        new,
        axis,
        batch,
        fed.stride,
        fed.delay,
        fed.delay,
        fed.tail,
        fed.reach or 0,
    )


def _step(node: Node, builder: StepBuilder) -> tuple[str, str] | None:
    """Apply the node's rule; which node cannot be stepped and why, or None."""
    builder.begin(node)
    try:
        if any(value in builder.weights for value in node.inputs if value is not None):
            step_weights(node, builder)
            return None
        if concerns_attention(node, builder):
            step_attention(node, builder)
            return None
        rules = (rule for kind, rule in RULES.items() if isinstance(node.op, kind))
        next(rules, step_per_frame)(node, builder)
    except CannotStepError as error:
        return error.origin or node.origin or node.name, str(error)
    return None


def _sequence_length(graph: Graph, axes: AxisClasses, advice: str) -> int:
    """Frames of the inputs; of a network that makes its frames itself, of its layers."""
    lengths = {
        value.type.shape[axis] for value in graph.inputs for axis in axes.time_axes(value)[:1]
    }
    if not lengths:
        lengths = {
            value.type.shape[axis]
            for value in walked_values(graph)
            for axis in axes.time_axes(value)[:1]
        }
    if not lengths:
        raise refuse([("the model", why_nothing_is_carried(graph))], advice)
    if len(lengths) > 1:
        found = ", ".join(map(str, sorted(lengths)))
        reason = f"its recurrent layers run over different lengths: {found}"
        raise refuse([("the model", reason)], advice)
    return lengths.pop()
